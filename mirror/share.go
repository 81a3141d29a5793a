package mirror

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// What a link holds in memory is fetched frames, and a frame has batches for all target brokers. A broker that takes nothing, or little,
// would in the end have a batch in every frame, and nothing more could be fetched for the others. So when memory is short it is looked
// which broker's batches have waited for long: what its pumps have queued is dropped and read again later, and as long as the broker is
// slow they get copies of their own, of which there are few. Their frames are everybody's again.

const (
	// shortFor is how long a fetch waits for memory before it is looked who holds it.
	shortFor = 50 * time.Millisecond
	// slowAfter is how old a queued batch is at the least when its broker is called slow, and slowRatio how much older than what the
	// others have queued: where all are slow alike nobody has to be protected.
	slowAfter = 500 * time.Millisecond
	slowRatio = 4
	// stuckAfter is a silence after which a broker is slow in any case: other links want memory too.
	stuckAfter = 5 * time.Second
	// slowPumpBytes is how far a pump reads ahead for a slow broker.
	slowPumpBytes = 128 << 10
)

// share is what the pumps of one target broker hold.
type share struct {
	slow     atomic.Bool
	answered atomic.Int64 // when the broker last answered, or was connected to, in Unix nanoseconds
	own      atomic.Int64 // bytes of copies, see outBatch.detach
}

// gait is how one broker gets on with what is sent to it.
type gait struct {
	age   time.Duration // of the oldest queued batch; 0: nothing is queued
	quiet time.Duration // since it last answered, while something is in flight; 0: nothing is
}

// slowest says which of some brokers are slow: what is queued for them is much older than what is for the others, or they have been silent for
// much longer. Brokers that are slow alike, and answer, are compared by neither.
func slowest(all []gait) []bool {
	out := make([]bool, len(all))
	if len(all) == 0 {
		return out
	}
	age := slices.MinFunc(all, func(a, b gait) int { return cmp.Compare(a.age, b.age) }).age
	quiet := slices.MinFunc(all, func(a, b gait) int { return cmp.Compare(a.quiet, b.quiet) }).quiet
	for i, p := range all {
		among := len(all) > 1 && (p.age > slowRatio*age || p.quiet > 2*slowAfter && p.quiet > slowRatio*quiet)
		out[i] = p.age > slowAfter && (among || p.quiet > stuckAfter)
	}
	return out
}

// hold takes memory for a fetch. While it is short, slow brokers give up theirs.
func (l *Link) hold(ctx context.Context, b *budget, t track, n int64) error {
	for {
		short, cancel := context.WithTimeout(ctx, shortFor)
		err := b.take(short, t, n)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		l.relieve(t, l.now())
	}
}

// relieve looks which target brokers are slow to the pumps of a track, and has those give up what they have queued.
func (l *Link) relieve(t track, now time.Time) {
	var windows []*window // those that lead something of ours: the others are no measure
	var all []gait
	l.eachPump(func(p *pump) {
		if p.window == nil || p.track != t || p.changesLocked() {
			return
		}
		i := slices.Index(windows, p.window)
		if i < 0 {
			i = len(windows)
			windows, all = append(windows, p.window), append(all, gait{})
		}
		all[i].age = max(all[i].age, p.waitedLocked(now))
		if len(p.out.inflight) > 0 {
			all[i].quiet = now.Sub(time.Unix(0, p.window.answered.Load()))
		}
	})
	slow := slowest(all)
	for i, w := range windows {
		if slow[i] {
			w.slow.Store(true)
			l.eachPump(func(p *pump) {
				if p.window == w {
					p.shedLocked(now)
				}
			})
		}
	}
}

// eachPump calls fn for all pumps, with their locks held one by one.
func (l *Link) eachPump(fn func(*pump)) {
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			p.mu.Lock()
			fn(p)
			p.mu.Unlock()
		}
	}
}

// waitedLocked is how long the oldest batch has been queued.
func (p *pump) waitedLocked(now time.Time) time.Duration {
	if p.state != StateRunning || len(p.out.queue) == 0 {
		return 0
	}
	return now.Sub(p.out.queue[0].seen)
}

// shedLocked drops what is queued, to be read again from where it began.
func (p *pump) shedLocked(time.Time) {
	if p.state != StateRunning || len(p.out.queue) == 0 {
		return
	}
	p.dropQueueLocked()
	p.fetchAt, p.sight.epoch = p.acked.SourceNext, p.acked.SourceEpoch
	if n := len(p.out.inflight); n > 0 {
		last := p.out.inflight[n-1]
		p.fetchAt, p.sight.epoch = last.next, last.leader
	}
	p.fetcher.mark(p)
}

// crowdedLocked reports whether the pump's broker is slow and its pumps have read ahead enough for it.
func (p *pump) crowdedLocked() bool {
	w := p.window
	return w != nil && w.slow.Load() && (p.out.queued() >= slowPumpBytes || w.own.Load() >= p.link.slowBytes())
}

// slowBytes is how much the pumps of one slow broker hold together.
func (l *Link) slowBytes() int64 { return l.cfg.LinkBytes / 16 }

// enqueueLocked takes batches from the source.
func (p *pump) enqueueLocked(out []*outBatch) {
	slow := p.window != nil && p.window.slow.Load()
	for _, b := range out {
		b.pump = p
		if slow {
			b.detach(p.link, p.window)
		}
		p.out.bytes += int64(len(b.bytes))
	}
	p.out.queue = append(p.out.queue, out...)
}

// detach gives a batch bytes of its own, so that its frame can go. Where there is no memory for them it stays as it is: it is given up with
// the next look at who is slow.
func (b *outBatch) detach(l *Link, w *window) {
	own := &held{budget: l.budget, size: int64(len(b.bytes)), track: b.pump.track, of: &w.share}
	if !l.budget.try(own.track, own.size) {
		return
	}
	own.refs.Store(1)
	w.own.Add(own.size)
	b.bytes = slices.Clone(b.bytes)
	b.hold.release()
	b.hold = own
}

// caughtUp ends a broker's slowness when its pumps have nothing queued any more, and has those go on that waited for others.
func (w *window) caughtUp() {
	if w.slow.Load() && w.own.Load() == 0 {
		w.swift()
		return
	}
	w.relent()
}

// relent has those pumps of a slow broker go on that waited for others. What those held may be gone without an answer that says so.
func (w *window) relent() {
	if w.slow.Load() && w.own.Load() < w.link.slowBytes() {
		w.markAll()
	}
}

// relent does so for all brokers.
func (l *Link) relent() {
	for _, w := range l.windowList() {
		w.relent()
	}
}

func (l *Link) windowList() []*window {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*window
	for _, w := range l.windows {
		all = append(all, w.both[:]...)
	}
	return all
}

// swift ends a broker's slowness.
func (w *window) swift() {
	if w.slow.Swap(false) {
		w.markAll()
	}
}

// markAll has the broker's pumps read on that had read ahead enough.
func (w *window) markAll() {
	w.link.eachPump(func(p *pump) {
		if p.window == w {
			p.fetcher.mark(p)
		}
	})
}
