package gossip_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// able is a member that may own anything between eu and us.
func able(name string) gossip.Member {
	both := gossip.Reach{Reads: true, Writes: true, RTT: 2 * time.Millisecond}
	return gossip.Member{Name: name, Status: gossip.Alive, Report: gossip.Report{
		Started: 1, Seq: 1, Capacity: 1, Ready: true, Reach: map[string]gossip.Reach{"eu": both, "us": both}}}
}

// reach changes what a member says of a cluster.
func reach(m gossip.Member, cluster string, change func(*gossip.Reach)) gossip.Member {
	all := map[string]gossip.Reach{}
	for name, r := range m.Report.Reach {
		if name == cluster {
			change(&r)
		}
		all[name] = r
	}
	m.Report.Reach = all
	return m
}

func fabricOf(n int) *gossip.View {
	v := &gossip.View{Self: "n00"}
	for i := range n {
		v.Members = append(v.Members, able(fmt.Sprintf("n%02d", i)))
	}
	return v
}

func work(i int) gossip.Work {
	return gossip.Work{From: "eu", To: "us", Topic: fmt.Sprintf("topic-%d", i/16), Partition: int32(i % 16)}
}

// owners asks for the owner of each of n pumps.
func owners(v *gossip.View, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = v.Owner(work(i)).Node
	}
	return out
}

func shares(owners []string) map[string]float64 {
	out := map[string]float64{}
	for _, o := range owners {
		out[o] += 1 / float64(len(owners))
	}
	return out
}

func TestOwner_AddingANodeMovesItsShareOnly(t *testing.T) {
	const pumps = 20000
	for _, seed := range []string{"", "a", "b"} {
		v := fabricOf(10)
		added := &gossip.View{Members: append(slices.Clone(v.Members), able("new"+seed))}
		before, after := owners(v, pumps), owners(added, pumps)
		moved := 0
		for i := range before {
			if before[i] == after[i] {
				continue
			}
			moved++
			if after[i] != "new"+seed {
				t.Fatalf("pump %d went from %s to %s, which was there before", i, before[i], after[i])
			}
		}
		if share := float64(moved) / pumps; math.Abs(share-1.0/11) > 0.03/2 {
			t.Errorf("%.2f %% of the pumps moved, want 9.09 ± 1.5", 100*share)
		}
		for node, share := range shares(before) {
			if math.Abs(share-0.1) > 0.015 {
				t.Errorf("node %s has %.2f %% of the pumps, want 10 ± 1.5", node, 100*share)
			}
		}
	}
}

func TestOwner_RemovingANodeMovesItsOwnOnly(t *testing.T) {
	v := fabricOf(11)
	before, after := owners(v, 20000), owners(v.Without("n04"), 20000)
	for i := range before {
		if before[i] == "n04" && after[i] == "n04" || before[i] != "n04" && before[i] != after[i] {
			t.Fatalf("pump %d went from %s to %s when n04 was taken away", i, before[i], after[i])
		}
	}
}

func TestOwner_WeightsGiveShares(t *testing.T) {
	far := func(cluster string, rtt time.Duration) func(*gossip.Member) {
		return func(m *gossip.Member) { *m = reach(*m, cluster, func(r *gossip.Reach) { r.RTT = rtt }) }
	}
	for _, c := range []struct {
		name string
		set  func(*gossip.Member) // of n00 of two
		low  float64              // bounds of n00's share
		high float64
	}{
		{"equal", func(*gossip.Member) {}, 0.48, 0.52},
		{"three times the capacity", func(m *gossip.Member) { m.Report.Capacity = 3 }, 0.73, 0.77},
		{"more capacity than is believed", func(m *gossip.Member) { m.Report.Capacity = math.Inf(1) }, 0.99, 1},
		{"far from the target", far("us", 40*time.Millisecond), 0, 0.001},
		{"far from the source", far("eu", 40*time.Millisecond), 0.002, 0.02},
		{"a round trip that is unknown", far("us", 0), 0, 0.001},
		{"a round trip below zero", far("us", -time.Hour), 0, 0.001},
	} {
		v := fabricOf(2)
		c.set(&v.Members[0])
		if share := shares(owners(v, 20000))["n00"]; share < c.low || share > c.high {
			t.Errorf("%s: the node has %.1f %% of the pumps, want %.0f to %.0f", c.name, 100*share, 100*c.low, 100*c.high)
		}
	}
}

// A node beside the source and one beside the target: the one beside the target writes.
func TestOwner_IsNearTheTarget(t *testing.T) {
	v := fabricOf(2)
	away := func(r *gossip.Reach) { r.RTT = 150 * time.Millisecond }
	v.Members[0] = reach(v.Members[0], "us", away) // sits at eu
	v.Members[1] = reach(v.Members[1], "eu", away) // sits at us
	if share := shares(owners(v, 20000))["n01"]; share < 0.98 {
		t.Errorf("the node near the target has %.1f %% of the pumps, want nearly all", 100*share)
	}
	weights := v.Candidates("eu", "us")
	if weights[1].Weight != 1 || weights[0].Weight <= 0 || weights[0].Weight > 0.02 {
		t.Errorf("weights are %+v, want 1 near the target and little, but something, far from it", weights)
	}
}

// Who may not own has the reason beside its name, and owns only if nobody else is better off.
func TestOwner_TakesTheBestThereIs(t *testing.T) {
	type change = func(*gossip.Member)
	status := func(s gossip.Status) change { return func(m *gossip.Member) { m.Status = s } }
	draining := func(m *gossip.Member) { m.Report.Draining = true }
	unready := func(m *gossip.Member) { m.Report.Ready = false }
	deaf := func(m *gossip.Member) {
		*m = reach(*m, "eu", func(r *gossip.Reach) { r.Reads, r.Trouble = false, "no answer" })
	}
	dumb := func(m *gossip.Member) { *m = reach(*m, "us", func(r *gossip.Reach) { r.Writes = false }) }
	readOnly := func(m *gossip.Member) { *m = reach(*m, "eu", func(r *gossip.Reach) { r.Writes = false }) }
	cutAndDraining := func(m *gossip.Member) { deaf(m); draining(m) }
	silent := func(m *gossip.Member) { m.Report = gossip.Report{} }
	fine := func(*gossip.Member) {}
	for _, c := range []struct {
		name   string
		n0, n1 change
		owner  string
		why    gossip.Why
		reason string // of n00, within it
	}{
		{"left", status(gossip.Left), fine, "n01", gossip.ByHash, "is left"},
		{"dead", status(gossip.Dead), draining, "n01", gossip.Kept, "is dead"},
		{"draining", draining, fine, "n01", gossip.ByHash, "is draining"},
		{"not ready", unready, fine, "n01", gossip.ByHash, "is not ready"},
		{"no report", silent, fine, "n01", gossip.ByHash, "not reported"},
		{"does not read the source", deaf, fine, "n01", gossip.ByHash, "does not read eu: no answer"},
		{"does not write the target", dumb, fine, "n01", gossip.ByHash, "does not write to us"},
		{"needs not write the source", readOnly, draining, "n00", gossip.ByHash, ""},
		{"no capacity", func(m *gossip.Member) { m.Report.Capacity = math.NaN() }, draining, "n01", gossip.Kept, "no capacity"},
		{"settling is better than cut", deaf, unready, "n01", gossip.Settling, "does not read eu"},
		{"settling is better than draining", draining, unready, "n01", gossip.Settling, "is draining"},
		{"draining is better than cut", draining, deaf, "n00", gossip.Kept, "is draining"},
		{"no report is better than draining", draining, silent, "n01", gossip.Cut, "is draining"},
		{"cut is better than draining and cut", cutAndDraining, deaf, "n01", gossip.Cut, "is draining"},
		{"draining is better than dead", draining, status(gossip.Dead), "n00", gossip.Kept, "is draining"},
		{"draining and cut is better than dead", cutAndDraining, status(gossip.Dead), "n00", gossip.Drained, "is draining"},
		{"nobody", status(gossip.Dead), status(gossip.Left), "", gossip.Nobody, "is dead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := fabricOf(2)
			c.n0(&v.Members[0])
			c.n1(&v.Members[1])
			for i := range 50 {
				if got := v.Owner(work(i)); got.Node != c.owner || got.Why != c.why {
					t.Fatalf("pump %d: %+v, want %s by %s", i, got, c.owner, c.why)
				}
			}
			if got := v.Candidates("eu", "us")[0]; !strings.Contains(got.Reason, c.reason) || (got.Reason == "") != (got.Weight > 0) {
				t.Errorf("n00 is %+v, want the reason %q", got, c.reason)
			}
		})
	}
}

func TestOwner_CutNodesShareTheTrouble(t *testing.T) {
	v := fabricOf(4)
	for i := range v.Members {
		v.Members[i] = reach(v.Members[i], "us", func(r *gossip.Reach) { r.Writes = false })
	}
	for node, share := range shares(owners(v, 4000)) {
		if math.Abs(share-0.25) > 0.03 {
			t.Errorf("node %s has %.1f %% of the pumps that nobody can copy, want 25", node, 100*share)
		}
	}
}

// A cluster that is overloaded may be lost by all nodes at once. Then nothing moves.
func TestOwner_StaysWhenAllLoseACluster(t *testing.T) {
	v := fabricOf(6)
	for i := range v.Members {
		v.Members[i] = reach(v.Members[i], "us", func(r *gossip.Reach) { r.RTT = time.Duration(5+10*(i%3)) * time.Millisecond })
	}
	for i := range 30 {
		v.Pins = append(v.Pins, gossip.Pin{Pump: work(i).Hash(), Node: v.Members[i%6].Name})
	}
	lost := &gossip.View{Members: slices.Clone(v.Members), Pins: v.Pins}
	for i := range lost.Members {
		lost.Members[i] = reach(lost.Members[i], "us", func(r *gossip.Reach) { r.Reads, r.Writes = false, false })
	}
	if got := lost.Owner(work(0)).Why; got != gossip.Cut {
		t.Errorf("the owner is found by %q, want %q", got, gossip.Cut)
	}
	if !slices.Equal(owners(v, 2000), owners(lost, 2000)) {
		t.Error("all nodes lost a cluster, and pumps moved")
	}
}

func TestOwner_PinnedUnlessItsNodeMayNot(t *testing.T) {
	v := fabricOf(3)
	first := v.Owner(work(1)).Node
	other := v.Without(first).Members[0].Name
	pins := []gossip.Pin{{Pump: work(1).Hash(), Node: other}}
	pinned := &gossip.View{Members: v.Members, Pins: pins}
	if got := pinned.Owner(work(1)); got != (gossip.Owner{Node: other, Why: gossip.ByLoad}) {
		t.Errorf("a pinned pump is with %+v, want %s", got, other)
	}
	if got := pinned.Without(other).Owner(work(1)).Node; got != first {
		t.Errorf("a pump whose node is gone is with %s, want %s by hash", got, first)
	}
	for i, m := range v.Members {
		if m.Name == other {
			v.Members[i].Report.Draining = true
		}
	}
	drained := &gossip.View{Members: v.Members, Pins: pins}
	if got := drained.Owner(work(1)).Node; got != first {
		t.Errorf("a pump whose node drains is with %s, want %s by hash", got, first)
	}
}

// All nodes come to the same owners whatever the order in which they learned of each other.
func TestOwner_AllNodesAgree(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v := fabricOf(2 + rng.IntN(12))
		for i := range v.Members {
			m := &v.Members[i]
			m.Report.Capacity = 0.5 + rng.Float64()
			m.Report.Ready, m.Report.Draining = rng.IntN(4) > 0, rng.IntN(6) == 0
			*m = reach(*m, "us", func(r *gossip.Reach) {
				r.Writes, r.RTT = rng.IntN(4) > 0, time.Duration(rng.IntN(200))*time.Millisecond
			})
		}
		for i := range 20 {
			v.Pins = append(v.Pins, gossip.Pin{Pump: work(i).Hash(), Node: v.Members[rng.IntN(len(v.Members))].Name})
		}
		mixed := &gossip.View{Self: "other", Members: slices.Clone(v.Members), Pins: v.Pins}
		rng.Shuffle(len(mixed.Members), func(i, j int) { mixed.Members[i], mixed.Members[j] = mixed.Members[j], mixed.Members[i] })
		if a, b := owners(v, 500), owners(mixed, 500); !slices.Equal(a, b) {
			t.Fatalf("seed %d: two nodes with the same view name other owners", seed)
		}
	}
}

// The quick answer is the first one of the whole order.
func TestOwner_IsTheFirstOfTheRank(t *testing.T) {
	v := fabricOf(9)
	for i := range v.Members {
		v.Members[i].Report.Capacity = float64(1 + i%4)
	}
	candidates := v.Candidates("eu", "us")
	for i := range 5000 {
		if got, want := v.Owner(work(i)).Node, gossip.Rank(work(i).Hash(), candidates)[0].Node; got != want {
			t.Fatalf("pump %d is with %s, and %s is the first of its rank", i, got, want)
		}
	}
}

func TestOwner_MayBeAskedByMany(t *testing.T) {
	v := fabricOf(5)
	v.Pins = []gossip.Pin{{Pump: work(3).Hash(), Node: "n01"}}
	want := owners(&gossip.View{Members: v.Members, Pins: v.Pins}, 500)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if !slices.Equal(owners(v, 500), want) {
				t.Error("the owners depend on who asks at the same time")
			}
			v.Candidates("us", "eu")
		})
	}
	all.Wait()
}

func TestPumpHash_TellsPumpsApart(t *testing.T) {
	seen := map[uint64]gossip.Work{}
	for _, w := range []gossip.Work{{"a", "b", "c", 0}, {"b", "a", "c", 0}, {"ab", "", "c", 0}, {"a", "bc", "", 0}, {"a", "b", "c", 1}, {"a", "b", "c", 1 << 24}, {"a", "b", "d", 0}} {
		if other, ok := seen[w.Hash()]; ok {
			t.Errorf("%+v and %+v have one hash", w, other)
		}
		seen[w.Hash()] = w
	}
	for i := range 100_000 {
		seen[work(i).Hash()] = work(i)
	}
	if len(seen) < 100_000 {
		t.Errorf("100 000 pumps have %d hashes", len(seen))
	}
}

func BenchmarkOwner(b *testing.B) {
	for _, nodes := range []int{10, 50} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			v := fabricOf(nodes)
			for i := range gossip.MaxPins {
				v.Pins = append(v.Pins, gossip.Pin{Pump: uint64(i), Node: "n01"})
			}
			all := make([]gossip.Work, 100_000)
			for i := range all {
				all[i] = work(i)
			}
			b.ReportAllocs()
			for b.Loop() {
				fresh := &gossip.View{Members: v.Members, Pins: v.Pins} // with what is found out once for each view
				for _, w := range all {
					fresh.Owner(w)
				}
			}
		})
	}
}
