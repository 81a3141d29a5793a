package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/isthmus-project/isthmus/topology"
)

// Look answers many questions about what links have copied as of one reading of the state topics, which is made when it is first needed. It may be used by many at once.
type Look struct {
	set *Set

	mu   sync.Mutex
	read map[*stateLog]*reading
}

// reading is that of one cluster.
type reading struct {
	turn chan struct{} // held by who reads
	done bool          // of whose turn it is
}

// Look returns one that has read nothing yet.
func (s *Set) Look() *Look { return &Look{set: s, read: make(map[*stateLog]*reading)} }

// refresh reads the state topics of a store's cluster, the first time. A reading that failed is made again.
func (k *Look) refresh(ctx context.Context, s *store) error {
	k.mu.Lock()
	r := k.read[s.stateLog]
	if r == nil {
		r = &reading{turn: make(chan struct{}, 1)}
		k.read[s.stateLog] = r
	}
	k.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if r.done {
		return nil
	}
	err := s.refresh(ctx)
	r.done = err == nil
	return err
}

// Runs is what of the log of one cluster is at another: Source is an offset at from, Target one at at, in the order of sources, none of them
// twice; of what was copied twice the first place. It is what the link from → at has copied, and what the link at → from brought from there,
// turned round; before a link took a relay's place what came over that; and what both had from a third cluster, where this node
// knows the maps of both ways. Where it does not, that is left out. Epoch and Count mean nothing.
//
// Only what is acknowledged counts, and of partitions that another node copies what is durable: all up to [Look.Reached] of each way, at the
// time of the look. The topic must have one name at both ends. It returns [ErrNoLink] where neither link takes the topic, and
// [ErrUnknownPump] where this node has not got one that does.
func (k *Look) Runs(ctx context.Context, from, at, topic string, partition int32) ([]Run, error) {
	out, err := runsBetween(k.set.Topology(), k.finding(ctx), way{from, at, topic, topic}, partition)
	if err != nil {
		return nil, fmt.Errorf("find what of %s:%d of %s is at %s: %w", topic, partition, from, at, err)
	}
	return out, nil
}

// finding is runView during a call.
func (k *Look) finding(ctx context.Context) findRuns {
	return func(from, to, topic string, partition int32) (runView, bool, error) {
		return k.runView(ctx, from, to, topic, partition)
	}
}

// Copied is that of Runs which the link from → at has copied itself, and before it a relay whose place it took. Of the clusters only that at the end is asked, so that it is known also while
// the other is away. Its errors are those of Runs.
func (k *Look) Copied(ctx context.Context, from, at, topic string, partition int32) ([]Run, error) {
	m := runMaker{k.set.Topology(), k.finding(ctx), partition}
	out, some, err := m.direct(way{from, at, topic, topic})
	if err == nil && !some {
		err = ErrNoLink
	}
	if err != nil {
		return nil, fmt.Errorf("find what of %s:%d of %s was copied to %s: %w", topic, partition, from, at, err)
	}
	return out, nil
}

// Reached is the source offset behind everything that the link from → to has read of a partition and that the target has acknowledged, or that needs no
// copy: markers, and what other links bring. Of a partition that another node copies it is what is durable, which is up to a second old; 0 if nothing is.
// Its errors are those of [Look.Runs].
func (k *Look) Reached(ctx context.Context, from, to, topic string, partition int32) (int64, error) {
	src, err := k.taking(way{from, to, topic, topic}, partition)
	var next int64
	if err == nil {
		_, next, err = src.learned(ctx, k, false)
	}
	if err != nil {
		return 0, fmt.Errorf("find how much of %s:%d of %s is at %s: %w", topic, partition, from, to, err)
	}
	return next, nil
}

// Flush has the progress of what this node copies written down soon, for other nodes that wait for [Look.Durable]; by itself that is done every second. So is what is
// known of clients' producers, which otherwise is written less often.
// It waits for nothing, and costs nothing where nothing has moved.
func (s *Set) Flush() {
	for _, l := range s.list() {
		l.clients.Store(true)
		nudge(l.flush)
	}
}

// Durable is Reached as far as any node can find it, also where this one copies the partition itself.
func (k *Look) Durable(ctx context.Context, from, to, topic string, partition int32) (int64, error) {
	src, err := k.taking(way{from, to, topic, topic}, partition)
	if err == nil {
		err = k.refresh(ctx, src.store)
	}
	if err != nil {
		return 0, fmt.Errorf("find how much of %s:%d of %s is durably at %s: %w", topic, partition, from, to, err)
	}
	best, _ := src.store.best(src.id)
	return max(0, best.SourceNext), nil
}

// taking is the link that takes a partition a way.
func (k *Look) taking(w way, partition int32) (copies, error) {
	taken, err := takenAs(k.set.Topology(), w)
	if err == nil && !taken {
		err = ErrNoLink
	}
	if err != nil {
		return copies{}, err
	}
	src, ok := k.set.copies(w.from, w.to, w.topic, partition)
	if !ok {
		return copies{}, fmt.Errorf("%s→%s: %w", w.from, w.to, ErrUnknownPump)
	}
	return src, nil
}

// copies is where it is known what of a partition a link has copied: the pump that stands for it, and the store. There is no pump where the source
// does not have the topic any more, or was never reached by this process; what is durable is at the target.
type copies struct {
	id    PumpID
	pump  *pump // nil: none
	store *store
}

// copies finds a link; false: the node has none.
func (s *Set) copies(from, to, topic string, partition int32) (copies, bool) {
	if p := s.pumpOf(from, to, topic, partition); p != nil {
		return copies{p.id, p, p.link.store}, true
	}
	for _, l := range s.list() {
		if _, takes := s.Topology().TargetTopic(l.spec, topic); takes && l.spec.From == from && l.spec.To == to && partition >= 0 {
			return copies{l.routing().pumpID(l.spec, topic, partition), nil, l.store}, true
		}
	}
	return copies{}, false
}

// runView is what is known of a pump's copies.
type runView struct {
	runs   []Run       // in the order of sources
	before []inherited // ways over which more came; see spliced.go
	// beside are those of another pump to the same partition, whose link may be gone.
	beside func(from string) (runs []Run, ok bool, err error)
}

// findRuns is where [runsBetween] finds what the pump from → to of a topic of from has copied; false: no pump stands for the partition.
type findRuns func(from, to, topic string, partition int32) (runView, bool, error)

// runView finds what a link has copied, and how else its target got records.
func (k *Look) runView(ctx context.Context, from, to, topic string, partition int32) (runView, bool, error) {
	src, ok := k.set.copies(from, to, topic, partition)
	if !ok {
		return runView{}, false, nil
	}
	runs, _, err := src.learned(ctx, k, true)
	if err != nil {
		return runView{}, false, err
	}
	topo := k.set.Topology()
	before := src.store.inheritances(src.id, func(origin string) bool {
		route := topo.Route(origin, to, topic)
		return len(route) > 0 && route[len(route)-1].From == from
	})
	return runView{runs: runs, before: before, beside: func(from string) ([]Run, bool, error) {
		other := src.id
		other.From = from
		runs, _, ok, err := src.store.durableRuns(other)
		return runs, ok, err
	}}, true, nil
}

// learned is what is known of a link's copies, here or where another node copies: its runs, if they are wanted, and the source offset before
// which they are all. Whoever copies has written a beginning first, so where nothing is durable nothing was copied.
func (c copies) learned(ctx context.Context, look *Look, wanted bool) (runs []Run, next int64, err error) {
	here, sure := false, false
	var acked Checkpoint
	if c.pump != nil {
		if runs, acked, here, sure, err = c.pump.live(wanted); err != nil || sure {
			return runs, acked.SourceNext, err
		}
	}
	if err := look.refresh(ctx, c.store); err != nil {
		return nil, 0, err // what was read before may be much too old
	}
	best, ok := c.store.best(c.id)
	switch {
	case here && (!ok || !best.ahead(acked)):
		return runs, acked.SourceNext, nil
	case !ok || !wanted:
		return nil, max(0, best.SourceNext), nil
	}
	runs, next, _, err = c.store.durableRuns(c.id)
	return runs, next, err
}

// live is what a pump knows itself, if it is here; sure: nobody else can know more.
func (p *pump) live(wanted bool) (runs []Run, acked Checkpoint, here, sure bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.born || p.gone {
		return nil, Checkpoint{}, false, false, nil
	}
	if p.unread != nil {
		return nil, Checkpoint{}, true, false, p.unread
	}
	if wanted {
		runs = p.offsets.list()
	}
	return runs, p.acked.clone(), true, p.state == StateRunning, nil
}

// durableRuns is what the store says that a pump has copied, up to a source offset; false: the pump has not begun.
func (s *store) durableRuns(p PumpID) (runs []Run, next int64, ok bool, err error) {
	best, ok := s.best(p)
	if !ok {
		return nil, 0, false, nil
	}
	m, err := s.offsets(p)
	if err != nil {
		return nil, 0, false, err
	}
	m.dropFrom(best.SourceNext)
	return m.list(), best.SourceNext, true, nil
}

// takenAs reports whether a link brings a topic to a cluster, under the name that is wanted: another is an error.
func takenAs(topo *topology.Topology, w way) (taken bool, err error) {
	for _, l := range topo.Links {
		if l.From != w.from || l.To != w.to {
			continue
		}
		as, takes := topo.TargetTopic(l, w.topic)
		if takes && as != w.as {
			return false, fmt.Errorf("link %s calls it %s: a topic that moves between clusters must have one name; leave it out of the link's naming", l.Name, as)
		}
		taken = taken || takes && slices.ContainsFunc(topo.Clusters, func(c topology.Cluster) bool { return topo.Carries(l, c.Name, w.topic) })
	}
	return taken, nil
}

// runsBetween finds where at w.to the records of a partition of w.from are, over all ways that the maps tell of.
func runsBetween(topo *topology.Topology, get findRuns, w way, partition int32) ([]Run, error) {
	m := runMaker{topo, get, partition}
	there, some, err := m.direct(w)
	if err != nil {
		return nil, err
	}
	back, others, err := m.direct(way{w.to, w.from, w.as, w.topic})
	if err != nil {
		return nil, err
	}
	if !some && !others {
		return nil, ErrNoLink
	}
	out := slices.Concat(there, turned(back))
	for _, c := range topo.Clusters {
		more, err := m.around(c.Name, w)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return inSourceOrder(out), nil
}

// runMaker makes runs over several links out of those of each.
type runMaker struct {
	topo      *topology.Topology
	get       findRuns
	partition int32
}

// direct is what a link has brought, and what came over others before it took their place; false: there is none, and none is wanted.
func (m runMaker) direct(w way) ([]Run, bool, error) {
	taken, err := takenAs(m.topo, w)
	if err != nil {
		return nil, false, err
	}
	runs, ok, err := m.over(w.from, w.to, w.topic, maxSplices)
	if err == nil && !ok && taken {
		err = fmt.Errorf("%s→%s: %w", w.from, w.to, ErrUnknownPump)
	}
	return runs, ok, err
}

// over is what a pump has brought, and what came over others before it, which may have been heirs themselves.
func (m runMaker) over(from, to, topic string, deep int) ([]Run, bool, error) {
	v, ok, err := m.get(from, to, topic, m.partition)
	if err != nil || !ok {
		return nil, false, err
	}
	runs := v.runs
	for _, i := range v.before {
		if deep == 0 || i.place == forAll && !m.topo.SameName(topic) { // then only what was decided when it was so tells the way of this topic
			continue
		}
		more, err := m.before(v, i, way{from, to, topic, topic}, deep-1)
		if err != nil {
			return nil, false, err
		}
		runs = append(runs, more...)
	}
	if len(v.before) > 0 {
		runs = inSourceOrder(runs)
	}
	return runs, true, nil
}

// before is what came over a relay to the target of a link that took its place.
func (m runMaker) before(v runView, i inherited, w way, deep int) (runs []Run, err error) {
	hops := append(slices.Clone(routeTo(m.topo, w.from, i.via, w.topic)), topology.Link{From: i.via, To: w.to})
	for n, hop := range hops {
		next, ok, err := m.over(hop.From, hop.To, w.topic, deep)
		if err == nil && !ok && hop.To == w.to {
			next, ok, err = v.beside(hop.From)
		}
		if err == nil && !ok {
			err = fmt.Errorf("it also depends on what came over %s→%s before, which this node cannot read: %w", hop.From, hop.To, ErrUnknownPump)
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			runs = next
			continue
		}
		runs = composed(runs, next)
	}
	return slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return !slices.Contains(i.origins, r.Origin) }), nil
}

// around is what an origin sent to both clusters without passing a link between them, at an end of its own the other's: none where a map is missing.
func (m runMaker) around(origin string, w way) ([]Run, error) {
	toFrom, atFrom, someFrom := m.topo.Hops(origin, w.from, w.topic)
	toTo, atTo, someTo := m.topo.Hops(origin, w.to, w.as)
	if !atFrom || !atTo || someFrom || someTo || first(toFrom, w.topic) != first(toTo, w.as) ||
		m.topo.CarriesBetween(w.to, w.from, origin, w.as) || m.topo.CarriesBetween(w.from, w.to, origin, w.topic) {
		return nil, nil
	}
	one, err := m.route(toFrom, origin)
	if err == nil && len(toTo) == 0 {
		return turned(one), nil
	}
	var other []Run
	if err == nil {
		other, err = m.route(toTo, origin)
	}
	switch {
	case errors.Is(err, ErrUnknownPump):
		return nil, nil
	case err != nil:
		return nil, err
	case len(toFrom) == 0:
		return other, nil
	}
	return composed(turned(one), other), nil
}

// route is where at the end of a way the origin's own records are.
func (m runMaker) route(hops []topology.Hop, origin string) (runs []Run, err error) {
	for n, hop := range hops {
		next, ok, err := m.over(hop.Link.From, hop.Link.To, hop.Topic, maxSplices)
		if err == nil && !ok {
			err = fmt.Errorf("%s→%s: %w", hop.Link.From, hop.Link.To, ErrUnknownPump)
		}
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			runs = slices.DeleteFunc(slices.Clone(next), func(r Run) bool { return r.Origin != origin })
		default:
			runs = composed(runs, next)
		}
	}
	return runs, nil
}

// turned has the targets as sources.
func turned(runs []Run) []Run {
	out := make([]Run, len(runs))
	for i, r := range runs {
		out[i] = Run{Source: r.Target, Target: r.Source, Records: r.Records, Origin: r.Origin}
	}
	return inSourceOrder(out)
}

// composed is a of A→B and b of B→C as runs of A→C.
func composed(a, b []Run) (out []Run) {
	a, b = slices.Clone(a), inSourceOrder(slices.Clone(b))
	slices.SortFunc(a, func(x, y Run) int { return cmp.Compare(x.Target, y.Target) })
	k := 0
	for _, r := range a {
		for k < len(b) && b[k].sourceEnd() <= r.Target {
			k++
		}
		for _, n := range b[k:] {
			if n.Source >= r.targetEnd() {
				break
			}
			first, end := max(n.Source, r.Target), min(n.sourceEnd(), r.targetEnd())
			out = append(out, Run{Source: r.Source + first - r.Target, Target: n.Target + first - n.Source, Records: end - first, Origin: r.Origin})
		}
	}
	return inSourceOrder(out)
}
