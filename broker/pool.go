package broker

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Memory comes in size classes, four for each doubling, so that at most a fifth of a buffer is not asked for.
const (
	minPooled     = 4 << 10
	minPooledBits = 10                         // the shift of the class after the smallest
	smallClasses  = (16-3-minPooledBits)*4 + 5 // up to firstChunk, 1<<16
)

// framePool hands out buffers. Small ones, the answers to requests other than fetches above all, are left to sync.Pool; what
// carries records is large, and its memory should be used again while it is warm.
type framePool struct {
	small [smallClasses]sync.Pool // those up to firstChunk
	large idleBuffers
}

// buffer is one piece of pooled memory, and the slices that a frame made of it needs.
type buffer struct {
	b       []byte
	class   int
	parts   []Fetched
	aborted []Aborted
}

// sizeClass returns the class that holds n bytes, 0 < n <= MaxFrameBytes, and the size of its buffers.
func sizeClass(n int) (class, size int) {
	if n <= minPooled {
		return 0, minPooled
	}
	shift := bits.Len(uint(n-1)) - 3 // leaves the top three bits: 4 to 7 quarters
	quarters := (n-1)>>shift + 1
	return (shift-minPooledBits)*4 + quarters - 4, quarters << shift
}

// get returns a buffer of length n.
func (p *framePool) get(n int) *buffer {
	class, size := sizeClass(n)
	var b *buffer
	if size > firstChunk {
		b = p.large.take(size, time.Now())
	} else if v, ok := p.small[class].Get().(*buffer); ok {
		b = v
	}
	if b == nil {
		b = &buffer{b: make([]byte, n, size), class: class}
	}
	b.b = b.b[:n]
	return b
}

// put gives a buffer back. The parts are cleared so that they hold no errors or other buffers alive.
func (p *framePool) put(b *buffer) {
	clear(b.parts)
	b.parts, b.aborted = b.parts[:0], b.aborted[:0]
	if cap(b.b) > firstChunk {
		p.large.give(b, time.Now())
		return
	}
	p.small[b.class].Put(b)
}

// Frame is the answer to one fetch. Its memory is pooled: all slices in it are valid until the last holder releases it.
type Frame struct {
	// Partitions are those the broker had something to say about: records, an error, or other watermarks.
	Partitions []Fetched

	buf  *buffer
	pool *framePool
	refs atomic.Int32
}

// Fetched is what an answer says about one partition.
type Fetched struct {
	Topic            string
	TopicID          TopicID // zero where the broker speaks of topics by name only
	Partition        int32
	Err              error     // a *PartitionError, or nil
	HighWatermark    int64     // -1 if the broker did not say
	LastStableOffset int64     // -1 if the broker did not say
	LogStart         int64     // -1 if the broker did not say
	Aborted          []Aborted // only of reads of committed data
	Batches          []byte    // record batches as they are in the log; the last one may be cut short
	DivergingEpoch   int32     // the last epoch both logs have in common, -1 none (KIP-595)
	DivergingEnd     int64     // where that epoch ends on the broker, -1 none
	Leader           int32     // the leader the broker knows of, when it is not itself; -1 unknown
	LeaderEpoch      int32     // -1 unknown
	PreferredReplica int32     // the broker to read from instead, when a rack was given; -1 none (KIP-392)
}

// Aborted is a range of an aborted transaction: the batches of the producer from FirstOffset to its abort marker.
type Aborted struct{ ProducerID, FirstOffset int64 }

// newFrame makes a frame that holds buf once.
func newFrame(pool *framePool, buf *buffer) *Frame {
	f := &Frame{Partitions: buf.parts, buf: buf, pool: pool}
	f.refs.Store(1)
	return f
}

// Retain adds a holder. The caller must be one already.
func (f *Frame) Retain() {
	if f.refs.Add(1) <= 1 {
		panic("broker: a frame was retained after its release")
	}
}

// Release gives up one hold; with the last one the memory goes back to its pool.
func (f *Frame) Release() {
	switch n := f.refs.Add(-1); {
	case n < 0:
		panic("broker: a frame was released more often than it was held")
	case n == 0:
		buf := f.buf
		f.buf, f.Partitions = nil, nil
		f.pool.put(buf)
	}
}

// Size is the memory the frame holds, in bytes. The caller must be a holder.
func (f *Frame) Size() int64 {
	if f.buf == nil {
		return 0
	}
	return int64(cap(f.buf.b))
}
