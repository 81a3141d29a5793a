package mirror

import (
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/topology"
)

// Where a link goes on that others gave way to, the older records of the same source came over those. So its offset map alone would
// skip them: a position before its beginning is taken over the maps of the way that they came.

// inherited is a way over which records came before a pump began: to via, from which they came to the pump's target.
type inherited struct {
	via     string
	origins []string
	place   int64 // source offset of the pump: before it they came that way, from it on over the pump
}

// inheritances are the ways over which records came to a pump's target before it began.
func (s *store) inheritances(id PumpID) (all []inherited) {
	for _, from := range s.sourcesOf(id.To) {
		other := id
		other.From = from
		facts := s.laneFacts(other)
		for _, e := range facts.ends {
			if won, ended, _ := facts.of(e.Lanes[0].Origin); e.Next != id.From || ended && won.which() != e.which() {
				continue
			}
			if v, known := s.succession(e); known && v.Place >= 0 {
				all = append(all, inherited{via: from, origins: e.origins(), place: v.Place})
			}
		}
	}
	return all
}

// heirView is a mapView that others' records come before.
type heirView interface {
	mapView
	inherits() []inherited
}

func (p *pump) inherits() []inherited      { return p.link.store.inheritances(p.id) }
func (m *storedMap) inherits() []inherited { return m.before }

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
		all := heir.inherits()
		if len(all) == 0 {
			return m, ok
		}
		before := get
		if deep > 0 {
			before = spliced(topo, get, missing, deep-1)
		}
		return &splicedMap{mapView: m, all: all, hop: func(f, t string) (mapView, bool) { return before(f, t, topic, partition) }, missing: missing,
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
