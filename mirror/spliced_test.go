package mirror

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func (m *worldMap) inherits(func(string) bool) []inherited        { return m.before }
func (m *worldMap) beside(string) (mapView, bool)                 { return nil, false }
func (m *worldMap) sourceOf(target int64) (source int64, ok bool) { return m.SourceOf(target) }
func (m *worldMap) first() (source int64, ok bool)                { return m.First() }

// shorten puts a link into the world that takes the place of a relay, as the engine does: the relay gives up what the link carries now.
func (w *world) shorten(t *testing.T, relay, link string, links ...string) {
	t.Helper()
	from, to, _ := strings.Cut(link, ">")
	via, _, _ := strings.Cut(relay, ">")
	after := fabricOf(t, append(links, link)...)
	h := inherited{via: via}
	last := int64(-1)
	for r := range w.maps[relay].all() {
		for _, l := range after.Links {
			if l.From == from && l.To == to && after.Carries(l, r.Origin, "orders") {
				last = max(last, r.sourceEnd()-1)
			}
		}
	}
	for _, c := range after.Clusters {
		if route := after.Route(c.Name, to, "orders"); len(route) > 0 && route[len(route)-1].From == from {
			h.origins = append(h.origins, c.Name)
		}
	}
	m := &worldMap{}
	if last >= 0 {
		way := w.topo.Route(from, via, "orders")
		for i := len(way) - 1; i >= 0; i-- {
			source, next, err := stoppedAt(w.maps[way[i].From+">"+way[i].To], last)
			if err != nil {
				t.Fatal(err)
			}
			last, h.place = source, next
		}
		m.next, m.before = h.place, []inherited{h}
	}
	w.topo, w.maps[link] = after, m
}

// A link takes the place of a relay in the middle of things: each record is copied once, and no position skips one, on either side of where it begins.
func TestTranslate_NeverSkipsWhereALinkTookOver(t *testing.T) {
	for name, c := range map[string]struct {
		links       []string
		relay, link string
	}{
		"relay":      {[]string{"eu>us", "us>ap"}, "us>ap", "eu>ap"},
		"both ways":  {[]string{"eu>us", "us>ap", "us>eu", "ap>us", "ap>eu"}, "us>ap", "eu>ap"},
		"hub":        {[]string{"eu>us", "us>eu", "us>ap", "ap>us"}, "us>ap", "eu>ap"},
		"far":        {[]string{"eu>us", "us>sa", "sa>ap"}, "sa>ap", "eu>ap"},
		"half far":   {[]string{"eu>us", "us>sa", "sa>ap"}, "sa>ap", "us>ap"},
		"with some":  {[]string{"no>eu", "eu>us", "us>ap"}, "us>ap", "eu>ap"},
		"with a way": {[]string{"no>eu", "eu>us", "us>ap", "ap>us", "us>eu", "eu>no"}, "us>ap", "eu>ap"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				rng := rand.New(rand.NewPCG(seed, 6))
				w := newWorld(t, rng, c.links...)
				w.shorten(t, c.relay, c.link, c.links...)
				for range 2 {
					w.checkAll(t, seed, false)
					w.produce(rng, 30)
				}
				for range w.topo.Links {
					for _, l := range w.topo.Links {
						w.copy(l, 1000)
					}
				}
				w.checkAll(t, seed, true)
				for cluster, log := range w.logs {
					seen := make(map[worldRecord]bool)
					for _, r := range log {
						if seen[r] {
							t.Fatalf("seed %d: %s has %v twice", seed, cluster, r)
						}
						seen[r] = true
					}
					for _, o := range w.topo.Clusters {
						for _, r := range w.logs[o.Name] {
							if r.origin == o.Name && (o.Name == cluster || len(w.topo.Route(o.Name, cluster, "orders")) > 0) && !seen[r] {
								t.Fatalf("seed %d: %s lacks %v", seed, cluster, r)
							}
						}
					}
				}
			}
		})
	}
}

// Without the maps of the way that records came before there is no answer: it would skip them.
func TestTranslate_NeedsTheMapsOfTheWayBefore(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 6)), "eu>us", "us>ap")
	for _, l := range w.topo.Links {
		w.copy(l, 1000)
	}
	w.shorten(t, "us>ap", "eu>ap", "eu>us", "us>ap")
	place := w.maps["eu>ap"].next
	get := func(from, to, topic string, partition int32) (mapView, bool) {
		if from == "us" {
			return nil, false
		}
		return w.get(from, to, topic, partition)
	}
	if place < 2 {
		t.Fatalf("the link begins at %d", place)
	}
	if got, err := translate(w.topo, get, way{"eu", "ap", "orders", "orders"}, 0, place-1); !errors.Is(err, ErrUnknownPump) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := translate(w.topo, get, way{"eu", "ap", "orders", "orders"}, 0, place); err != nil {
		t.Errorf("from its beginning on the link needs nothing else: %v", err)
	}
}
