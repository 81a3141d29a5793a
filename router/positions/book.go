package positions

import (
	"math"
	"sync"

	"github.com/isthmus-project/isthmus/router/timeline"
)

// mostSkips bounds the stretches of a partition that are known to have nothing to show. One that is forgotten is found again.
const mostSkips = 64

// Book has the partitions of a set in one generation. Those that are not in it are known by the home's own offsets. It is safe for concurrent use.
type Book struct {
	maps map[string][]*timeline.Map

	mu    sync.RWMutex
	known map[string]map[int32]*partition
}

// partition is what was learned of one.
type partition struct {
	start int64 // of the home's log, as it was last told
	packs bool  // it has batches on both sides of a jump
	skips []skip
}

// skip is a virtual offset behind which nothing is shown before another.
type skip struct{ from, to int64 }

// New returns a book of maps, by topic and partition; nil is a partition that is known by the home's own offsets. The maps are not changed any more.
func New(maps map[string][]*timeline.Map) *Book {
	return &Book{maps: maps, known: make(map[string]map[int32]*partition)}
}

func (b *Book) of(topic string, p int32) *timeline.Map {
	all := b.maps[topic]
	if p < 0 || int(p) >= len(all) {
		return nil
	}
	return all[p]
}

// Real is the real position of who has read all before a virtual offset; see [timeline.Map.Below].
func (b *Book) Real(topic string, p int32, virtual int64) int64 {
	if m := b.of(topic, p); m != nil {
		return m.Below(virtual)
	}
	return virtual
}

// Virtual is the least virtual offset of what lies at a real one or behind it; see [timeline.Map.Least].
func (b *Book) Virtual(topic string, p int32, real int64) int64 {
	if m := b.of(topic, p); m != nil {
		return m.Least(real)
	}
	return real
}

// Start is the virtual start of a log that starts at a real offset, which is remembered.
func (b *Book) Start(topic string, p int32, real int64) int64 {
	m := b.of(topic, p)
	if m == nil {
		return real
	}
	b.mu.Lock()
	b.at(topic, p).start = real
	b.mu.Unlock()
	return m.Start(real)
}

// at is what was learned of a partition. mu is held for writing.
func (b *Book) at(topic string, p int32) *partition {
	if b.known[topic] == nil {
		b.known[topic] = make(map[int32]*partition)
	}
	k := b.known[topic][p]
	if k == nil {
		k = new(partition)
		b.known[topic][p] = k
	}
	return k
}

// Place is where a Fetch of a virtual offset goes on. False says that clients know the partition by the home's own offsets. One that is out of range has a real offset that no log
// has.
func (b *Book) Place(topic string, p int32, virtual int64) (timeline.Place, bool) {
	m := b.of(topic, p)
	if m == nil {
		return timeline.Place{}, false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	start := int64(0)
	k := b.known[topic][p]
	if k != nil {
		start = k.start
	}
	at, in := m.Place(virtual, start)
	for again := true; again && k != nil && in; {
		again = false
		for _, s := range k.skips {
			if s.from == at.Virtual {
				at, in = m.Place(s.to, start)
				again = true
				break
			}
		}
	}
	if !in {
		return timeline.Place{Virtual: virtual, Real: math.MaxInt64 - 1, From: math.MaxInt64 - 1, End: math.MaxInt64, Next: math.MaxInt64}, true
	}
	return at, true
}

// Pack notes that a partition has batches that lie on both sides of a jump, and Packs reports it.
func (b *Book) Pack(topic string, p int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(topic, p).packs = true
}

// Packs reports whether Pack was called for the partition.
func (b *Book) Packs(topic string, p int32) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	k := b.known[topic][p]
	return k != nil && k.packs
}

// Skip notes that at a place nothing is shown before its end: what was there is deleted, or compacted.
func (b *Book) Skip(topic string, p int32, at timeline.Place) {
	if b.of(topic, p) == nil || at.Next <= at.Virtual || at.Next == math.MaxInt64 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.at(topic, p)
	if len(k.skips) == mostSkips {
		k.skips = append(k.skips[:0], k.skips[1:]...)
	}
	k.skips = append(k.skips, skip{at.Virtual, at.Next})
}
