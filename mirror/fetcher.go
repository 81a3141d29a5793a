package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// fetcher reads from one source broker for all pumps whose partitions it leads,
// over one incremental fetch session (KIP-227).
type fetcher struct {
	link   *Link
	broker int32

	answered atomic.Pointer[time.Time] // last answer, whatever was in it

	mu    sync.Mutex
	dirty map[*pump]bool // pumps to look at before the next request; false: dropped
	wake  chan struct{}

	// owned by run
	asked map[*pump]broker.FetchPartition // in the session
	byKey map[topicPartition]*pump
}

type topicPartition struct {
	topic     string
	partition int32
}

func newFetcher(l *Link, id int32) *fetcher {
	return &fetcher{link: l, broker: id, dirty: make(map[*pump]bool), wake: make(chan struct{}, 1)}
}

// mark says that what the pump wants may have changed.
func (f *fetcher) mark(p *pump) { f.note(p, true) }

// drop takes the pump from this fetcher: another broker leads it now.
func (f *fetcher) drop(p *pump) { f.note(p, false) }

func (f *fetcher) note(p *pump, keep bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.dirty[p] = keep // of a pump that has left, want says so
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run connects again and again until ctx ends.
func (f *fetcher) run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			if err := sleep(ctx, f.link.jitter(min(100*time.Millisecond<<min(attempt, 6), 5*time.Second))); err != nil {
				return nil
			}
		}
		if err := f.awaitMark(ctx); err != nil {
			return nil
		}
		b, err := f.link.sourceBroker(f.broker)
		if err == nil {
			var answered bool
			answered, err = f.session(ctx, b)
			if answered {
				attempt = 0
			}
		}
		if err != nil && ctx.Err() == nil {
			f.link.trouble(f.link.from.Name(), err)
		}
	}
	return nil
}

// awaitMark blocks until there is a pump to look at or one in the session.
func (f *fetcher) awaitMark(ctx context.Context) error {
	for {
		f.mu.Lock()
		n := len(f.dirty)
		f.mu.Unlock()
		if n > 0 || len(f.asked) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
	}
}

// session fetches over one connection until it breaks.
func (f *fetcher) session(ctx context.Context, b broker.Broker) (answered bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, f.link.cfg.DialTimeout)
	s, err := f.link.from.FetchSession(dialCtx, b)
	cancel()
	if err != nil {
		return false, fmt.Errorf("connect to broker %d of %s: %w", b.ID, f.link.from.Name(), err)
	}
	defer s.Close()
	f.begin()
	for {
		full, err := f.adjust(ctx, s)
		if err != nil {
			return answered, nil
		}
		if err := f.fetch(ctx, s, full); err != nil {
			return answered, fmt.Errorf("fetch from broker %d of %s: %w", b.ID, f.link.from.Name(), err)
		}
		answered = true
		f.link.reached(f.link.from.Name())
	}
}

// begin lists every known pump as dirty: a new connection has an empty session.
func (f *fetcher) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.asked {
		if _, ok := f.dirty[p]; !ok {
			f.dirty[p] = true
		}
	}
	f.asked, f.byKey = make(map[*pump]broker.FetchPartition), make(map[topicPartition]*pump)
}

// adjust brings the session in line with what the pumps want, and waits while
// none of them wants anything. full says that some pump takes nothing now.
func (f *fetcher) adjust(ctx context.Context, s *broker.FetchSession) (full bool, err error) {
	for {
		f.mu.Lock()
		dirty := f.dirty
		f.dirty = make(map[*pump]bool, len(dirty))
		f.mu.Unlock()
		for p, keep := range dirty {
			want, ok := p.want(f)
			key := topicPartition{p.id.Topic, p.id.Partition}
			before, had := f.asked[p]
			if ok && keep {
				if !had || before != want {
					s.Set(want)
					f.asked[p], f.byKey[key] = want, p
				}
				continue
			}
			full = full || keep
			if had {
				s.Forget(p.id.Topic, before.TopicID, p.id.Partition)
				delete(f.asked, p)
				delete(f.byKey, key)
			}
		}
		if len(f.asked) > 0 {
			return full, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-f.wake:
		}
	}
}

// fetch asks once and hands the answer to the pumps.
func (f *fetcher) fetch(ctx context.Context, s *broker.FetchSession, full bool) error {
	cfg := f.link.cfg
	most := f.link.fetchBytes()
	reserve := int64(most)
	if err := f.link.budget.take(ctx, reserve); err != nil {
		return err
	}
	wait := cfg.FetchWait
	if full {
		wait = min(wait, 50*time.Millisecond)
	}
	frame, err := s.Fetch(ctx, broker.FetchOptions{MaxWait: wait, MinBytes: 1, MaxBytes: most, ReadCommitted: true})
	if err != nil {
		f.link.budget.put(reserve)
		return err
	}
	h := holdFrame(frame, f.link.budget)
	f.link.budget.put(reserve - h.size)
	defer h.release()
	now := f.link.now()
	f.answered.Store(&now)
	for i := range frame.Partitions {
		got := &frame.Partitions[i]
		p := f.byKey[topicPartition{got.Topic, got.Partition}]
		if p == nil || !p.readBy(f) {
			continue
		}
		p.offer(got, f.asked[p].Offset, h, now)
		f.mark(p)
	}
	return nil
}

// readBy reports whether the fetcher still is the pump's: an answer of the
// broker that led before says nothing about the one that leads now.
func (p *pump) readBy(f *fetcher) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetcher == f
}
