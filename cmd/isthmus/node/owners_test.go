package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// fleet is a view of some nodes that all reach all of some clusters.
func fleet(nodes, clusters int) *gossip.View {
	v := &gossip.View{Self: "n00"}
	for i := range nodes {
		reach := make(map[string]gossip.Reach)
		for c := range clusters {
			reach[fmt.Sprintf("c%02d", c)] = gossip.Reach{Reads: true, Writes: true, RTT: 5 * time.Millisecond}
		}
		v.Members = append(v.Members, gossip.Member{Name: fmt.Sprintf("n%02d", i), Status: gossip.Alive,
			Report: gossip.Report{Started: 1, Seq: 1, Capacity: 1, Ready: true, Reach: reach}})
	}
	return v
}

// next is a view with one member changed.
func next(v *gossip.View, member int, change func(*gossip.Member)) *gossip.View {
	members := slices.Clone(v.Members)
	change(&members[member])
	return &gossip.View{Self: v.Self, Members: members, Pins: v.Pins}
}

func pumps(n, clusters int) (ids []mirror.PumpID) {
	for i := range n {
		ids = append(ids, mirror.PumpID{From: fmt.Sprintf("c%02d", i%clusters), To: fmt.Sprintf("c%02d", (i+1+i/clusters%(clusters-1))%clusters), Topic: fmt.Sprint("t", i/16), Partition: int32(i % 16)})
	}
	return ids
}

// TestOwners_LoadsAreNoNews: reports of loads come all the time. They must not make a node look at all its partitions again, nor
// forget who had them before a change.
func TestOwners_LoadsAreNoNews(t *testing.T) {
	o, v, now := newOwners("n00"), fleet(3, 3), time.Unix(1, 0)
	if !o.see(v, now) {
		t.Error("the first view is no news")
	}
	var moved []mirror.PumpID
	v = next(v, 1, func(m *gossip.Member) { m.Report.Ready = false })
	before := o.now
	if !o.see(v, now) {
		t.Error("a node that takes no work any more is no news")
	}
	for _, id := range pumps(200, 3) {
		if before.Owner(workOf(id)).Node == "n01" && v.Owner(workOf(id)).Node == "n00" {
			moved = append(moved, id)
		}
	}
	for i := range 2 * maxViews {
		v = next(v, 2, func(m *gossip.Member) { m.Report.Bytes, m.Report.Seq = float64(i), uint64(i+2) })
		if o.see(v, now) {
			t.Fatal("a load is news")
		}
	}
	for _, id := range moved {
		if got := o.Before(id); got != "n01" {
			t.Errorf("%v was of %q before, want n01", id, got)
		}
	}
	if len(moved) == 0 {
		t.Error("nothing moved: nothing is shown")
	}
	for name, change := range map[string]func(*gossip.Member){
		"status":   func(m *gossip.Member) { m.Status = gossip.Dead },
		"draining": func(m *gossip.Member) { m.Report.Draining = true },
		"capacity": func(m *gossip.Member) { m.Report.Capacity = 2 },
		"report":   func(m *gossip.Member) { m.Report = gossip.Report{} },
		"reach":    func(m *gossip.Member) { m.Report.Reach = map[string]gossip.Reach{"c00": {Reads: true}} },
	} {
		if !o.see(next(v, 2, change), now) {
			t.Errorf("another %s is no news", name)
		}
		o.see(v, now)
	}
	if !o.see(&gossip.View{Self: v.Self, Members: v.Members, Pins: []gossip.Pin{{Pump: 1, Node: "n01"}}}, now) {
		t.Error("a pin is no news")
	}
}

// BenchmarkOwners is what a change of the view costs with 50 nodes and 10 000 partitions of some 200 links.
func BenchmarkOwners(b *testing.B) {
	ids := pumps(10_000, 15)
	for _, bench := range []struct {
		name string
		ask  func(*owners, mirror.PumpID) string
	}{{"Owner", (*owners).Owner}, {"Before", (*owners).Before}} {
		b.Run(bench.name, func(b *testing.B) {
			o, v := newOwners("n00"), fleet(50, 15)
			for i := range maxViews {
				v = next(v, 1+i%49, func(m *gossip.Member) { m.Report.Draining = !m.Report.Draining })
				o.see(v, time.Unix(int64(i)/10, 0))
			}
			for b.Loop() {
				v = next(v, 1, func(m *gossip.Member) { m.Report.Ready = !m.Report.Ready })
				o.see(v, time.Unix(7, 0))
				for _, id := range ids {
					bench.ask(o, id)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/partition")
		})
	}
}
