package gossip

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

var dcs = []string{"a", "b", "c"}

// quantile of durations, 0 to 1.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[int(q*float64(len(all)-1))]
}

func (n *Node) sees(name string) gossip.Status {
	m, _ := n.Pool.View().Member(name)
	return m.Status
}

func TestFleet_FindsDeadNodesFast(t *testing.T) {
	for _, nodes := range []int{2, 6, 50} {
		var all []time.Duration
		deaths, run := 10, eachSeed
		if nodes == 50 && !full() {
			deaths, run = 3, oneSeed
		}
		run(t, nodes, dcs, func(t *testing.T, f *Fleet) {
			for i := range deaths {
				victim := f.Nodes[(i*7+1)%nodes]
				start := time.Now()
				victim.Host.Kill()
				victim.Kill()
				for _, n := range f.Live() {
					f.Until("death known", 20*time.Second, func() bool { return n.sees(victim.Name) == gossip.Dead })
					all = append(all, time.Since(start))
				}
				victim.Start()
				f.Until("it is back", time.Minute, f.Whole)
				time.Sleep(5 * time.Second)
			}
		})
		t.Logf("%d nodes: death known to all: p50 %v, p99 %v, max %v", nodes, quantile(all, .5), quantile(all, .99), quantile(all, 1))
		nearly := .99
		if !full() {
			nearly = .6 // of few deaths: lost packets make one of them late now and then
		}
		if got := quantile(all, nearly); got > 3*time.Second {
			t.Errorf("%d nodes: a death is known after %v, want at most 3 s (quantile %v)", nodes, got, nearly)
		}
		if got := quantile(all, 1); got > 8*time.Second {
			t.Errorf("%d nodes: a death is known after %v, want at most 8 s ever", nodes, got)
		}
	}
}

func TestFleet_TakesNoLivingNodeForDead(t *testing.T) {
	long := 20 * time.Second
	if full() {
		long = 10 * time.Minute
	}
	oneSeed(t, 50, dcs, func(t *testing.T, f *Fleet) {
		wrong, hours := 0, 0.0
		start := time.Now()
		before, traffic := map[string]gossip.Status{}, f.Nodes[0].Host.Sent()
		for time.Since(start) < long {
			time.Sleep(100 * time.Millisecond)
			for _, n := range f.Nodes {
				for _, m := range n.Pool.View().Members {
					key := n.Name + m.Name
					if m.Status == gossip.Dead && before[key] != gossip.Dead {
						wrong++
					}
					before[key] = m.Status
				}
			}
		}
		hours = float64(len(f.Nodes)) * time.Since(start).Hours()
		if wrong > 0 {
			t.Errorf("%d times a node took a living one for dead", wrong)
		}
		t.Logf("%d false deaths in %.1f node-hours (each counted by each node that sees it); %.1f kB/s", wrong, hours, float64(f.Nodes[0].Host.Sent()-traffic)/1e3/time.Since(start).Seconds())
	})
}
