package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// Giving origins up, in order:
//
//	routes change ─▶ what is in flight is answered ─▶ the place is found ─▶ the end is decided there ─▶ the pump goes on without them
//	                 ─▶ where that is at their source is found out ─▶ the succession is written ─▶ the other link begins
//
// Until the end is decided the pump copies them; so at no moment does nobody know how far they are on the target.

// stranger reports whether own batches of an origin show that the pump copied it, of which nothing durable tells. From then on it is known.
func (p *pump) stranger(origin string) bool {
	r := p.link.routing()
	if _, known := p.waysBy(r).till[origin]; known || r.carries(p.link.spec, origin, p.id.Topic) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heldLocked()[origin] {
		return false
	}
	p.way.strangers = append(p.way.strangers, origin)
	p.way.ways.Store(nil)
	return true
}

// regained halts a pump that is to copy again what it gave up: meanwhile another link has copied it, and nothing tells how far.
func (l *Link) regained(p *pump) error {
	w := l.routing()
	ways := p.waysBy(w)
	if len(ways.regained) == 0 {
		return nil
	}
	origin := ways.regained[0]
	return &haltError{string(CauseUnanchored), fmt.Sprintf("link %s gave up what was produced in %s at source offset %d, and by the routes of now it copies that again: "+
		"nothing tells how far another link has copied it; put the routes back, or say where to go on (isthmus anchor)", l.name, origin, ways.till[origin])}
}

// giveUp decides at the place of a search that the pump gives up what another link is to carry.
func (l *Link) giveUp(ctx context.Context, p *pump, s search, f *found) error {
	ways := p.waysBy(l.routing())
	p.way.calm.looked(s.began)
	if !ways.lingering() || f.busy || f.rewound || f.anchored != nil || f.advanced && s.contended && !s.first {
		return nil
	}
	if err := l.store.refresh(ctx); err != nil { // another owner may have decided
		return err
	}
	ways = p.waysBy(l.routing())
	bySource := make(map[string][]Lane)
	for _, origin := range slices.Sorted(maps.Keys(ways.surplus)) {
		next := ways.surplus[origin]
		bySource[next] = append(bySource[next], f.place.lane(origin))
	}
	for _, next := range slices.Sorted(maps.Keys(bySource)) {
		e := laneEnd{Pump: p.id, At: f.place.SourceNext, Next: next, Lanes: bySource[next], Writer: l.writer}
		won, err := l.store.decideEnd(ctx, e)
		if err != nil {
			return err
		}
		if err := l.beyond(ctx, p, won, *f); err != nil {
			return err
		}
		l.log.Info("origins given up to another link", "pump", p.id.String(), "origins", strings.Join(won.origins(), ","), "source_offset", won.At,
			"from", won.Next, "by", won.Writer)
	}
	f.gaveUp = len(bySource) > 0
	l.poke() // for the succession
	return nil
}

// beyond has the ledger name what this owner copied behind an end that another one decided.
func (l *Link) beyond(ctx context.Context, p *pump, won laneEnd, f found) error {
	if won.At >= f.place.SourceNext {
		return nil
	}
	p.mu.Lock()
	runs := p.offsets.Since(won.At)
	p.mu.Unlock()
	var entries []LedgerEntry
	for _, r := range append(runs, f.runs...) {
		if r = r.slice(won.At, math.MaxInt64); r.Records > 0 && won.has(r.Origin) {
			entries = append(entries, l.entry(p, ReasonRepeated, r.Source, r.sourceEnd()-1, r.Records,
				fmt.Sprintf("copied when %s had given up what %s produced: another link copies it too", won.Writer, r.Origin)))
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return l.store.enter(ctx, entries...)
}

// reroute has the pumps of a flow give up what the routes of now have other links carry, and finds out where those go on.
func (l *Link) reroute(ctx context.Context, f *flow) error {
	var errs []error
	for _, p := range f.pumpList() {
		if !p.here() {
			continue
		}
		w := p.waysBy(l.routing())
		if w.plain() {
			continue
		}
		p.rerouted(w, l.now())
		errs = append(errs, l.succeed(ctx, p))
	}
	return errors.Join(errs...)
}

// rerouted has a pump that runs look at its place, where it gives up what is another link's.
func (p *pump) rerouted(w *laneWays, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateRunning || !w.lingering() && len(w.regained) == 0 {
		return
	}
	p.drainLocked("", "gives up what another link copies from now on", now)
	p.fetcher.mark(p)
}

// succeed finds out where the next links go on after the pump's ends, once all that came before them is on the target.
func (l *Link) succeed(ctx context.Context, p *pump) error {
	for _, e := range l.store.laneFacts(p.id).ends {
		if won, _, _ := l.store.laneFacts(p.id).of(e.Lanes[0].Origin); string(won.key()) != string(e.key()) {
			continue // another one was decided
		}
		if v, known := l.store.succession(e); known && v.Place >= 0 || !p.passed(e.At) || !p.calmSince(e.which(), l.now()) {
			continue
		}
		v := succession{Pump: p.id, which: e.which(), Writer: l.writer}
		last := int64(0)
		for _, o := range e.origins() {
			last = max(last, p.leftOff(o, math.MaxInt16, math.MaxInt64))
		}
		for _, o := range l.store.legacies(p.id) {
			if e.has(o.origin) {
				last = max(last, o.place)
			}
		}
		v.Last = last - 1
		place, err := l.behind(ctx, p.id, e, v.Last)
		var lost *lostError
		switch {
		case errors.As(err, &lost):
			v.Place, v.Why = -1, lost.why
			if was, known := l.store.succession(e); known && was.Why == v.Why {
				continue // said already
			}
		case err != nil:
			return fmt.Errorf("find where %s goes on from %s: %w", e.Next, p.id, err)
		default:
			v.Place = place
		}
		if err := l.store.succeeded(ctx, v); err != nil {
			return err
		}
		l.log.Info("succession", "pump", p.id.String(), "to", e.Next, "place", v.Place, "why", v.Why)
	}
	return nil
}

// calmFor is how long after an end the target is looked at once more, before it is said where the next link goes on: an owner who has
// not heard of the end, or of the routes, may have copied on for a moment. It is as long as one may be idle who writes without looking.
const calmFor = staleAfter

// calming is the wait for the last look behind each end: a pump may give origins up to several links at once.
type calming struct {
	mu   sync.Mutex
	ends map[string]*calm
}

// calm is the wait for one end.
type calm struct {
	since time.Time // the end was known here
	done  bool      // there was a look that began late enough
}

// looked takes a look at the target that found the place, and when it began.
func (c *calming) looked(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.ends {
		e.done = e.done || began.Sub(e.since) >= calmFor
	}
}

// of begins the wait for an end, and reports whether it is over, and whether a look is due.
func (c *calming) of(which string, now time.Time) (over, due, began bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.ends[which]
	if e == nil {
		if c.ends == nil {
			c.ends = make(map[string]*calm)
		}
		e, began = &calm{since: now}, true
		c.ends[which] = e
	}
	return e.done, now.Sub(e.since) >= calmFor, began
}

// calmSince reports whether the target was looked at late enough after an end, and has it looked at.
func (p *pump) calmSince(which string, now time.Time) bool {
	over, due, began := p.way.calm.of(which, now)
	if began {
		time.AfterFunc(calmFor, p.link.poke)
	}
	if over || !due {
		return over
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateRunning {
		p.out.contended = true // what others have decided counts
		p.drainLocked("", "looks once more at what another link goes on with", now)
		p.fetcher.mark(p)
	}
	return false
}

// overruns finds the sources of own records that came after the end of their origin: sequences say that they are the next ones there. What was
// copied before the succession is counted in it; the rest is on the target twice.
func (l *Link) overruns(ctx context.Context, p *pump, runs []Run, out *found) (twice []Run, err error) {
	for _, r := range runs {
		e, ended, _ := l.store.laneFacts(p.id).of(r.Origin)
		if !ended {
			continue
		}
		first := int64(0)
		for _, lane := range e.Lanes {
			if lane.Origin == r.Origin {
				first = lane.Count
			}
		}
		offsets, err := l.nextOf(ctx, p, r.Origin, e.At, r.Count-first+r.Records)
		if err != nil {
			return nil, err
		}
		v, known := l.store.succession(e)
		for i, at := range offsets[min(max(0, r.Count-first), int64(len(offsets))):] {
			one := Run{Source: at, Target: r.Target + int64(i), Records: 1, Origin: r.Origin, Epoch: r.Epoch, Count: r.Count + int64(i)}
			out.runs = append(out.runs, one)
			if known && v.Place >= 0 && at > v.Last {
				twice = append(twice, one)
			}
		}
	}
	return joined(twice), nil
}

// joined are runs of which one continues the other as one.
func joined(runs []Run) (out []Run) {
	for _, r := range runs {
		if n := len(out); n > 0 && out[n-1].continues(r) {
			out[n-1].Records++
			continue
		}
		out = append(out, r)
	}
	return out
}

// nextOf are the source offsets of the next n records of an origin, from one on; fewer if the source has no more.
func (l *Link) nextOf(ctx context.Context, p *pump, origin string, at, n int64) (offsets []int64, err error) {
	for int64(len(offsets)) < n {
		frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, true)
		if err != nil {
			return nil, atSource(err)
		}
		from := at
		err = p.flow.walk(&frame.Partitions[0], from, func(s *sourceBatch) error {
			at = max(at, s.header.NextOffset())
			if s.origin != origin || s.act == actSkip && s.why != whyElsewhere {
				return nil
			}
			records, err := s.decode(finderDecodeBytes)
			for _, r := range records {
				offsets = append(offsets, r.Offset)
			}
			return err
		})
		frame.Release()
		if err != nil {
			return nil, err
		}
		if at == from {
			break
		}
	}
	return offsets[:min(int64(len(offsets)), n)], nil
}

// passed reports whether all that the pump had to copy before a source offset is on the target.
func (p *pump) passed(source int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.safe.SourceNext >= source
}

// lostError says why nobody can know where a link goes on.
type lostError struct{ why string }

func (e *lostError) Error() string { return e.why }

// behind takes the last record that a pump copied of the origins it gave up, back to the source of the next link: the offset behind it
// there. Any error but a lostError passes.
func (l *Link) behind(ctx context.Context, id PumpID, e laneEnd, last int64) (place int64, err error) {
	if last < 0 {
		return 0, &lostError{fmt.Sprintf("the offset map of %s no longer knows the last record that it copied", id)}
	}
	topo := l.routing().topo
	route := routeTo(topo, e.Next, id.From, id.Topic)
	for _, o := range e.origins() {
		own := routeTo(topo, o, id.From, id.Topic)
		if o == id.From || o != e.Next && (len(own) <= len(route) || !sameWay(own[len(own)-len(route):], route)) {
			return 0, &lostError{fmt.Sprintf("what was produced in %s does not come to %s over %s", o, id.From, e.Next)}
		}
	}
	for i, hop := range slices.Backward(route) {
		m, err := l.claimsOf(ctx, PumpID{From: hop.From, To: hop.To, Topic: id.Topic, Partition: id.Partition})
		if err != nil {
			return 0, err
		}
		source, next, err := stoppedAt(m, last)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s→%s: %w", hop.From, hop.To, err)
		case i == 0:
			return next, nil
		case next != source+1:
			return 0, &lostError{fmt.Sprintf("the records of %s→%s are not in the order of their source", hop.From, hop.To)}
		}
		last = source
	}
	return 0, &lostError{"there is no way"} // a route has a link at the least
}

// sameWay reports whether two ways pass the same clusters, whatever their links are called.
func sameWay(a, b []topology.Link) bool {
	return slices.EqualFunc(a, b, func(x, y topology.Link) bool { return x.From == y.From && x.To == y.To })
}

// claimsOf is the offset map of a pump to the cluster that this link reads from, or of one that this node knows.
func (l *Link) claimsOf(ctx context.Context, id PumpID) (claims, error) {
	unknown := &lostError{fmt.Sprintf("this node cannot read the offset map of %s", id)}
	var m mapView
	var ok bool
	var err error
	if l.shared.view != nil {
		m, ok, err = l.shared.view(ctx, id.From, id.To, id.Topic, id.Partition)
	}
	if !ok && err == nil && id.To == l.spec.From {
		s := newStore(l.shared.state(l.from, l.log), id.From, id.To)
		if err = s.refresh(ctx); err == nil {
			m, ok, err = s.durable(id)
		}
	}
	switch c, is := m.(claims); {
	case errors.Is(err, ErrMap):
		return nil, &lostError{err.Error()}
	case err != nil:
		return nil, err
	case ok && is:
		return c, nil
	}
	return nil, unknown
}

// stoppedAt takes a record on the target of a map back: its source, and the first source offset of all that lies behind it on the target, or would. They
// are neighbours where the target has the source's order. An error but a lostError: the map does not reach there yet.
func stoppedAt(m claims, last int64) (source, next int64, err error) {
	source, ok := m.sourceOf(last)
	if !ok {
		if m.end() > last {
			return 0, 0, &lostError{fmt.Sprintf("the offset map does not know the record at target offset %d", last)}
		}
		return 0, 0, fmt.Errorf("the offset map does not reach target offset %d yet", last)
	}
	next = source + 1
	if behind, more := m.lookup(byTarget, last+1, ""); more {
		next = min(next, behind)
	}
	return source, next, nil
}
