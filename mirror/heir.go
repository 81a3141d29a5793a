package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// A pump without history begins where its link's start says, unless links from other clusters have brought to its target what it is to
// copy: then it begins behind that, at the place that those found out when they gave it up (giveup.go).

// brought is what is known of an origin that another link has brought to a pump's target.
type brought struct {
	link, origin string
	gone         bool // that link does not take the topic any more
	ended        bool // it has given the origin up, for this pump's link
	succession   succession
	known        bool // there is one
}

// inheritance is where a pump without history begins. The zero value: where its link says.
type inheritance struct {
	place int64
	heir  bool
	waits string // for what; empty: for nothing
	lost  string // why the place cannot be known; empty: it can
}

// inherit says where a pump begins that is to copy what others brought until now. It is pure.
func inherit(all []brought) (h inheritance) {
	for _, r := range all {
		var waits, lost string
		switch {
		case r.known && r.succession.Place >= 0 && h.heir && h.place != r.succession.Place:
			lost = fmt.Sprintf("other links stopped at offsets %d and %d", h.place, r.succession.Place)
		case r.known && r.succession.Place >= 0:
			h.place, h.heir = r.succession.Place, true
		case r.known:
			lost = r.succession.Why
		case r.gone:
			lost = fmt.Sprintf("link %s brought what was produced in %s, and was taken away before it gave that up", r.link, r.origin)
		case r.ended:
			waits = fmt.Sprintf("link %s has given up what was produced in %s; how far that is on its source is being found out", r.link, r.origin)
		default:
			waits = fmt.Sprintf("link %s has not given up yet what was produced in %s", r.link, r.origin)
		}
		if h.waits == "" {
			h.waits = waits
		}
		if h.lost == "" {
			h.lost = lost
		}
	}
	return h
}

// sourcesOf are all clusters from which pumps have copied to a target.
func (s *store) sourcesOf(target string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.lanes.sources[target]))
}

// legacy is an origin that another pump has given up for a pump, and where that goes on; -1: not known yet, or never.
type legacy struct {
	origin string
	place  int64
}

// legacies are the origins that other pumps have given up for this one.
func (s *store) legacies(id PumpID) (all []legacy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from := range s.lanes.sources[id.To] {
		other := id
		other.From = from
		st := s.pumps[other]
		if st == nil || len(st.laneEnds) == 0 {
			continue
		}
		facts := st.laneFactsLocked()
		for _, e := range facts.ends {
			if e.Next != id.From {
				continue
			}
			place := int64(-1)
			if v, known := st.successionLocked(e); known {
				place = v.Place
			}
			for _, o := range e.origins() {
				if won, ended, _ := facts.of(o); !ended || won.which() == e.which() {
					all = append(all, legacy{o, place})
				}
			}
		}
	}
	return all
}

// predecessors are the origins of a pump that others have brought to its target.
func (l *Link) predecessors(id PumpID) (all []brought) {
	r := l.routing()
	if !r.topo.SameName(id.Topic) { // a change of such ways is refused
		return nil
	}
	for _, from := range l.store.sourcesOf(id.To) {
		other := id
		other.From = from
		best, known := l.store.best(other)
		if from == id.From || !known {
			continue
		}
		facts := l.store.laneFacts(other)
		for _, origin := range l.broughtBy(other, best, facts) {
			if !r.carries(l.spec, origin, id.Topic) {
				continue
			}
			one := brought{origin: origin}
			one.link, one.gone = linkBetween(r, other)
			end, ended, ever := facts.of(origin)
			if ended && end.Next != id.From {
				continue // which is a predecessor itself
			}
			for _, e := range facts.ends {
				if e.Next == id.From && e.has(origin) && (ended && e.which() == end.which() || ever && !ended) {
					one.ended = true
					one.succession, one.known = l.store.succession(e)
				}
			}
			all = append(all, one)
		}
	}
	return all
}

// broughtBy are the origins that a pump has copied, or that it has been given, in order.
func (l *Link) broughtBy(id PumpID, best Checkpoint, facts laneFacts) []string {
	held := make(map[string]bool)
	for _, lane := range best.Lanes {
		if lane.held() {
			held[lane.Origin] = true
		}
	}
	if p := l.shared.pump(id); p != nil { // what it knows is not all durable
		p.mu.Lock()
		maps.Copy(held, p.heldLocked())
		p.mu.Unlock()
	}
	for _, e := range facts.ends {
		for _, o := range e.origins() {
			held[o] = true
		}
	}
	for _, o := range l.store.legacies(id) {
		held[o.origin] = true
	}
	return slices.Sorted(maps.Keys(held))
}

// linkBetween is the name of the link that has a pump; gone: there is none any more.
func linkBetween(r *routing, id PumpID) (name string, gone bool) {
	for _, link := range r.topo.Links {
		if link.From == id.From && link.To == id.To && link.Matches(id.Topic) {
			return link.Name, false
		}
	}
	return id.From + "-" + id.To, true
}

// unsavedError is met where a target's broker knows of copies that no state topic tells of yet.
type unsavedError struct{ from, origin, to string }

func (e *unsavedError) Error() string {
	return fmt.Sprintf("%s knows of copies of what was produced in %s that came from %s, and nothing tells yet which: the link from there has to note it", e.to, e.origin, e.from)
}

// relayIn finds among the producers of a partition one that has copied an origin of a pump's from another source.
func relayIn(r *routing, spec topology.Link, id PumpID, producers []broker.ProducerState) (from, origin string, ok bool) {
	if !r.topo.SameName(id.Topic) {
		return "", "", false
	}
	for _, p := range producers {
		for from, origins := range r.origins {
			if o, known := origins[p.ID]; known && from != id.From && o != from && r.carries(spec, o, id.Topic) {
				return from, o, true
			}
		}
	}
	return "", "", false
}

// heirs divides pumps that are to begin: those that may, and what those inherit that have to wait, or begin elsewhere than their link says.
func (l *Link) heirs(ids []PumpID) (ready []PumpID, inherited map[PumpID]inheritance) {
	inherited = make(map[PumpID]inheritance)
	for _, id := range ids {
		if _, known := l.store.best(id); !known {
			if h := inherit(l.predecessors(id)); h != (inheritance{}) {
				inherited[id] = h
			}
		}
		if h := inherited[id]; h.lost != "" || h.waits == "" {
			ready = append(ready, id)
		}
	}
	return ready, inherited
}

// await has pumps say what they wait for before they begin.
func (f *flow) await(inherited map[PumpID]inheritance) {
	for _, p := range f.pumpList() {
		if h := inherited[p.id]; h.waits != "" && h.lost == "" {
			p.wait(CauseRelay, h.waits, f.link.now())
		}
	}
}

// unledLocked reports whether nobody can know where the pump begins, and nobody has said so. Nothing of it is durable.
func (p *pump) unledLocked() bool { return p.way.unled != "" && !p.acked.started() }

// unledText says what to do where nobody can know the place.
func unledText(why string) string {
	return fmt.Sprintf("another link has brought these records until now, and where it stopped cannot be known: %s; say where to go on (isthmus anchor)", why)
}

// led halts a pump of which nobody can know where it begins, and lets one go that can be known by now: it begins anew.
func (l *Link) led(ctx context.Context, p *pump, base Checkpoint) error {
	p.mu.Lock()
	unled := p.unledLocked()
	p.mu.Unlock()
	if !unled {
		return nil
	}
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	if i, ok := l.store.anchored(base); ok {
		p.mu.Lock()
		p.moveLocked(i, nil, l.now())
		p.mu.Unlock()
		return fmt.Errorf("anchored by %s: looking again", i.Writer)
	}
	_, begun := l.store.best(p.id)
	if h := inherit(l.predecessors(p.id)); h.lost != "" && !begun {
		return &haltError{string(CauseUnanchored), unledText(h.lost)}
	}
	p.mu.Lock()
	p.leaveLocked(&leaving{to: StateElsewhere, reason: "begins"}, l.now())
	p.mu.Unlock()
	l.poke()
	return nil
}
