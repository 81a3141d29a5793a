package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// fetcher reads from one source broker for all pumps of a track whose partitions it leads,
// over one incremental fetch session (KIP-227).
type fetcher struct {
	link   *Link
	broker int32
	track  track
	both   *[tracks]*fetcher // of the broker
	busy   atomic.Bool       // it has something to ask for

	answered atomic.Pointer[time.Time] // last answer, whatever was in it

	mu     sync.Mutex
	warmed bool           // a connection is wanted before anything is asked for
	dirty  map[*pump]bool // pumps to look at before the next request; false: dropped
	wake   chan struct{}
	line

	cold tap // of the pumps that are far behind: see Rates.Cold

	// owned by run
	asked  map[*pump]broker.FetchPartition // in the session
	byKey  map[topicPartition]*pump
	parked map[*pump]bool // out of the session for a moment; see soonFor
}

type topicPartition struct {
	topic     string
	partition int32
}

// newFetcher makes those of both tracks, and returns that of pumps that follow.
func newFetcher(l *Link, id int32) *fetcher {
	both, at := new([tracks]*fetcher), newLine(l.cfg.Workers)
	for t := range tracks {
		f := &fetcher{link: l, broker: id, track: t, both: both, dirty: make(map[*pump]bool), wake: make(chan struct{}, 1), parked: make(map[*pump]bool)}
		f.line = at.beside()
		f.cold.credit = tapCredit
		both[t] = f
	}
	return both[trackLive]
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
	nudge(f.wake)
}

// run connects again and again until ctx ends.
func (f *fetcher) run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			if err := f.pause(ctx, f.link.jitter(reconnectWaits.after(attempt))); err != nil {
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
			f.down.Store(true)
			f.link.trouble(f.link.from.Name(), partFetch(f.broker), err)
			f.link.poke() // another may lead by now
			f.unreachable(f.link.now())
		}
	}
	return nil
}

// awaitMark blocks until there is a pump to look at or one in the session.
func (f *fetcher) awaitMark(ctx context.Context) error {
	for {
		f.mu.Lock()
		n := len(f.dirty)
		if f.warmed {
			f.warmed, n = false, n+1
		}
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

// sessionOf is what adjust changes: a broker.FetchSession.
type sessionOf interface {
	Set(broker.FetchPartition)
	Forget(topic string, id broker.TopicID, partition int32)
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
	if err := f.link.learnTails(ctx); err != nil {
		return false, err
	}
	if f.up() {
		f.link.resume(nil, f)
	}
	defer f.open.Store(false)
	f.begin()
	for {
		soon, err := f.adjust(ctx, s)
		if err != nil {
			return answered, nil
		}
		if now, err := f.link.sourceBroker(f.broker); err == nil && moved(b, now) {
			return answered, nil // who listens at the old address is somebody else
		}
		if err := f.fetch(ctx, s, soon); err != nil {
			return answered, fmt.Errorf("fetch from broker %d of %s: %w", b.ID, f.link.from.Name(), err)
		}
		answered = true
		f.link.reached(f.link.from.Name(), partFetch(f.broker))
	}
}

// moved reports whether a broker has another address now.
func moved(then, now broker.Broker) bool { return then.Host != now.Host || then.Port != now.Port }

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
// none of them wants anything. soon says that some pump may want something any
// moment: a mark does not wake a request that is on its way.
func (f *fetcher) adjust(ctx context.Context, s sessionOf) (soon bool, err error) {
	for {
		f.mu.Lock()
		dirty := f.dirty
		f.dirty = make(map[*pump]bool, len(dirty))
		f.mu.Unlock()
		asks := make(map[*pump]broker.FetchPartition, len(dirty))
		for p, keep := range dirty { // what leaves goes first: its partition may be another pump's by now
			if want, ok := p.want(f); ok && keep {
				asks[p] = want
				continue
			}
			soon = soon || keep
			if keep {
				f.parked[p] = true
			} else {
				delete(f.parked, p)
			}
			f.forget(p, s)
		}
		for p, want := range asks {
			if before, had := f.asked[p]; !had || before != want {
				s.Set(want)
				f.asked[p], f.byKey[topicPartition{p.id.Topic, p.id.Partition}] = want, p
			}
		}
		for p := range f.parked {
			if p.soonFor(f) {
				soon = true // until it has drained, which on a long way takes more than one request
			} else {
				delete(f.parked, p)
			}
		}
		f.busy.Store(len(f.asked) > 0)
		if len(f.asked) > 0 {
			return soon, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-f.wake:
		}
	}
}

// forget takes a pump out of the session, unless another one stands for the partition there.
func (f *fetcher) forget(p *pump, s sessionOf) {
	key := topicPartition{p.id.Topic, p.id.Partition}
	before, had := f.asked[p]
	delete(f.asked, p)
	if had && f.byKey[key] == p {
		s.Forget(p.id.Topic, before.TopicID, p.id.Partition)
		delete(f.byKey, key)
	}
}

// soonWait is how long a request stays with the source broker while a pump that is not in it waits to be asked for again.
const soonWait = 50 * time.Millisecond

// fetch asks once and hands the answer to the pumps.
func (f *fetcher) fetch(ctx context.Context, s *broker.FetchSession, soon bool) error {
	cfg := f.link.cfg
	rate, err := f.link.keepQuota(ctx, f.track)
	if err != nil {
		return err
	}
	most := f.link.fetchBytes(f.track)
	if rate > 0 {
		most = min(most, int32(min(max(rate, 64<<10), float64(most)))) // a second's worth, so that waits are short
	}
	reserve := int64(most)
	if err := f.link.hold(ctx, f.link.budget, f.track, reserve); err != nil {
		return err
	}
	wait := cfg.FetchWait
	if soon {
		wait = min(wait, soonWait)
	}
	frame, err := s.Fetch(ctx, broker.FetchOptions{MaxWait: wait, MinBytes: 1, MaxBytes: most, ReadCommitted: true, Rack: f.link.rack(f.link.now())})
	if err != nil {
		f.link.budget.put(f.track, reserve)
		return err
	}
	h := holdFrame(frame, f.link.budget, f.track)
	f.link.quota.pay(f.track, h.size, rate, f.link.now())
	f.link.budget.put(f.track, reserve-h.size)
	defer h.release()
	now := f.link.now()
	f.answered.Store(&now)
	for i := range frame.Partitions {
		got := &frame.Partitions[i]
		p := f.byKey[topicPartition{got.Topic, got.Partition}]
		if p == nil || !p.readBy(f) {
			continue
		}
		f.paid(p, int64(len(got.Batches)))
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

// soonFor reports whether the pump is out of the fetcher's session for a moment only: its queue is full, or its owner before
// is about to let it go.
func (p *pump) soonFor(f *fetcher) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetcher == f && (p.readsLocked() && p.out.full(p.link) || p.held != "")
}
