package mirror

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/topology"
)

// line is what is known of the way to one broker, for all pumps that need it.
type line struct {
	down  atomic.Bool // it could not be reached when that was last tried
	open  atomic.Bool // there is a connection
	hurry chan struct{}
	desk  *desk
}

func newLine(workers int) line {
	return line{hurry: make(chan struct{}, 1), desk: &desk{most: max(1, workers*3/4)}}
}

// beside is the line of another connection to the same broker: their searches take turns.
func (l *line) beside() line { return line{hurry: make(chan struct{}, 1), desk: l.desk} }

// reconnectWaits are between the tries to connect.
var reconnectWaits = waits{200 * time.Millisecond, 5 * time.Second}

// up notes a connection, and reports whether the broker was thought to be away.
func (l *line) up() bool {
	l.open.Store(true)
	return l.down.Swap(false)
}

// pause waits before the next try to connect, unless somebody is in a hurry.
func (l *line) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	case <-l.hurry:
	}
	return nil
}

// nudge leaves a token for who waits at a channel of one, unless there is one already.
func nudge(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

func (l *line) hurryUp() {
	nudge(l.hurry)
}

// warm has the fetcher connect: pumps wait until its broker is there.
func (f *fetcher) warm() {
	f.mu.Lock()
	f.warmed = true
	f.mu.Unlock()
	nudge(f.wake)
}

// desk is where searches at one broker take turns: one broker that does not answer must not keep all workers busy. Who is called and
// does not enter, for there is no place at its other desk or nothing to look for any more, calls the next.
type desk struct {
	mu   sync.Mutex
	busy int
	most int
	line []*pump
}

// enter takes a place, or has the pump looked at again when there is one.
func (d *desk) enter(p *pump) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy < d.most {
		d.busy++
		return true
	}
	d.line = append(d.line, p)
	return false
}

func (d *desk) leave(a *agenda) {
	d.mu.Lock()
	d.busy--
	d.mu.Unlock()
	d.call(a)
}

// call has the next in line looked at, if there is a place.
func (d *desk) call(a *agenda) {
	d.mu.Lock()
	n := min(max(0, d.most-d.busy), len(d.line), 1)
	if d.busy == 0 { // nobody else will leave, and who is called may have gone over to another broker
		n = len(d.line)
	}
	next := d.line[:n]
	d.line = d.line[n:]
	d.mu.Unlock()
	for _, p := range next {
		a.add(p, 0)
	}
}

// desks are those of both ends of a pump.
type desks struct{ target, source *desk }

// enter takes a place at both, or at none. The agenda is the pump's own.
func (d desks) enter(p *pump) bool {
	if !d.target.enter(p) {
		return false
	}
	if !d.source.enter(p) {
		d.target.leave(p.link.agenda)
		return false
	}
	return true
}

// passOn calls the next ones at the desks of a pump that was called and did not enter.
func (p *pump) passOn() {
	p.mu.Lock()
	w, f := p.window, p.fetcher
	p.mu.Unlock()
	if w != nil {
		w.desk.call(p.link.agenda)
	}
	if f != nil {
		f.desk.call(p.link.agenda)
	}
}

func (d desks) leave(a *agenda) {
	d.source.leave(a)
	d.target.leave(a)
}

// knownLocked is what the pump may know of its way.
func (p *pump) knownLocked() known {
	k := known{paused: p.pause != "", led: p.window != nil && p.fetcher != nil, scout: true}
	if !k.led {
		return k
	}
	k.target = !p.window.down.Load()
	k.source = p.fetcher.broker != p.sight.leader || !p.fetcher.down.Load() // places are found at the leader
	p.flow.mu.Lock()
	defer p.flow.mu.Unlock()
	// Only of a pump that has looked: one that has just heard of it has yet to halt.
	k.renewed = p.state == StateHalted && (otherTopic(p.flow.sourceID, p.acked.SourceTopicID) || otherTopic(p.flow.targetID, p.acked.TargetTopicID))
	if p.cause == CauseRecreated {
		k.follow = p.link.terms().Policy.Recreated != "" && p.link.terms().Policy.Recreated != topology.HaltRecreated
	}
	if p.cause == CauseRights {
		if p.flow.scout == nil {
			p.flow.scout = p
		}
		k.scout = p.flow.scout == p
	}
	return k
}

// otherTopic reports whether two ids, where both are known, are of different topics.
func otherTopic(a, b [16]byte) bool {
	var none [16]byte
	return a != none && b != none && a != b
}

// holdLocked is for a pump whose time has come, and which a try would not help. Whoever learns that this has changed makes it due; it looks
// again by itself all the same, which costs nobody a request.
func (p *pump) holdLocked(now time.Time) {
	if p.state == StateFinding {
		c := p.cause
		switch {
		case p.window.down.Load():
			c = CauseTarget
		case p.fetcher.down.Load():
			c = CauseSource
		}
		p.voidLocked()
		p.becomeLocked(StateRetrying, c, p.reason, now)
	}
	p.futile = true
	if p.window.down.Load() {
		p.window.warm()
	}
	if p.fetcher.down.Load() {
		p.fetcher.warm()
	}
	p.laterLocked(p.link.jitter(waitsFor(p.cause).most), now)
}

// doubtLocked takes what a search met: where a broker could not be reached that nobody is connected to, a connection is tried, once for all
// that need it.
func (p *pump) doubtLocked(err error) {
	var said *kerr.Error
	if errors.As(err, &said) || p.window == nil || p.fetcher == nil {
		return
	}
	var source *sourceFault
	if errors.As(err, &source) {
		if p.fetcher.broker == p.sight.leader && !p.fetcher.open.Load() {
			p.fetcher.down.Store(true)
			p.fetcher.warm()
		}
		return
	}
	if !p.window.open.Load() {
		p.window.down.Store(true)
		p.window.warm()
	}
}

// resume has the pumps look for their places that waited for a broker, or that back off since it did not answer them.
func (l *Link) resume(w *window, f *fetcher) {
	now := l.now()
	for _, of := range l.flowList() {
		for _, p := range of.pumpList() {
			p.mu.Lock()
			target, source := w != nil && p.window == w, f != nil && p.fetcher == f
			met := p.state == StateRetrying && (target && p.cause == CauseTarget || source && p.cause == CauseSource)
			if met || p.futile && (target || source) {
				p.dueLocked(now)
			}
			p.mu.Unlock()
		}
	}
}

// scoutRuns is how long a scout has to run until it is believed that the right is there: it is known for sure with the first records.
const scoutRuns = 2 * time.Second

// freeScout lets the other partitions of the topic try when the one that tried for them got through, or does not try any more.
func (f *flow) freeScout(now time.Time) {
	f.mu.Lock()
	scout := f.scout
	f.mu.Unlock()
	if scout == nil {
		return
	}
	scout.mu.Lock()
	var over bool
	switch scout.state {
	case StateRunning:
		over = !recent(now, scout.since, scoutRuns)
	case StateFinding, StateDraining:
	case StateRetrying:
		over = scout.cause != CauseRights
	default:
		over = true
	}
	scout.mu.Unlock()
	if !over {
		return
	}
	f.mu.Lock()
	f.scout = nil
	f.mu.Unlock()
	for _, p := range f.pumpList() {
		p.mu.Lock()
		if p.futile && p.cause == CauseRights {
			p.dueLocked(now)
		}
		p.mu.Unlock()
	}
}
