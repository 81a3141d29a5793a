package mirror

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/isthmus-project/isthmus/topology"
)

// Which origins a pump copies is said by the routes, and, where those have changed, by what the pump did before: an origin that it
// has copied stays its own until the end of that is decided and durable (laneend.go), whatever the routes say. So whoever walks the
// source again, after a crash too, sees the batches that were copied then.

// forAll is a bound behind every offset.
const forAll = math.MaxInt64

// laneWays is what a pump copies otherwise than by the routes. It is immutable.
type laneWays struct {
	routes  *routing
	changes int64
	// till has, by origin, the source offset from which on batches are not copied; before it they are.
	till map[string]int64
	// surplus are origins that another link is to carry from now on, with the source of that link: their end is not decided yet.
	surplus map[string]string
	// regained are origins that were given up, and that the routes give back. Nothing tells where to go on with them.
	regained []string
}

// copies reports whether a pump copies batches of an origin that begin at a source offset, which it would by the routes, or would not.
func (w *laneWays) copies(origin string, at int64, routed bool) bool {
	if till, ok := w.till[origin]; ok {
		return at < till
	}
	return routed
}

// plain reports whether the pump copies what the routes say.
func (w *laneWays) plain() bool { return len(w.till) == 0 }

// gaveUp reports whether the origin's batches from a source offset on are not the pump's any more.
func (w *laneWays) gaveUp(origin string, at int64) bool {
	till, ok := w.till[origin]
	return ok && till != forAll && at >= till
}

// heir is the link that brings an origin to the target by the routes: its source, and whether its pump has begun. Empty: there is none.
type heir struct {
	source string
	begun  bool
}

// divide says what a pump copies: of the origins that it has copied before, those of all clusters, and by what was decided about them. It is pure.
func divide(origins []string, held map[string]bool, facts laneFacts, carries func(string) bool, next func(string) heir) *laneWays {
	w := &laneWays{till: make(map[string]int64), surplus: make(map[string]string)}
	lingers := make(map[string]bool) // by the source that has them now
	ever := make(map[string]bool)
	for _, o := range origins {
		end, ended, was := facts.of(o)
		ever[o] = was
		switch heir := next(o); {
		case ended:
			w.till[o] = end.At
			if carries(o) {
				w.regained = append(w.regained, o)
			}
		case was, carries(o), !held[o]:
		case heir.begun: // long ago, by a release that decided nothing
		default:
			w.till[o] = forAll
			if heir.source != "" {
				w.surplus[o], lingers[heir.source] = heir.source, true
			}
		}
	}
	// The heir begins at one place for all: so what else it carries is carried here until then.
	for _, o := range origins {
		if _, known := w.till[o]; known || ever[o] || carries(o) || !lingers[next(o).source] {
			continue
		}
		w.till[o], w.surplus[o] = forAll, next(o).source
	}
	return w
}

// lingering reports whether the end of an origin is not decided yet, as far as this node knows.
func (w *laneWays) lingering() bool { return len(w.surplus) > 0 }

// succeeding is what a pump knows of changed routes.
type succeeding struct {
	ways atomic.Pointer[laneWays]
	// strangers are origins of own batches on the target of which nothing durable tells that the pump copied them.
	strangers []string
	calm      calming
	// unled is why nobody can know where the pump begins; empty: it is known.
	unled string
}

// ways is what the pump copies by these routes, and otherwise.
func (p *pump) waysBy(r *routing) *laneWays {
	changes := p.link.store.lanes.changes.Load()
	if w := p.way.ways.Load(); w != nil && w.routes == r && w.changes == changes {
		return w
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(map[string]bool)
	if r.topo.SameName(p.id.Topic) { // by which the ways of others are found; what is decided holds under any
		held = p.heldLocked()
		for _, o := range p.link.store.legacies(p.id) {
			held[o.origin] = true
		}
	}
	var origins []string
	for _, c := range r.topo.Clusters {
		origins = append(origins, c.Name)
	}
	facts := p.link.store.laneFacts(p.id)
	for o := range held {
		origins = append(origins, o)
	}
	for _, e := range facts.ends {
		origins = append(origins, e.origins()...)
	}
	slices.Sort(origins)
	spec := p.link.spec
	w := divide(slices.Compact(origins), held, facts, func(o string) bool { return r.carries(spec, o, p.id.Topic) }, func(o string) heir {
		return p.link.heirOf(r, p.id, o)
	})
	if plain := p.flow.plain.Load(); w.plain() && plain != nil && plain.routes == r && plain.changes == changes {
		w = plain // as nearly all are: they share one
	} else if w.routes, w.changes = r, changes; w.plain() {
		w.till, w.surplus = nil, nil
		p.flow.plain.Store(w)
	}
	p.way.ways.Store(w)
	return w
}

// heirOf is the link that brings an origin to a pump's target by the routes.
func (l *Link) heirOf(r *routing, id PumpID, origin string) heir {
	route := r.topo.Route(origin, id.To, id.Topic)
	if len(route) == 0 {
		return heir{}
	}
	other := id
	other.From = route[len(route)-1].From
	if other.From == id.From {
		return heir{}
	}
	_, begun := l.store.best(other)
	return heir{other.From, begun}
}

// heldLocked are the origins that the pump has copied, or is about to.
func (p *pump) heldLocked() map[string]bool {
	held := make(map[string]bool)
	for _, l := range p.acked.Lanes {
		if l.held() {
			held[l.Origin] = true
		}
	}
	for _, b := range slices.Concat(p.out.inflight, p.out.queue) {
		held[b.origin] = true
	}
	for _, o := range p.way.strangers {
		held[o] = true
	}
	return held
}

// waysOf is what the pump of a partition copies by these routes, and otherwise; nil: by the routes alone.
func (f *flow) waysOf(partition int32, r *routing) *laneWays {
	f.mu.Lock()
	var p *pump
	if int(partition) < len(f.pumps) {
		p = f.pumps[partition]
	}
	f.mu.Unlock()
	if p == nil {
		return nil
	}
	if w := p.waysBy(r); !w.plain() {
		return w
	}
	return nil
}

// routeTo are the links over which what lies on a cluster comes to another one, or the direct one, which there may have been.
func routeTo(topo *topology.Topology, from, to, topic string) []topology.Link {
	if route := topo.Route(from, to, topic); len(route) > 0 {
		return route
	}
	return []topology.Link{{From: from, To: to}}
}
