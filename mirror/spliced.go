package mirror

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-project/isthmus/topology"
)

// Where a link goes on that others gave way to, the older records of the same source came over those. So its offset map alone would
// skip them: a position before its beginning is taken over the maps of the way that they came.

// inherited is a way over which records came before a pump began, or beside it: to via, from which they came to the pump's target.
type inherited struct {
	via     string
	origins []string
	place   int64 // source offset of the pump: from it on they came over the pump; forAll: nobody knows
}

// inheritances are the ways over which records of the origins that a pump carries came to its target otherwise.
func (s *store) inheritances(id PumpID, carries func(origin string) bool) (all []inherited) {
	for _, from := range s.relaysOf(id) {
		other := id
		other.From = from
		best, _ := s.best(other)
		facts := s.laneFacts(other)
		byPlace := make(map[int64][]string)
		for _, origin := range relayedBy(from, best, facts) {
			end, ended, _ := facts.of(origin)
			if !carries(origin) || ended && end.Next != id.From { // the one that it was given to had it from there
				continue
			}
			place := int64(forAll)
			if v, known := s.succession(end); ended && known && v.Place >= 0 {
				place = v.Place
			}
			byPlace[place] = append(byPlace[place], origin)
		}
		for place, origins := range byPlace {
			all = append(all, inherited{via: from, origins: origins, place: place})
		}
	}
	return all
}

// relayedBy are the origins other than the source's own that a pump from there has copied, or given up.
func relayedBy(from string, best Checkpoint, facts laneFacts) []string {
	held := make(map[string]bool)
	for _, l := range best.Lanes {
		if l.Origin != from && l.held() {
			held[l.Origin] = true
		}
	}
	for _, e := range facts.ends {
		for _, o := range e.origins() {
			held[o] = true
		}
	}
	return slices.Sorted(maps.Keys(held))
}

// copyKey is a partition of a target.
type copyKey struct {
	to, topic string
	partition int32
}

// relaysLocked notes that a pump has copied what was not produced at its source. Few do, and who asks for them asks often.
func (s *stateLog) relaysLocked(p PumpID) {
	key := copyKey{p.To, p.Topic, p.Partition}
	if !slices.Contains(s.lanes.relays[key], p.From) {
		s.lanes.relays[key] = append(s.lanes.relays[key], p.From)
	}
}

// relaysOf are the sources of the other pumps to a pump's target that have copied what was not produced there.
func (s *store) relaysOf(id PumpID) (sources []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, from := range s.lanes.relays[copyKey{id.To, id.Topic, id.Partition}] {
		if from != id.From {
			sources = append(sources, from)
		}
	}
	return sources
}

// heirView is a mapView beside which records of its origins may have come another way.
type heirView interface {
	mapView
	inherits(carries func(origin string) bool) []inherited
	// beside is the durable map of another pump to the same partition.
	beside(from string) (mapView, bool)
}

func (p *pump) inherits(carries func(string) bool) []inherited {
	return p.link.store.inheritances(p.id, carries)
}

func (p *pump) beside(from string) (mapView, bool) { return p.link.store.beside(p.id, from) }

func (m *storedMap) inherits(carries func(string) bool) []inherited {
	if m.store == nil { // a map alone
		return nil
	}
	return m.store.inheritances(m.pump, carries)
}

func (m *storedMap) beside(from string) (mapView, bool) { return m.store.beside(m.pump, from) }

func (s *store) beside(id PumpID, from string) (mapView, bool) {
	id.From = from
	m, ok, err := s.durable(id)
	return m, ok && err == nil
}

// maxSplices bounds how often in turn one link may have given way to another.
const maxSplices = 8

// spliced has get answer with maps that also know what came over other links before theirs began, which may have given way to others in
// turn. missing takes the last reason for which an answer may skip something: then it must not be given.
func spliced(topo *topology.Topology, get findMap, missing *error, deep int) findMap {
	return func(from, to, topic string, partition int32) (mapView, bool) {
		m, ok := get(from, to, topic, partition)
		heir, is := m.(heirView)
		if !ok || !is {
			return m, ok
		}
		all := heir.inherits(func(origin string) bool {
			route := topo.Route(origin, to, topic)
			return len(route) > 0 && route[len(route)-1].From == from
		})
		if !topo.SameName(topic) { // then only what was decided when it was so tells the way of this topic
			all = slices.DeleteFunc(all, func(i inherited) bool { return i.place == forAll })
		}
		if len(all) == 0 {
			return m, ok
		}
		before := get
		if deep > 0 {
			before = spliced(topo, get, missing, deep-1)
		}
		hop := func(f, t string) (mapView, bool) {
			m, ok := before(f, t, topic, partition)
			if !ok && t == to { // its link may be gone; what it has copied is not
				return heir.beside(f)
			}
			return m, ok
		}
		return &splicedMap{mapView: m, all: all, hop: hop, missing: missing,
			route: func(via string) []topology.Link { return routeTo(topo, from, via, topic) }, to: to}, true
	}
}

// splicedMap is a map together with those of the ways before it.
type splicedMap struct {
	mapView
	all     []inherited
	hop     func(from, to string) (mapView, bool)
	route   func(via string) []topology.Link
	to      string
	missing *error
}

// lookup implements [mapView].
func (m *splicedMap) lookup(side int, at int64, origin string) (best int64, ok bool) {
	best, ok = m.mapView.lookup(side, at, origin)
	for _, i := range m.all {
		for _, o := range i.origins {
			if origin != "" && o != origin {
				continue
			}
			if to, found := m.over(i, side, at, o); found && (!ok || to < best) {
				best, ok = to, true
			}
		}
	}
	return best, ok
}

// over is lookup over the way before, for one origin.
func (m *splicedMap) over(i inherited, side int, at int64, origin string) (to int64, ok bool) {
	if side == bySource && at >= i.place {
		return 0, false
	}
	hops := append(slices.Clone(m.route(i.via)), topology.Link{From: i.via, To: m.to})
	if side == byTarget {
		slices.Reverse(hops)
	}
	for n, hop := range hops {
		h, known := m.hop(hop.From, hop.To)
		if !known {
			*m.missing = fmt.Errorf("it also depends on what came over %s→%s before, which this node cannot read: %w", hop.From, hop.To, ErrUnknownPump)
			return 0, false
		}
		next, found := h.lookup(side, at, origin)
		switch {
		case found:
			at = next
		case side == byTarget && n > 0:
			*m.missing = fmt.Errorf("it also depends on what came over %s→%s before, whose map does not reach there: %w", hop.From, hop.To, ErrUnknownPump)
			return 0, false
		default:
			return 0, false
		}
	}
	return at, true
}
