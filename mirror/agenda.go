package mirror

import (
	"context"
	"sync"
	"time"
)

// agenda is the list of pumps that workers have to look at, now or later.
type agenda struct {
	mu     sync.Mutex
	list   []*pump
	listed map[*pump]bool
	wake   chan struct{} // 1 token: the list is not empty
}

func newAgenda() *agenda {
	return &agenda{listed: make(map[*pump]bool), wake: make(chan struct{}, 1)}
}

// add lists the pump after a time. Adding twice is harmless: a pump is listed
// once, and the worker looks whether it is due.
func (a *agenda) add(p *pump, after time.Duration) {
	if after > 0 {
		time.AfterFunc(after, func() { a.push(p) })
		return
	}
	a.push(p)
}

func (a *agenda) push(p *pump) {
	a.mu.Lock()
	if !a.listed[p] {
		a.listed[p] = true
		a.list = append(a.list, p)
	}
	a.mu.Unlock()
	a.signal()
}

func (a *agenda) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take waits for the next pump.
func (a *agenda) take(ctx context.Context) (*pump, error) {
	for {
		a.mu.Lock()
		if len(a.list) > 0 {
			p := a.list[0]
			a.list = a.list[1:]
			delete(a.listed, p)
			more := len(a.list) > 0
			a.mu.Unlock()
			if more {
				a.signal()
			}
			return p, nil
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-a.wake:
		}
	}
}
