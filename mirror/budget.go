package mirror

import (
	"context"
	"sync"
)

// budget bounds the bytes a link (or a node) holds in fetched frames. When it
// is used up, fetchers stop reading.
type budget struct {
	mu     sync.Mutex
	free   int64
	total  int64
	wake   chan struct{} // closed and replaced whenever bytes come back
	parent *budget       // the node's; nil for the node itself
}

func newBudget(bytes int64, parent *budget) *budget {
	return &budget{free: bytes, total: bytes, wake: make(chan struct{}), parent: parent}
}

// take waits until n bytes are free and takes them. More than the whole budget
// is given when nothing else is held, so that one large frame can always pass.
func (b *budget) take(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.free >= n || b.free == b.total {
			b.free -= n
			b.mu.Unlock()
			break
		}
		wake := b.wake
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
	if b.parent == nil {
		return nil
	}
	if err := b.parent.take(ctx, n); err != nil {
		b.giveBack(n)
		return err
	}
	return nil
}

func (b *budget) put(n int64) {
	b.giveBack(n)
	if b.parent != nil {
		b.parent.put(n)
	}
}

func (b *budget) giveBack(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	close(b.wake)
	b.wake = make(chan struct{})
}

// used returns the bytes taken now.
func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total - b.free
}
