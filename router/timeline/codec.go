package timeline

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/router/pack"
)

// Version is that of the chunks that are written. Readers read it and all before.
const Version = 1

// MaxChunkBytes is the length of the longest chunk that is written.
const MaxChunkBytes = 512 << 10

// maxPartition is the highest number of a partition.
const maxPartition = 1<<31 - 1

// Entry is the timeline of a partition.
type Entry struct {
	Topic     string
	Partition int32
	Timeline  Timeline
}

func (e Entry) check() error {
	if e.Topic == "" || e.Partition < 0 {
		return fmt.Errorf("%w: no topic or no partition", ErrImpossible)
	}
	return e.Timeline.Check()
}

// Encode writes timelines into chunks of MaxChunkBytes at most, each of which can be read alone. A chunk is a byte of version and then entries; numbers are
// varints. The last generation of an entry goes on, so it has neither end nor bound.
//
//	topic      0: that of the entry before; else its length + 1, and its name
//	partition
//	number     of the first generation
//	length     of generations
//	home       its number in the order in which homes come in the chunk; a new one is followed by its length and name
//	first      less the bound of the generation before
//	real
//	own        less real
//	end        less first; not of the last
//	bound      less end; not of the last
//	missing    how many; not of the last. For each its first, less first or the end of the one before, and its length
//
// Partitions of a topic that are next to each other are shorter. A timeline that cannot be, or does not fit alone, is an error.
func Encode(entries []Entry) ([][]byte, error) {
	var chunks [][]byte
	w := writer{b: []byte{Version}}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("encode the timeline of partition %s-%d: %w", e.Topic, e.Partition, err)
		}
		before := w
		if w.entry(e); len(w.b) <= MaxChunkBytes {
			continue
		}
		if len(before.b) > 1 {
			chunks = append(chunks, before.b[:len(before.b):len(before.b)])
			w = writer{b: []byte{Version}}
			w.entry(e)
		}
		if len(w.b) > MaxChunkBytes {
			return nil, fmt.Errorf("encode the timeline of partition %s-%d: %d bytes: %w", e.Topic, e.Partition, len(w.b), pack.ErrTooLarge)
		}
	}
	if len(w.b) > 1 {
		chunks = append(chunks, w.b)
	}
	return chunks, nil
}

// writer writes one chunk.
type writer struct {
	b     []byte
	topic string
	homes []string
}

func (w *writer) uint(n int64) { w.b = binary.AppendUvarint(w.b, uint64(n)) }

func (w *writer) entry(e Entry) {
	if e.Topic == w.topic {
		w.uint(0)
	} else {
		w.uint(int64(len(e.Topic)) + 1)
		w.b, w.topic = append(w.b, e.Topic...), e.Topic
	}
	w.uint(int64(e.Partition))
	w.uint(e.Timeline[0].Number)
	w.uint(int64(len(e.Timeline)))
	bound := int64(0)
	for i, g := range e.Timeline {
		home := slices.Index(w.homes, g.Home)
		if home < 0 {
			home = len(w.homes)
			w.homes = append(w.homes, g.Home)
			w.uint(int64(home))
			w.b = pack.String(w.b, g.Home)
		} else {
			w.uint(int64(home))
		}
		w.uint(g.First - bound)
		w.uint(g.Real)
		w.uint(g.Own - g.Real)
		if i < len(e.Timeline)-1 {
			w.uint(g.End - g.First)
			w.uint(g.Bound - g.End)
			w.uint(int64(len(g.Missing)))
			from := g.First
			for _, m := range g.Missing {
				w.uint(m.First - from)
				w.uint(m.End - m.First)
				from = m.End
			}
		}
		bound = g.Bound
	}
}

// Decode reads a chunk. A version that is not known is pack.ErrVersion, bytes that are no chunk are pack.ErrDamaged, a timeline that cannot be is ErrImpossible.
func Decode(chunk []byte) ([]Entry, error) {
	version, r := pack.Read(chunk)
	if r.Err() == nil && version != Version {
		return nil, fmt.Errorf("decode timelines: version %d, known is %d: %w", version, Version, pack.ErrVersion)
	}
	var entries []Entry
	d := reader{Reader: r}
	for d.Left() > 0 {
		e := d.entry()
		if d.Err() != nil {
			break
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("decode the timeline of partition %s-%d: %w", e.Topic, e.Partition, err)
		}
		entries = append(entries, e)
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("decode timelines, behind %d entries: %w", len(entries), err)
	}
	return entries, nil
}

// reader reads one chunk.
type reader struct {
	pack.Reader
	topic string
	homes []string
}

func (d *reader) entry() Entry {
	if n := d.Uint(int64(d.Left())); n > 0 {
		d.topic = d.Bytes(n - 1)
	}
	e := Entry{Topic: d.topic, Partition: int32(d.Uint(maxPartition))}
	number, n := d.Uint(maxOffset), d.Uint(int64(d.Left()))
	bound := int64(0)
	for i := range n {
		g := Generation{Number: number + i, Home: d.home()}
		g.First = bound + d.Uint(maxOffset)
		g.Real = d.Uint(maxOffset)
		g.Own, g.End = g.Real+d.Uint(maxOffset), Running
		if i < n-1 {
			g.End = g.First + d.Uint(maxOffset)
			g.Bound = g.End + d.Uint(maxOffset)
			g.Missing = d.missing(g.First)
		}
		if bound = g.Bound; d.Err() != nil || bound > maxOffset {
			d.Fail()
			return e
		}
		e.Timeline = append(e.Timeline, g)
	}
	return e
}

func (d *reader) missing(from int64) (out []Span) {
	for n := d.Uint(int64(d.Left())); n > 0; n-- {
		s := Span{First: from + d.Uint(maxOffset)}
		s.End = s.First + d.Uint(maxOffset)
		if from = s.End; d.Err() != nil || from > maxOffset {
			d.Fail()
			return nil
		}
		out = append(out, s)
	}
	return out
}

// home is one of those that came before, or new.
func (d *reader) home() string {
	i := d.Uint(int64(len(d.homes)))
	if i == int64(len(d.homes)) && d.Err() == nil {
		d.homes = append(d.homes, d.String())
	}
	if d.Err() != nil {
		return ""
	}
	return d.homes[i]
}
