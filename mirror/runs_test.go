package mirror

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func (w *world) findRuns(from, to, _ string, _ int32) (runView, bool, error) {
	m, ok := w.maps[from+">"+to]
	if !ok {
		return runView{}, false, nil
	}
	return runView{runs: m.list(), before: m.before, beside: func(string) ([]Run, bool, error) { return nil, false, nil }}, true, nil
}

// checkRuns holds what is found between all clusters to the logs: each record that is in both, and nothing else.
func (w *world) checkRuns(t *testing.T, seed uint64) {
	t.Helper()
	for _, a := range w.topo.Clusters {
		for _, b := range w.topo.Clusters {
			from, at := a.Name, b.Name
			linked := w.maps[from+">"+at] != nil || w.maps[at+">"+from] != nil
			got, err := runsBetween(w.topo, w.findRuns, way{from, at, "orders", "orders"}, 0)
			if !linked {
				if !errors.Is(err, ErrNoLink) {
					t.Fatalf("seed %d: %s and %s have no link: %v", seed, from, at, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("seed %d: %s at %s: %v", seed, from, at, err)
			}
			places := make(map[worldRecord]int64)
			for i, r := range w.logs[at] {
				places[r] = int64(i)
			}
			next, found := int64(0), 0
			for _, r := range got {
				if r.Source < next || r.Records < 1 {
					t.Fatalf("seed %d: %s at %s: not in order: %v", seed, from, at, got)
				}
				next = r.sourceEnd()
				for i := range r.Records {
					if place, ok := places[w.logs[from][r.Source+i]]; !ok || place != r.Target+i {
						t.Fatalf("seed %d: offset %d of %s is said to be at %d of %s, and is at %d, %t", seed, r.Source+i, from, r.Target+i, at, place, ok)
					}
					found++
				}
			}
			for _, r := range w.logs[from] {
				if _, ok := places[r]; ok {
					found--
				}
			}
			if found != 0 {
				t.Fatalf("seed %d: %d records of %s are at %s and not found: %v", seed, -found, from, at, got)
			}
		}
	}
}

func TestRuns_AreAllThatBothHave(t *testing.T) {
	for name, links := range map[string][]string{
		"one way":   {"eu>us"},
		"both ways": {"eu>us", "us>eu"},
		"relay":     {"eu>us", "us>ap"},
		"triangle":  {"eu>us", "us>ap", "eu>ap"},
		"hub":       {"eu>us", "us>eu", "us>ap", "ap>us"},
		"mesh":      {"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"},
		"ring":      {"eu>us", "us>ap", "ap>eu"},
		"long ring": {"eu>us", "us>ap", "ap>sa", "sa>eu"},
		"two hubs":  {"eu>us", "us>eu", "us>ap", "ap>us", "ap>sa", "sa>ap"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				rng := rand.New(rand.NewPCG(seed, 8))
				w := newWorld(t, rng, links...)
				w.checkRuns(t, seed)
				w.produce(rng, 60)
				w.checkRuns(t, seed)
			}
		})
	}
}

// What came over a relay before a link took its place is found beside what came over the link.
func TestRuns_GoOverTheRelayBefore(t *testing.T) {
	for name, c := range map[string]struct {
		links       []string
		relay, link string
	}{
		"relay":     {[]string{"eu>us", "us>ap"}, "us>ap", "eu>ap"},
		"both ways": {[]string{"eu>us", "us>ap", "us>eu", "ap>us", "ap>eu"}, "us>ap", "eu>ap"},
		"hub":       {[]string{"eu>us", "us>eu", "us>ap", "ap>us"}, "us>ap", "eu>ap"},
		"far":       {[]string{"eu>us", "us>sa", "sa>ap"}, "sa>ap", "eu>ap"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				rng := rand.New(rand.NewPCG(seed, 6))
				w := newWorld(t, rng, c.links...)
				w.shorten(t, c.relay, c.link, c.links...)
				for range 2 {
					from, at, _ := strings.Cut(c.link, ">")
					w.checkOne(t, seed, from, at)
					w.produce(rng, 30)
				}
			}
		})
	}
}

// checkOne sees that of what began at a cluster and is at another all is found.
func (w *world) checkOne(t *testing.T, seed uint64, from, at string) {
	t.Helper()
	got, err := runsBetween(w.topo, w.findRuns, way{from, at, "orders", "orders"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	places := make(map[worldRecord]int64)
	for i, r := range w.logs[at] {
		places[r] = int64(i)
	}
	found := make(map[int64]int64)
	for _, r := range got {
		for i := range r.Records {
			found[r.Source+i] = r.Target + i
		}
	}
	for i, r := range w.logs[from] {
		place, ok := places[r]
		if to, has := found[int64(i)]; ok && r.origin == from && (!has || to != place) || has && (!ok || to != place) {
			t.Fatalf("seed %d: record %v at %d of %s is at %d of %s, %t; found at %d, %t: %v", seed, r, i, from, place, at, ok, to, has, got)
		}
	}
}

func TestRuns_SaysWhatIsMissing(t *testing.T) {
	topo := fabricOf(t, "eu>us", "us>eu")
	view := runView{runs: []Run{{Source: 3, Target: 7, Records: 2, Origin: "eu"}}}
	one := func(from string, failed error) findRuns {
		return func(f, _, _ string, _ int32) (runView, bool, error) {
			if f == from {
				return view, true, nil
			}
			return runView{}, false, failed
		}
	}
	w := way{"eu", "us", "orders", "orders"}
	if _, err := runsBetween(topo, one("eu", nil), w, 0); !errors.Is(err, ErrUnknownPump) || !strings.Contains(err.Error(), "us→eu") {
		t.Errorf("the link back has not begun: %v", err)
	}
	if _, err := runsBetween(topo, one("us", ErrMap), w, 0); !errors.Is(err, ErrMap) {
		t.Errorf("a map that cannot be read: %v", err)
	}
	if got, err := runsBetween(fabricOf(t, "eu>us"), one("eu", nil), w, 0); err != nil || len(got) != 1 || got[0] != view.runs[0] {
		t.Errorf("one way: %v, %v", got, err)
	}
	if got, err := runsBetween(fabricOf(t, "eu>us"), one("eu", nil), way{"us", "eu", "orders", "orders"}, 0); err != nil || len(got) != 1 || got[0].Source != 7 || got[0].Target != 3 {
		t.Errorf("turned round: %v, %v", got, err)
	}
}

// Both links between two clusters and a third that sent to both: a thousand runs in each map.
func BenchmarkRuns(b *testing.B) {
	topo := fabricOf(b, "eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us")
	maps := make(map[string]*OffsetMap)
	for _, l := range topo.Links {
		m := &OffsetMap{}
		for i := range int64(1000) {
			m.Add(Run{Source: 100*i + int64(len(l.To)), Target: 90 * i, Records: 40, Origin: l.From, Count: 40 * i})
		}
		maps[l.From+">"+l.To] = m
	}
	get := func(from, to, _ string, _ int32) (runView, bool, error) {
		return runView{runs: maps[from+">"+to].list()}, true, nil
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := runsBetween(topo, get, way{"eu", "us", "orders", "orders"}, 0); err != nil {
			b.Fatal(err)
		}
	}
}
