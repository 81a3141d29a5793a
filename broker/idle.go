package broker

import (
	"slices"
	"sync"
	"time"
)

const (
	// idleBytes is the most that lies idle. What is given back beyond it drives out what was idle longest.
	idleBytes = 32 << 20
	// idleSpan is how often buffers that nobody needed in all that time are let go.
	idleSpan = 10 * time.Second
)

// idleBuffers are large buffers that wait to be used again, the last used first: its pages are in memory and perhaps in the
// processor's cache. sync.Pool keeps a heap for each processor and size, which for a few large buffers is several times the
// memory in use.
type idleBuffers struct {
	mu     sync.Mutex
	list   []*buffer // the last used at the end
	bytes  int
	unused int // the fewest in the list since the last look: as many were needed by nobody
	looked time.Time
}

// take returns a buffer of at least size bytes and at most twice as many, or nil.
func (i *idleBuffers) take(size int, now time.Time) *buffer {
	i.mu.Lock()
	defer i.mu.Unlock()
	defer i.trim(now)
	for k, b := range slices.Backward(i.list) {
		if n := cap(b.b); n >= size && n <= 2*size {
			i.list = slices.Delete(i.list, k, k+1)
			i.bytes -= n
			i.unused = min(i.unused, len(i.list))
			return b
		}
	}
	return nil
}

// give takes a buffer back.
func (i *idleBuffers) give(b *buffer, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.list = append(i.list, b)
	i.bytes += cap(b.b)
	over := 0
	for i.bytes > idleBytes {
		i.bytes -= cap(i.list[over].b)
		over++
	}
	i.drop(over)
	i.trim(now)
}

// trim lets go what nobody needed for a while. Callers hold mu.
func (i *idleBuffers) trim(now time.Time) {
	if now.Sub(i.looked) < idleSpan {
		return
	}
	for _, b := range i.list[:i.unused] {
		i.bytes -= cap(b.b)
	}
	i.drop(i.unused)
	i.looked, i.unused = now, len(i.list)
}

// drop forgets the n that were idle longest. Callers hold mu.
func (i *idleBuffers) drop(n int) {
	i.list = slices.Delete(i.list, 0, n)
	i.unused = min(i.unused, len(i.list))
}
