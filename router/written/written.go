// Package written knows how far the logs of a home go at least and at most by what it acknowledged to the clients of one router, so that it can be said what is missing when the home is lost
// and cannot be asked.
//
// An acknowledgement tells the offset of a batch's first record, and not how many there were: they are at most as many as were in the longest batch that was ever sent there.
package written

import (
	"sync"
	"sync/atomic"
)

// Book has the partitions of one generation of a set. It is safe for concurrent use.
type Book struct {
	mu     sync.RWMutex
	topics map[string]*topic // those of which something was acknowledged: clients may name what they like
	first  atomic.Int64      // the longest batch that was sent to a partition that was not known then
}

// topic has its partitions by number; it grows by another one taking its place.
type topic struct {
	partitions atomic.Pointer[[]*partition]
}

type partition struct {
	last    atomic.Int64 // first offset of the last batch that was acknowledged, and one: 0 for none
	longest atomic.Int64 // batch, in records
}

// mostPartitions bounds the numbers of partitions that are believed.
const mostPartitions = 100_000

// New returns an empty book.
func New() *Book { return &Book{topics: make(map[string]*topic)} }

// Sent notes that a batch of so many records is on its way to a partition.
func (b *Book) Sent(topic []byte, p, records int32) {
	at := b.known(topic, p)
	if at == nil {
		raise(&b.first, int64(records))
		at = b.known(topic, p) // it may have got known before that was raised
	}
	if at != nil {
		raise(&at.longest, int64(records))
	}
}

// Acked notes that a batch was acknowledged whose first record is at an offset of the home; -1 is none.
func (b *Book) Acked(topic []byte, p int32, offset int64) {
	if offset < 0 || len(topic) == 0 || p < 0 || p >= mostPartitions {
		return
	}
	at := b.known(topic, p)
	if at == nil {
		at = b.learn(topic, p)
	}
	raise(&at.last, offset+1)
}

func raise(v *atomic.Int64, to int64) {
	for {
		now := v.Load()
		if now >= to || v.CompareAndSwap(now, to) {
			return
		}
	}
}

// known is a partition; nil for one of which nothing was acknowledged.
func (b *Book) known(name []byte, p int32) *partition {
	b.mu.RLock()
	t := b.topics[string(name)]
	b.mu.RUnlock()
	if t == nil || p < 0 {
		return nil
	}
	if all := *t.partitions.Load(); int(p) < len(all) {
		return all[p]
	}
	return nil
}

// learn makes a partition, and those before it.
func (b *Book) learn(name []byte, p int32) *partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[string(name)]
	if t == nil {
		t = new(topic)
		t.partitions.Store(new([]*partition))
		b.topics[string(name)] = t
	}
	all := *t.partitions.Load()
	if int(p) < len(all) {
		return all[p]
	}
	more := append(make([]*partition, 0, p+1), all...)
	for len(more) <= int(p) {
		one := new(partition)
		one.longest.Store(b.first.Load())
		more = append(more, one)
	}
	t.partitions.Store(&more)
	return more[p]
}

// Ends are offsets of the home, by topic and partition, before which all lies that was acknowledged; 0 where nothing was.
func (b *Book) Ends() map[string][]int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make(map[string][]int64, len(b.topics))
	for name, t := range b.topics {
		all := *t.partitions.Load()
		ends := make([]int64, len(all))
		for p, at := range all {
			if last := at.last.Load(); last > 0 {
				ends[p] = last - 1 + max(1, at.longest.Load())
			}
		}
		out[name] = ends
	}
	return out
}
