package checker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
)

// Errors of feeding; they mean that the caller, not the mirror, is wrong.
var (
	// ErrNoUID is returned for a record without uid, which cannot be judged.
	ErrNoUID = errors.New("record has no uid")
	// ErrOrder is returned for a record that does not come after the one before it in
	// its partition.
	ErrOrder = errors.New("record is not in offset order")
	// ErrLate is returned for what had to be told earlier; the order is in the
	// documentation of the package.
	ErrLate = errors.New("told too late")
)

// Outcome is what a producer knows of a record it sent.
type Outcome uint8

const (
	// Acked is a record whose write, or transaction, was acknowledged.
	Acked Outcome = iota + 1
	// Aborted is a record of a transaction that was aborted for certain.
	Aborted
	// InDoubt is a record whose fate the producer does not know: a timeout, a lost
	// connection. The source log decides.
	InDoubt
)

// key is the hash of a uid and its origin. At 128 bits no two of some million records
// meet, and a map of keys holds no pointers.
type key [2]uint64

// entry is one record of the truth.
type entry struct {
	offset    int64 // in the origin's log, first occurrence
	timestamp int64
	hash      [16]byte
	uid       uint64 // where it is in the names
	next      uint32 // another entry of the same key in another place, or none
	place     uint32
	txn       uint32 // number of its transaction, 0 for none
	count     uint16 // how often the origin's log has it
	timeType  int8
	unread    bool // known from its producer only
}

// none ends a chain of entries.
const none = math.MaxUint32

// place is a partition of one origin, in one of its lives.
type place struct {
	origin    string
	topic     string
	partition int32
	life      int32
}

// any is the partition whatever its life.
func (p place) any() place { p.life = 0; return p }

// Sources is the truth: what was produced, where and in which order. It takes about 130
// bytes a record and the uid. Not safe for concurrent use.
type Sources struct {
	seeds   [2]maphash.Seed
	origins []string // in the order they were first seen
	mixes   map[string]key
	index   map[key]uint32
	entries chunks[entry]
	places  []place
	placeOf map[place]uint32
	// lastOf has the offset of the last occurrence of entries that are repeated.
	lastOf   map[uint32]int64
	outcomes map[key]Outcome // of records that no entry tells of
	read     map[place]int64 // last offset fed, by cluster and partition
	txns     map[string]uint32
	losses
	names  names
	sealed bool
}

// losses are what sources have not had all the time.
type losses struct {
	// cuts are the offsets from which on a source lost the log of a life; shorter are partitions that lost records in whatever way.
	cuts    map[place]int64
	shorter map[place]bool
	remade  map[place]int32 // the last life of topics that were made anew
}

// NewSources returns an empty truth.
func NewSources() *Sources {
	return &Sources{
		seeds:    [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		mixes:    map[string]key{},
		index:    map[key]uint32{},
		placeOf:  map[place]uint32{},
		lastOf:   map[uint32]int64{},
		outcomes: map[key]Outcome{},
		read:     map[place]int64{},
		txns:     map[string]uint32{},
		losses:   losses{cuts: map[place]int64{}, shorter: map[place]bool{}, remade: map[place]int32{}},
	}
}

// Add takes the next record of the log of a cluster, in offset order within a partition
// and committed records only. Copies (another origin, or a link) count for nothing. It
// returns ErrNoUID, ErrOrder, or ErrLate after the first Target.
func (s *Sources) Add(cluster string, r Record) error {
	if err := s.accept(cluster, r); err != nil {
		return fmt.Errorf("add record of %s: %w", cluster, err)
	}
	at := place{cluster, r.Topic, r.Partition, r.Life}
	if last, ok := s.read[at]; ok && r.Offset <= last {
		return fmt.Errorf("add record of %s: %s/%d offset %d after %d: %w", cluster, r.Topic, r.Partition, r.Offset, last, ErrOrder)
	}
	s.read[at] = r.Offset
	if r.Origin != "" && r.Origin != cluster || r.Via != "" {
		return nil
	}
	i, old := s.enter(at, r)
	if e := s.entries.at(i); !old || e.unread {
		e.offset, e.timestamp, e.timeType, e.hash, e.unread = r.Offset, r.Timestamp, r.TimestampType, r.Hash, false
	} else if e.count < math.MaxUint16 {
		e.count++
		s.lastOf[i] = r.Offset
	}
	s.commit(i, r.Txn)
	return nil
}

// commit notes the transaction of an entry.
func (s *Sources) commit(i uint32, txn string) {
	if txn == "" {
		return
	}
	n, ok := s.txns[txn]
	if !ok {
		n = uint32(len(s.txns) + 1)
		s.txns[txn] = n
	}
	s.entries.at(i).txn = n
}

// Produced tells what the producer of a record knows of it: the record's place and uid
// are looked at, and its transaction; its hash only where [Config.Compacted] is set. An acknowledged record whose offset is known (not
// negative) belongs to the truth even if the source has lost or deleted it since: the
// target must have it, or the ledger; where Truncated says that the source lost it, it may have it. Errors are those of
// Add, but records can come in any order. The life of a record that was read is known by that.
func (s *Sources) Produced(cluster string, r Record, o Outcome) error {
	if err := s.accept(cluster, r); err != nil {
		return fmt.Errorf("add outcome at %s: %w", cluster, err)
	}
	if o == Acked && r.Offset >= 0 {
		at := place{cluster, r.Topic, r.Partition, r.Life}
		i, old := s.known(at, r)
		if !old {
			i, _ = s.enter(at, r)
			e := s.entries.at(i)
			e.offset, e.unread = r.Offset, true
			e.timestamp, e.timeType, e.hash = r.Timestamp, r.TimestampType, r.Hash
		}
		s.commit(i, r.Txn)
		return nil
	}
	s.outcomes[s.key(r.UID, cluster)] = o
	return nil
}

// Truncated says that a source lost the log of a life from an offset on by its own fault, as after an unclean election. What
// it lost may be on the target, and then the ledger has to say so (Survived); where it is not, that is no fault of the mirror. It has to be told
// before the first Target.
func (s *Sources) Truncated(cluster, topic string, partition, life int32, from int64) {
	at := place{cluster, topic, partition, life}
	if old, ok := s.cuts[at]; !ok || from < old {
		s.cuts[at] = from
	}
	s.Shortened(cluster, topic, partition)
}

// Shortened says that a source lost or deleted some records of a partition: one that its producer is in doubt of may have been among them,
// and copied before.
func (s *Sources) Shortened(cluster, topic string, partition int32) {
	s.shorter[place{origin: cluster, topic: topic, partition: partition}] = true
}

// Remade says which life of a topic is its last: it was made anew so often. It has to be told before the first Target.
func (s *Sources) Remade(cluster, topic string, life int32) {
	if life > 0 {
		s.remade[place{origin: cluster, topic: topic}] = life
	}
}

// over reports whether the topic of a place was made anew since.
func (s *Sources) over(at place) bool {
	return at.life < s.remade[place{origin: at.origin, topic: at.topic}]
}

// forgotten reports whether the source lost an entry by its own fault.
func (s *Sources) forgotten(e *entry) bool {
	from, ok := s.cuts[s.places[e.place]]
	return ok && e.unread && e.offset >= from
}

// Missing is the number of acknowledged records that the source logs do not have: the
// sources lost or deleted them.
func (s *Sources) Missing() int64 {
	var n int64
	for i := range s.entries.len() {
		if s.entries.at(uint32(i)).unread {
			n++
		}
	}
	for k, o := range s.outcomes {
		if _, ok := s.index[k]; !ok && o == Acked {
			n++
		}
	}
	return n
}

// Records is the number of different records of the truth.
func (s *Sources) Records() int64 { return int64(s.entries.len()) }

func (s *Sources) accept(cluster string, r Record) error {
	switch {
	case s.sealed:
		return ErrLate
	case r.UID == "" || len(r.UID) > maxName:
		return ErrNoUID
	}
	if _, ok := s.mixes[cluster]; !ok {
		s.origins = append(s.origins, cluster)
		s.mixes[cluster] = key{maphash.String(s.seeds[0], cluster), maphash.String(s.seeds[1], cluster)}
	}
	return nil
}

// enter returns the entry of r at a place and whether it was there before.
func (s *Sources) enter(at place, r Record) (i uint32, old bool) {
	p, ok := s.placeOf[at]
	if !ok {
		p = uint32(len(s.places))
		s.places = append(s.places, at)
		s.placeOf[at] = p
	}
	k := s.key(r.UID, at.origin)
	head, ok := s.index[k]
	if !ok {
		head = none
	}
	for i := head; i != none; i = s.entries.at(i).next {
		if s.entries.at(i).place == p {
			return i, true
		}
	}
	i = s.entries.add(entry{uid: s.names.add(r.UID), next: head, place: p, count: 1})
	s.index[k] = i
	return i, false
}

// known returns the entry of r at a place in whatever life.
func (s *Sources) known(at place, r Record) (i uint32, ok bool) {
	head, ok := s.index[s.key(r.UID, at.origin)]
	if !ok {
		return none, false
	}
	for i := head; i != none; i = s.entries.at(i).next {
		if s.places[s.entries.at(i).place].any() == at.any() {
			return i, true
		}
	}
	return none, false
}

// key is the key of a uid at an origin that was accepted before.
func (s *Sources) key(uid, origin string) key {
	return s.hash(uid).mix(s.mixes[origin])
}

func (s *Sources) hash(uid string) key {
	return key{maphash.String(s.seeds[0], uid), maphash.String(s.seeds[1], uid)}
}

func (k key) mix(o key) key { return key{k[0] ^ o[0], k[1] ^ o[1]} }

// find returns the first entry of a uid and its origin: that of the origin it claims, or
// of any other.
func (s *Sources) find(uid, claimed string) (head uint32, origin string, ok bool) {
	h := s.hash(uid)
	if m, known := s.mixes[claimed]; known {
		if i, ok := s.index[h.mix(m)]; ok {
			return i, claimed, true
		}
	}
	for _, o := range s.origins {
		if i, ok := s.index[h.mix(s.mixes[o])]; ok {
			return i, o, true
		}
	}
	return none, "", false
}

// outcome is what producers know of a record that is not in the truth, 0 for nothing.
func (s *Sources) outcome(uid, claimed string) Outcome {
	h := s.hash(uid)
	if m, known := s.mixes[claimed]; known && s.outcomes[h.mix(m)] != 0 {
		return s.outcomes[h.mix(m)]
	}
	for _, origin := range s.origins {
		if o := s.outcomes[h.mix(s.mixes[origin])]; o != 0 {
			return o
		}
	}
	return 0
}

// chunks is a growing array that never copies what it holds.
type chunks[T any] struct {
	full [][]T
	n    int
}

// chunkSize is the number of elements of a chunk.
const chunkSize = 1 << 14

func (c *chunks[T]) len() int { return c.n }

func (c *chunks[T]) at(i uint32) *T { return &c.full[i/chunkSize][i%chunkSize] }

func (c *chunks[T]) add(v T) uint32 {
	if c.n == len(c.full)*chunkSize {
		c.full = append(c.full, make([]T, chunkSize))
	}
	i := uint32(c.n)
	c.n++
	*c.at(i) = v
	return i
}

// names keeps uids for the report, end to end in large blocks.
type names struct {
	blocks [][]byte
}

const (
	nameBlock = 1 << 20
	maxName   = 1 << 12 // bytes of a uid
)

// add returns where the name is: block and position.
func (n *names) add(name string) uint64 {
	last := len(n.blocks) - 1
	if last < 0 || cap(n.blocks[last])-len(n.blocks[last]) < len(name)+2 {
		n.blocks = append(n.blocks, make([]byte, 0, nameBlock))
		last++
	}
	at := len(n.blocks[last])
	b := binary.BigEndian.AppendUint16(n.blocks[last], uint16(len(name)))
	n.blocks[last] = append(b, name...)
	return uint64(last)<<32 | uint64(at)
}

func (n *names) get(at uint64) string {
	b := n.blocks[at>>32][at&math.MaxUint32:]
	return string(b[2 : 2+int(binary.BigEndian.Uint16(b))])
}
