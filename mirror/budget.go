package mirror

import (
	"context"
	"sync"
)

// budget bounds the bytes a link (or a node) holds in fetched frames. When it
// is used up, fetchers stop reading. A part of it is kept for each track, whatever the other one would take.
type budget struct {
	mu     sync.Mutex
	held   [tracks]int64
	waits  [tracks]int // who waits, before whom nobody comes who has not
	total  int64
	wake   chan struct{} // closed and replaced whenever bytes come back
	parent *budget       // the node's; nil for the node itself
}

func newBudget(bytes int64, parent *budget) *budget {
	return &budget{total: bytes, wake: make(chan struct{}), parent: parent}
}

// keptFor is the part of a budget that only a track may take: one in so many. Those that follow hold little, if they are let.
var keptFor = [tracks]int64{trackLive: 4, trackLate: 8}

// fitsLocked reports whether a track may take n bytes more.
func (b *budget) fitsLocked(t track, n int64) bool {
	used := int64(0)
	for other, held := range b.held {
		used += held
		if track(other) != t {
			n += max(0, b.total/keptFor[other]-held)
		}
	}
	return used+n <= b.total
}

// part is what a track may hold however much the other one wants.
func (b *budget) part(t track) int64 {
	if t == trackLive {
		return b.total / keptFor[t]
	}
	return b.total - b.total/keptFor[trackLive]
}

// most is what a track may ask for at a time, so that it gets it however much the other one holds.
func (b *budget) most(t track) int64 {
	n := (b.total - b.total/keptFor[1-t]) / 2
	if b.parent != nil {
		n = min(n, b.parent.most(t))
	}
	return n
}

// take waits until n bytes are free for a track and takes them. More than there is for
// it is given when nothing else is held, so that one large frame can always pass.
func (b *budget) take(ctx context.Context, t track, n int64) error {
	b.mu.Lock()
	if behind := b.waits[t] > 0; behind || !b.passesLocked(t, n) {
		b.waits[t]++
		for ; behind || !b.passesLocked(t, n); behind = false {
			wake := b.wake
			b.mu.Unlock()
			var err error
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-wake:
			}
			b.mu.Lock()
			if err != nil {
				b.waits[t]--
				b.wakeLocked()
				b.mu.Unlock()
				return err
			}
		}
		b.waits[t]--
		b.wakeLocked() // who came behind may fit as well
	}
	b.held[t] += n
	b.mu.Unlock()
	if b.parent == nil {
		return nil
	}
	if err := b.parent.take(ctx, t, n); err != nil {
		b.giveBack(t, n)
		return err
	}
	return nil
}

// try takes n bytes for a track if they are free, also of what is kept for the other one: they are for a copy that lets a frame go.
func (b *budget) try(t track, n int64) bool {
	b.mu.Lock()
	ok := b.held[trackLive]+b.held[trackLate]+n <= b.total
	if ok {
		b.held[t] += n
	}
	b.mu.Unlock()
	if ok && b.parent != nil && !b.parent.try(t, n) {
		b.giveBack(t, n)
		return false
	}
	return ok
}

func (b *budget) put(t track, n int64) {
	b.giveBack(t, n)
	if b.parent != nil {
		b.parent.put(t, n)
	}
}

func (b *budget) giveBack(t track, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[t] -= n
	b.wakeLocked()
}

func (b *budget) wakeLocked() {
	close(b.wake)
	b.wake = make(chan struct{})
}

// passesLocked reports whether it is a track's turn to take n bytes: those that catch up let those that follow go first, but for the part that
// is kept for them.
func (b *budget) passesLocked(t track, n int64) bool {
	if b.held == [tracks]int64{} {
		return true
	}
	after := t == trackLate && b.waits[trackLive] > 0 && b.held[t] >= b.total/keptFor[t]
	return !after && b.fitsLocked(t, n)
}

// used returns the bytes taken now.
func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := int64(0)
	for _, held := range b.held {
		sum += held
	}
	return sum
}

// queueBytes is how far a pump reads ahead of what is on the wire: two answers, so that one is being sent while the other
// comes. More would be copied no sooner, and a frame that is used again at once is still in the processor's cache.
func (l *Link) queueBytes() int64 { return 2 * int64(l.cfg.FetchPartitionBytes) }

// queued is the bytes that are not on the wire yet.
func (o *outflow) queued() int64 {
	n := o.bytes
	for _, b := range o.inflight {
		n -= int64(len(b.bytes))
	}
	return n
}

// full reports whether the outflow takes no more now.
func (o *outflow) full(l *Link) bool {
	return o.bytes >= l.cfg.PumpBytes || o.queued() >= l.queueBytes()
}
