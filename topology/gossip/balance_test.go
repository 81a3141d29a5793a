package gossip_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// sim is a fabric whose pumps go where the view says, and whose nodes report what they see of them.
type sim struct {
	t     *testing.T
	rng   *rand.Rand
	view  *gossip.View
	works []gossip.Work
	bytes []float64 // of each work, without noise
	noise float64   // of each report of each pump: ± this part of it
	lags  func(pump int, node string) bool
	links []gossip.Pair
	gone  map[uint64]bool // pumps that do not exist any more
	lie   float64         // what n00 says of its whole load, if not 0

	balancer *gossip.Balancer
	now      time.Time
	moves    []gossip.Move
	atOnce   int // the most moves of a round
	moved    map[uint64]int
}

func newSim(t *testing.T, nodes int, seed uint64) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), view: fabricOf(nodes), balancer: gossip.NewBalancer(), now: time.Unix(1e9, 0),
		links: []gossip.Pair{{From: "eu", To: "us"}}, moved: make(map[uint64]int), noise: 0.1}
	s.lags = func(int, string) bool { return false }
	return s
}

// zipf gives the pumps a load each, of 1 GB/s in all.
func (s *sim) zipf(pumps int, exponent float64) *sim {
	whole := 0.0
	for i := range pumps {
		s.works = append(s.works, gossip.Work{From: "eu", To: "us", Topic: fmt.Sprintf("t%d-%d", s.rng.Uint32(), i/20), Partition: int32(i % 20)})
		s.bytes = append(s.bytes, math.Pow(float64(i+1), -exponent))
		whole += s.bytes[i]
	}
	for i := range s.bytes {
		s.bytes[i] *= 1e9 / whole
	}
	return s
}

// loads is what each node has to do, without noise, and the heaviest pump that it has.
func (s *sim) loads() (all, heaviest map[string]float64) {
	all, heaviest = make(map[string]float64), make(map[string]float64)
	for i, w := range s.works {
		node := s.view.Owner(w).Node
		all[node] += s.bytes[i]
		heaviest[node] = max(heaviest[node], s.bytes[i])
	}
	return all, heaviest
}

// rounded keeps three bits, as nodes do in what they say.
func rounded(bytes float64) float64 {
	fraction, exponent := math.Frexp(bytes)
	return math.Ldexp(math.Floor(fraction*8)/8, exponent)
}

// step lets ten seconds pass: the nodes report what they have now, and the balancer looks at it.
func (s *sim) step() {
	s.now = s.now.Add(10 * time.Second)
	heavy := make(map[string][]gossip.Load)
	whole := make(map[string]float64)
	for i, w := range s.works {
		if s.gone[w.Hash()] {
			continue
		}
		node := s.view.Owner(w).Node
		bytes := s.bytes[i] * (1 + s.noise*(2*s.rng.Float64()-1))
		whole[node] += bytes
		heavy[node] = append(heavy[node], gossip.Load{Pump: w.Hash(), Bytes: rounded(bytes), Lagging: s.lags(i, node)})
	}
	next := &gossip.View{Self: s.view.Self, Members: slices.Clone(s.view.Members), Pins: s.view.Pins}
	for i := range next.Members {
		r := &next.Members[i].Report
		loads := heavy[next.Members[i].Name]
		slices.SortFunc(loads, func(a, b gossip.Load) int { return int(b.Bytes - a.Bytes) })
		r.Bytes, r.Heavy = rounded(whole[next.Members[i].Name]), loads[:min(64, len(loads))]
		if s.lie != 0 && i == 0 {
			r.Bytes = s.lie
		}
	}
	exists := func(pump uint64) bool { return !s.gone[pump] }
	pins, moves := s.balancer.Round(gossip.Round{View: next, Links: s.links, Now: s.now, Exists: exists})
	if len(pins) > gossip.MaxPins {
		s.t.Errorf("%d pins, the limit is %d", len(pins), gossip.MaxPins)
	}
	for _, m := range moves {
		s.moved[m.Pump]++
	}
	s.moves, s.atOnce = append(s.moves, moves...), max(s.atOnce, len(moves))
	s.view = &gossip.View{Self: next.Self, Members: next.Members, Pins: pins}
}

func (s *sim) steps(n int) (moves int) {
	before := len(s.moves)
	for range n {
		s.step()
	}
	return len(s.moves) - before
}

// Zipf 1.1 on ten nodes: the heaviest pump alone is almost a fifth of all, so its node cannot have less.
func TestBalancer_BalancesZipf(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, 10, seed).zipf(1000, 1.1)
			before, _ := s.loads()
			s.steps(120)
			needed := len(s.moves)
			late := s.steps(360)
			const mean = 1e9 / 10
			loads, heaviest := s.loads()
			most := max(1.3*mean, s.bytes[0])
			worst := 0.0
			for node, bytes := range loads {
				if bytes > most {
					t.Errorf("node %s has %.3f × of the mean, want at most %.3f", node, bytes/mean, most/mean)
				}
				if rest := bytes - heaviest[node]; rest > 1.3*mean {
					t.Errorf("node %s has %.3f × of the mean beside its heaviest pump", node, rest/mean)
				}
				if heaviest[node] < s.bytes[0] {
					worst = max(worst, bytes/mean)
				}
			}
			t.Logf("most %.2f × of the mean before, %.2f after; %.2f without the node of the heaviest pump (%.2f); %d moves in 20 min, %d in the hour after it, %d pins",
				slices.Max(slices.Collect(maps.Values(before)))/mean, slices.Max(slices.Collect(maps.Values(loads)))/mean, worst, s.bytes[0]/mean, needed, late, len(s.view.Pins))
			if s.atOnce > 8 {
				t.Errorf("a round moved %d pumps", s.atOnce)
			}
			if late > 0 {
				t.Errorf("%d pumps moved after 20 minutes although nothing changed", late)
			}
			for pump, times := range s.moved {
				if times > 2 {
					t.Errorf("pump %x was moved %d times", pump, times)
				}
			}
		})
	}
}

// even gives the nodes pumps of the same load, 1 MB/s each.
func (s *sim) even(pumps int) *sim {
	for i := range pumps {
		s.works, s.bytes = append(s.works, work(i)), append(s.bytes, 1e6)
	}
	return s
}

// spread is the load of each node as a multiple of what it should have by its weight.
func (s *sim) spread() map[string]float64 {
	loads, _ := s.loads()
	whole, weights := 0.0, 0.0
	candidates := s.view.Candidates("eu", "us")
	for _, c := range candidates {
		whole, weights = whole+loads[c.Node], weights+c.Weight
	}
	out := make(map[string]float64)
	for _, c := range candidates {
		if c.Weight > 0 {
			out[c.Node] = loads[c.Node] / (whole * c.Weight / weights)
		}
	}
	return out
}

// Nodes get by their weight: capacity, and how near they are.
func TestBalancer_RespectsWeights(t *testing.T) {
	s := newSim(t, 6, 3).zipf(600, 0.8)
	for i := range s.view.Members {
		m := &s.view.Members[i]
		m.Report.Capacity = float64(1 + i%3)
		if i >= 4 {
			*m = reach(*m, "us", func(r *gossip.Reach) { r.RTT = 100 * time.Millisecond })
		}
	}
	s.steps(200)
	far := 0.0
	for node, ratio := range s.spread() {
		if ratio > 1.3 && node < "n04" {
			t.Errorf("node %s has %.2f × of its share", node, ratio)
		}
	}
	loads, _ := s.loads()
	if far = loads["n04"] + loads["n05"]; far > 0.01*1e9 {
		t.Errorf("the far nodes have %.1f %% of the load, want next to nothing", far/1e7)
	}
	if late := s.steps(200); late > 0 {
		t.Errorf("%d pumps moved although nothing changed", late)
	}
}

// A pump goes only where both its clusters are reached.
func TestBalancer_MovesToCandidatesOnly(t *testing.T) {
	s := newSim(t, 6, 4).zipf(400, 1.1)
	s.links = append(s.links, gossip.Pair{From: "us", To: "eu"}) // which all may do, so that all have a share of something
	for i := 0; len(s.works) == 400; i++ {                       // one pump that is most of it, so that those who have it not have room
		w := gossip.Work{From: "us", To: "eu", Topic: "big", Partition: int32(i)}
		if s.view.Owner(w).Node >= "n03" {
			s.works, s.bytes = append(s.works, w), append(s.bytes, 6e8)
		}
	}
	for i := range 3 {
		s.view.Members[i] = reach(s.view.Members[i], "eu", func(r *gossip.Reach) { r.Reads = false })
	}
	s.steps(100)
	if len(s.moves) == 0 {
		t.Fatal("nothing was moved")
	}
	from := map[uint64]string{}
	for _, w := range s.works {
		from[w.Hash()] = w.From
	}
	for _, m := range s.moves {
		if m.To < "n03" && from[m.Pump] == "eu" {
			t.Fatalf("a pump was moved to %s, which does not read eu", m.To)
		}
	}
}

// Pumps of a link that this node does not know of stay where they are.
func TestBalancer_LeavesWhatItDoesNotKnow(t *testing.T) {
	s := newSim(t, 6, 4).zipf(400, 1.1)
	s.links = []gossip.Pair{{From: "us", To: "eu"}}
	if s.steps(100); len(s.moves) > 0 {
		t.Errorf("%d pumps of an unknown link were moved", len(s.moves))
	}
}

func TestBalancer_MovesALaggingPump(t *testing.T) {
	s := newSim(t, 4, 5).even(400)
	slow := s.view.Owner(s.works[7]).Node
	s.lags = func(pump int, node string) bool { return pump == 7 && node == slow }
	s.steps(15)
	at := s.view.Owner(s.works[7])
	if at.Node == slow || at.Why != gossip.ByLoad {
		t.Fatalf("a lagging pump is still with %+v", at)
	}
	if late := s.steps(100); late > 0 || len(s.moves) != 1 {
		t.Errorf("%d pumps moved, %d of them later; want the lagging one only", len(s.moves), late)
	}
}

// A pump that lags wherever it is does not wander about.
func TestBalancer_AlwaysLaggingPumpRests(t *testing.T) {
	s := newSim(t, 4, 5).even(400)
	s.lags = func(pump int, _ string) bool { return pump == 7 }
	s.steps(6 * 60) // an hour
	if n := s.moved[s.works[7].Hash()]; n < 1 || n > 5 {
		t.Errorf("a pump that always lags was moved %d times in an hour, want a few times, ever more seldom", n)
	}
	if len(s.moved) > 1 {
		t.Errorf("%d pumps were moved because one lags", len(s.moved))
	}
}

// If pumps lag on all nodes no node has room.
func TestBalancer_NoNodeHasRoom(t *testing.T) {
	s := newSim(t, 4, 5).even(400)
	s.lags = func(int, string) bool { return true }
	if s.steps(100); len(s.moves) > 0 {
		t.Errorf("%d pumps were moved between nodes that all lag", len(s.moves))
	}
}

// A node that comes gets its share by hash at once; until the loads are known again, nothing else moves.
func TestBalancer_IsQuietAfterAChange(t *testing.T) {
	s := newSim(t, 10, 6).zipf(1000, 1.1)
	if s.steps(6); len(s.moves) > 0 {
		t.Errorf("%d pumps moved in the first minute", len(s.moves))
	}
	s.steps(30)
	for node, i := "n05", 0; i < len(s.works); i++ { // another node balances for a while, badly
		if s.view.Owner(s.works[i]).Node == node {
			s.view.Pins = append(s.view.Pins, gossip.Pin{Pump: s.works[i].Hash(), Node: "n06"})
		}
	}
	s.now = s.now.Add(time.Hour)
	if moves := s.steps(6); moves > 0 {
		t.Errorf("%d pumps moved in the first minute after an hour in which another node was the balancer", moves)
	}
	if moves := s.steps(30); moves == 0 {
		t.Error("nothing moved after that")
	}
	s.steps(150)
	s.view.Members = append(slices.Clone(s.view.Members), able("n99"))
	if moves := s.steps(6); moves > 0 {
		t.Errorf("%d pumps moved in the minute after a node came", moves)
	}
}

func TestBalancer_PinsExpire(t *testing.T) {
	s := newSim(t, 10, 1).zipf(1000, 1.1)
	s.steps(100)
	pinned := func(node string) (n int) {
		for _, p := range s.view.Pins {
			if p.Node == node {
				n++
			}
		}
		return n
	}
	gone := s.view.Pins[0].Node
	at := slices.IndexFunc(s.view.Members, func(m gossip.Member) bool { return m.Name == gone })
	s.view.Members = slices.Clone(s.view.Members)
	s.view.Members[at].Status = gossip.Dead
	before := pinned(gone)
	if s.steps(5); pinned(gone) < before { // it may only be restarting
		t.Errorf("a minute after its node died %d of %d pins are left", pinned(gone), before)
	}
	if s.steps(60); pinned(gone) > 0 {
		t.Errorf("eleven minutes after its node died %d pins are left", pinned(gone))
	}
	s.view.Members[at].Status = gossip.Alive
	s.gone = make(map[uint64]bool)
	for _, p := range s.view.Pins {
		s.gone[p.Pump] = true
	}
	if s.step(); len(s.view.Pins) > 0 {
		t.Errorf("%d pins are of pumps that do not exist", len(s.view.Pins))
	}
}

// There is always room for the pumps that matter.
func TestBalancer_PinsAreBounded(t *testing.T) {
	s := newSim(t, 4, 8).even(3000)
	last := 0
	for i := 0; len(s.view.Pins) < gossip.MaxPins+100; i++ { // none of them at the node that will have too much
		if node := fmt.Sprintf("n%02d", 1+i%3); s.view.Owner(s.works[i]).Node != node {
			s.view.Pins, last = append(s.view.Pins, gossip.Pin{Pump: s.works[i].Hash(), Node: node}), i
		}
	}
	s.view = &gossip.View{Members: s.view.Members, Pins: s.view.Pins}
	heavy := 0
	for i := last + 1; heavy < 20; i++ {
		if s.view.Owner(s.works[i]).Node == "n00" {
			s.bytes[i], heavy = 80e6, heavy+1
		}
	}
	s.noise = 0
	s.steps(200)
	for node, ratio := range s.spread() {
		if ratio > 1.3 {
			t.Errorf("node %s has %.2f × of its share", node, ratio)
		}
	}
}

// Whatever a node says of its load, the others are well.
func TestBalancer_SurvivesNonsense(t *testing.T) {
	for _, lie := range []float64{math.NaN(), math.Inf(1), -1, 1e300, math.Inf(-1)} {
		s := newSim(t, 6, 9).zipf(600, 0.9)
		s.lie = lie
		s.steps(200)
		for node, ratio := range s.spread() {
			if ratio > 1.3 {
				t.Errorf("a node says %v, and node %s has %.2f × of its share", lie, node, ratio)
			}
		}
	}
}

// Loads of few pumps are noisy, and noise moves nothing.
func TestBalancer_NoiseMovesNothing(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(t, 4, seed)
		s.noise = 0.4
		each := map[string]int{}
		for i := 0; len(s.works) < 24; i++ {
			if node := s.view.Owner(work(i)).Node; each[node] < 6 {
				each[node]++
				s.works, s.bytes = append(s.works, work(i)), append(s.bytes, 1e6)
			}
		}
		if moves := s.steps(360); moves > 0 {
			t.Errorf("seed %d: %d pumps moved although all nodes have the same", seed, moves)
		}
	}
}

func BenchmarkBalancer(b *testing.B) {
	v := fabricOf(50)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range v.Members {
		for range 64 {
			v.Members[i].Report.Heavy = append(v.Members[i].Report.Heavy, gossip.Load{Pump: work(rng.IntN(100_000)).Hash(), Bytes: 1e6 * rng.ExpFloat64()})
		}
		v.Members[i].Report.Bytes = 2e8
	}
	balancer, now := gossip.NewBalancer(), time.Unix(1e9, 0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Second)
		balancer.Round(gossip.Round{View: &gossip.View{Members: v.Members, Pins: v.Pins}, Links: []gossip.Pair{{From: "eu", To: "us"}}, Now: now})
	}
}
