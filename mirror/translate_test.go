package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

// world is clusters whose logs are lists of records, and pumps that copy between
// them in a random order.
type world struct {
	topo *topology.Topology
	logs map[string][]worldRecord
	maps map[string]*worldMap // by "from>to"
	n    int                  // of records
}

type worldRecord struct {
	origin string
	n      int
}

type worldMap struct {
	OffsetMap
	next   int64
	before []inherited
	epoch  int16
}

func (m *worldMap) end() int64     { return m.endOr(0) }
func (m *worldMap) reached() int64 { return m.next }
func (m *worldMap) former() int64  { return m.formerEnd }

func newWorld(t *testing.T, rng *rand.Rand, links ...string) *world {
	w := &world{topo: fabricOf(t, links...), logs: make(map[string][]worldRecord), maps: make(map[string]*worldMap)}
	for _, l := range w.topo.Links {
		w.maps[l.From+">"+l.To] = &worldMap{}
	}
	w.produce(rng, 60)
	return w
}

// produce has records written and copied, in a random order.
func (w *world) produce(rng *rand.Rand, steps int) {
	for range steps {
		if rng.IntN(2) == 0 {
			c := w.topo.Clusters[rng.IntN(len(w.topo.Clusters))].Name
			w.n++
			w.logs[c] = append(w.logs[c], worldRecord{c, w.n})
			continue
		}
		l := w.topo.Links[rng.IntN(len(w.topo.Links))]
		w.copy(l, rng.IntN(6))
	}
}

func (w *world) copy(l topology.Link, most int) {
	m := w.maps[l.From+">"+l.To]
	for ; most > 0 && m.next < int64(len(w.logs[l.From])); most-- {
		r := w.logs[l.From][m.next]
		if w.topo.Carries(l, r.origin, "orders") {
			m.Add(Run{Source: m.next, Target: int64(len(w.logs[l.To])), Records: 1, Origin: r.origin, Epoch: m.epoch})
			w.logs[l.To] = append(w.logs[l.To], r)
		}
		m.next++
	}
}

func (w *world) get(from, to, _ string, _ int32) (mapView, bool) {
	m, ok := w.maps[from+">"+to]
	return m, ok
}

// bound is the first record of to that a reader of from has still to see: it was not
// among those before the offset, and from has it or will have it.
func (w *world) bound(from, to string, offset int64) (first int64, routed []bool) {
	seen := make(map[worldRecord]bool)
	for _, r := range w.logs[from][:offset] {
		seen[r] = true
	}
	first = int64(len(w.logs[to]))
	for i, r := range w.logs[to] {
		comes := r.origin == from || len(w.topo.Route(r.origin, from, "orders")) > 0
		comes = comes && (slices.Contains(w.logs[from], r) || slices.Contains(w.logs[r.origin], r)) // else it is of a log that is no more
		routed = append(routed, comes)
		if comes && !seen[r] && int64(i) < first {
			first = int64(i)
		}
	}
	return first, routed
}

func TestTranslate_NeverSkips(t *testing.T) {
	for name, c := range map[string]struct {
		links []string
	}{
		"one way":   {[]string{"eu>us"}},
		"both ways": {[]string{"eu>us", "us>eu"}},
		"relay":     {[]string{"eu>us", "us>ap"}},
		"triangle":  {[]string{"eu>us", "us>ap", "eu>ap"}},
		"hub":       {[]string{"eu>us", "us>eu", "us>ap", "ap>us"}},
		"mesh":      {[]string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}},
		"ring":      {[]string{"eu>us", "us>ap", "ap>eu"}},
		"long ring": {[]string{"eu>us", "us>ap", "ap>sa", "sa>eu"}},
		"two hubs":  {[]string{"eu>us", "us>eu", "us>ap", "ap>us", "ap>sa", "sa>ap"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				w := newWorld(t, rand.New(rand.NewPCG(seed, 5)), c.links...)
				w.checkAll(t, seed, false)
				for range w.topo.Links { // until all have everything
					for _, l := range w.topo.Links {
						w.copy(l, 1000)
					}
				}
				w.checkAll(t, seed, true) // once all are caught up the answer is the highest that skips nothing
			}
		})
	}
}

// remake empties a cluster's log: what it took is copied to it again, and it gives what it has from now on.
func (w *world) remake(cluster string) {
	w.logs[cluster] = nil
	for _, l := range w.topo.Links {
		m := w.maps[l.From+">"+l.To]
		i := Incarnation{Epoch: m.epoch + 1, anchor: &anchorage{sourceCut: noCut, targetCut: noCut, targetFrom: int64(len(w.logs[l.To]))}}
		for _, c := range w.topo.Clusters {
			i.Lanes = append(i.Lanes, Lane{Origin: c.Name})
		}
		switch cluster {
		case l.From:
			i.anchor.sourceCut = 0
		case l.To:
			i.anchor.targetCut = 0
		default:
			continue
		}
		m.cut(i)
		m.epoch, m.next = i.Epoch, 0
	}
}

// TestTranslate_FormerLogs: where clusters have records from a third one that has them no longer, because its topic was made anew, nobody knows where
// each is at the other. No answer skips one of them: there is none until all of them were read.
func TestTranslate_FormerLogs(t *testing.T) {
	refused, told := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 6))
		w := newWorld(t, rng, "eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us")
		for again := range 2 {
			w.remake(w.topo.Clusters[rng.IntN(3)].Name)
			for n := range 30 {
				c := w.topo.Clusters[rng.IntN(3)].Name
				w.logs[c] = append(w.logs[c], worldRecord{c, 1000*(again+1) + n})
				w.copy(w.topo.Links[rng.IntN(len(w.topo.Links))], rng.IntN(6))
			}
		}
		for range w.topo.Links {
			for _, l := range w.topo.Links {
				w.copy(l, 1000)
			}
		}
		for link := range w.maps {
			from, to, _ := strings.Cut(link, ">")
			for offset := range int64(len(w.logs[from]) + 1) {
				got, err := translate(w.topo, w.get, way{from, to, "orders", "orders"}, 0, offset)
				want, _ := w.bound(from, to, offset)
				behind := true
				for _, m := range w.maps {
					behind = behind && offset >= m.formerEnd
				}
				switch {
				case errors.Is(err, ErrFormerLog) && !behind:
					refused++
				case err != nil || got.Result > want:
					t.Fatalf("seed %d: %s %d is %s %d, %v; the first that is not read is at %d", seed, from, offset, to, got.Result, err, want)
				default:
					told++
				}
			}
		}
	}
	if refused == 0 || told == 0 {
		t.Errorf("%d positions were refused and %d told", refused, told)
	}
}

func (w *world) checkAll(t *testing.T, seed uint64, tight bool) {
	t.Helper()
	for link := range w.maps {
		a, b, _ := strings.Cut(link, ">")
		w.check(t, seed, a, b, tight)
		w.check(t, seed, b, a, tight)
	}
}

func (w *world) check(t *testing.T, seed uint64, from, to string, tight bool) {
	t.Helper()
	for offset := range int64(len(w.logs[from]) + 1) {
		got, err := translate(w.topo, w.get, way{from, to, "orders", "orders"}, 0, offset)
		if err != nil {
			t.Fatal(err)
		}
		want, routed := w.bound(from, to, offset)
		say := fmt.Sprintf("seed %d: %s %d is %s %d", seed, from, offset, to, got.Result)
		if got.Result > want {
			t.Fatalf("%s, which skips the record at %d", say, want)
		}
		for at := got.Result; tight && at < want; at++ {
			if routed[at] {
				t.Fatalf("%s, but %d skips nothing", say, want)
			}
		}
		if got.Exact && (offset >= int64(len(w.logs[from])) || w.logs[to][got.Result] != w.logs[from][offset]) {
			t.Fatalf("%s, called exact though it is not the same record", say)
		}
	}
}

func TestTranslate_Refuses(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), "eu>us", "us>ap")
	if _, err := translate(w.topo, w.get, way{"eu", "ap", "orders", "orders"}, 0, 1); !errors.Is(err, ErrUnknownPump) {
		t.Errorf("no link between: %v", err)
	}
	if _, err := translate(w.topo, w.get, way{"eu", "us", "orders", "orders"}, 0, -1); err == nil {
		t.Error("a negative offset is translated")
	}
}
