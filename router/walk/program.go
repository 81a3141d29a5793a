package walk

import "github.com/twmb/franz-go/pkg/kmsg"

// code is what an operation does with its field.
type code uint8

const (
	skip      code = iota // n bytes
	acks                  // an int16, remembered
	epoch                 // an int32, becomes -1
	node                  // an int32
	throttle              // an int32, becomes no less than what the patch says
	offset                // an int64; n is the field
	topic                 // a string, remembered
	text                  // a string
	partition             // an int32, remembered
	open                  // the count of an array; n is the operation behind its end
	next                  // the end of an element; n is the first operation of the next one
	produced              // batches from a client
	fetched               // batches for a client
	opaque                // bytes of old message formats
	tags                  // n is what they may have
)

// What tags may have that matters.
const (
	noTags      = iota
	ofProduced  // tag 0: the current leader (KIP-951)
	ofFetched   // tag 0: the diverging epoch, 1: the current leader, 2: the id of a snapshot
	ofEndpoints // tag 0: addresses of new leaders (KIP-951)
)

// op is one operation.
type op struct {
	do code
	n  int
}

// program is the fields of a message in the order of the wire.
type program struct {
	ops      []op
	flexible bool // lengths are compact, and there are tags
}

// maxDepth is how deep arrays are nested: topics, partitions, aborted transactions.
const maxDepth = 3

// fixed adds a field.
func (p *program) fixed(do code) { p.ops = append(p.ops, op{do, 0}) }

// offset adds one.
func (p *program) offset(of Field) { p.ops = append(p.ops, op{offset, int(of)}) }

// skip adds n bytes that nobody looks at.
func (p *program) skip(n int) {
	if last := len(p.ops) - 1; last >= 0 && p.ops[last].do == skip {
		p.ops[last].n += n
		return
	}
	p.ops = append(p.ops, op{skip, n})
}

// array adds an array with elements of what body adds, and their tags.
func (p *program) array(tagged int, body func()) {
	p.bare(func() {
		body()
		p.tags(tagged)
	})
}

// bare adds an array whose elements have no tags.
func (p *program) bare(body func()) {
	begin := len(p.ops)
	p.ops = append(p.ops, op{open, 0})
	body()
	p.ops = append(p.ops, op{next, begin + 1})
	p.ops[begin].n = len(p.ops)
}

// tags adds a section of tags, where the version has them.
func (p *program) tags(which int) {
	if p.flexible {
		p.ops = append(p.ops, op{tags, which})
	}
}

// name adds a topic: its name, or from version 13 of both requests on its id.
func (p *program) name(version int) {
	if version >= 13 {
		p.skip(16)
		return
	}
	p.fixed(topic)
}

func produceRequest(version int) program {
	p := program{flexible: version >= 9}
	if version >= 3 {
		p.fixed(text) // transactional id
	}
	p.fixed(acks)
	p.skip(4) // timeout
	p.array(noTags, func() {
		p.name(version)
		p.array(noTags, func() {
			p.fixed(partition)
			if version >= 3 {
				p.fixed(produced)
			} else {
				p.fixed(opaque)
			}
		})
	})
	p.tags(noTags)
	return p
}

func produceAnswer(version int) program {
	p := program{flexible: version >= 9}
	p.tags(noTags) // of the header
	p.array(noTags, func() {
		p.name(version)
		p.array(ofProduced, func() {
			p.fixed(partition)
			p.skip(2) // error
			p.offset(Acked)
			if version >= 2 {
				p.skip(8) // log append time
			}
			if version >= 5 {
				p.offset(Start)
			}
			if version >= 8 {
				p.array(noTags, func() { // refused records
					p.skip(4)
					p.fixed(text)
				})
				p.fixed(text)
			}
		})
	})
	if version >= 1 {
		p.fixed(throttle)
	}
	p.tags(ofEndpoints)
	return p
}

func fetchRequest(version int) program {
	p := program{flexible: version >= 12}
	if version <= 14 {
		p.skip(4) // replica id
	}
	p.skip(4 + 4) // wait, least bytes
	if version >= 3 {
		p.skip(4) // most bytes
	}
	if version >= 4 {
		p.skip(1) // isolation
	}
	if version >= 7 {
		p.skip(4 + 4) // session
	}
	p.array(noTags, func() {
		p.name(version)
		p.array(noTags, func() {
			p.fixed(partition)
			if version >= 9 {
				p.fixed(epoch) // current leader's
			}
			p.offset(Asked)
			if version >= 12 {
				p.fixed(epoch) // of the last record
			}
			if version >= 5 {
				p.offset(Start) // of followers
			}
			p.skip(4) // most bytes
		})
	})
	if version >= 7 {
		p.array(noTags, func() { // leaving the session
			p.name(version)
			p.bare(func() { p.skip(4) })
		})
	}
	if version >= 11 {
		p.fixed(text) // rack
	}
	p.tags(noTags)
	return p
}

func fetchAnswer(version int) program {
	p := program{flexible: version >= 12}
	p.tags(noTags) // of the header
	if version >= 1 {
		p.fixed(throttle)
	}
	if version >= 7 {
		p.skip(2 + 4) // error, session
	}
	p.array(noTags, func() {
		p.name(version)
		p.array(ofFetched, func() {
			p.fixed(partition)
			p.skip(2) // error
			p.offset(Watermark)
			if version >= 4 {
				p.offset(Watermark) // last stable
			}
			if version >= 5 {
				p.offset(Start)
			}
			if version >= 4 {
				p.array(noTags, func() { // aborted transactions
					p.skip(8) // producer id
					p.offset(Aborted)
				})
			}
			if version >= 11 {
				p.fixed(node) // preferred replica
			}
			p.fixed(fetched)
		})
	})
	p.tags(ofEndpoints)
	return p
}

// programs of all versions that kmsg knows, which is what the table of apis has rows for.
var programs = func() (out [2][2][]program) {
	for key, makers := range [2][2]func(int) program{
		kmsg.Produce: {produceRequest, produceAnswer},
		kmsg.Fetch:   {fetchRequest, fetchAnswer},
	} {
		for side, make := range makers {
			for v := range int(kmsg.RequestForKey(int16(key)).MaxVersion()) + 1 {
				out[key][side] = append(out[key][side], make(v))
			}
		}
	}
	return out
}()
