package fabric

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// rerouting is a relay eu → us → ap that gets a direct link eu → ap while all write, judged in the end: each record once everywhere, in the order
// of its origin, and every position skips nothing.
func rerouting(t *testing.T, seed uint64, run func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>ap"}, Topics: topics, Seed: seed, Verbose: testing.Verbose()})
		defer f.Close()
		after := f.text(t, `eu-us eu>us topics = ["*"]`, `us-ap us>ap topics = ["*"]`, `eu-ap eu>ap topics = ["*"]`)
		log := judge.NewLog()
		written := make(chan struct{})
		go func() {
			defer close(written)
			everywhere(t, f, log, 400, 40)
		}()
		nodes := run(t, f, rand.New(rand.NewPCG(seed, 17)), func(n *Node) {
			f.Topology = after // of those that start from now on
			if n == nil {
				return
			}
			if err := n.Set.Apply(t.Context(), after); err != nil {
				t.Error(err)
			}
		}, func() bool {
			select {
			case <-written:
				return false
			default:
				return true
			}
		})
		defer func() {
			for _, n := range nodes {
				n.Stop()
			}
		}()
		<-written
		for _, n := range nodes {
			n.heal()
		}
		var direct int64
		eventually(t, 3*time.Minute, "all is copied, and the direct link runs", func() bool {
			seen := 0
			direct = 0
			for _, n := range nodes {
				for _, l := range n.Set.Status() {
					for _, fl := range l.Flows {
						for _, p := range fl.Pumps {
							if p.State == mirror.StateRunning && p.LagRecords == 0 && p.SourceEnd >= 0 {
								seen++
							}
							if p.State == mirror.StateRunning && l.Name == "eu-ap" && p.TargetLast > 0 {
								direct++
							}
						}
					}
				}
			}
			return seen >= 3*2*2
		})
		time.Sleep(5 * time.Second)
		if direct == 0 {
			t.Error("the direct link has copied nothing: the change came too late to be tried")
		}
		v := verdict(t, f, judge.Case{Topics: topics, Log: log, Carries: f.carries})
		for _, n := range nodes {
			if l, err := n.Set.Ledger(""); err != nil || len(l) > 0 {
				t.Errorf("seed %d: ledger of %s: %+v, %v", seed, n.Name, l, err)
			}
		}
		t.Logf("seed %d: %s", seed, v)
	})
}

// One node has all links, and is killed before, while and after the route changes.
func TestReroute_OneNode(t *testing.T) {
	for seed := range seeds(3) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rerouting(t, seed, func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node {
				n := f.Start("n")
				pause := func(most int) { time.Sleep(time.Duration(rng.IntN(most)) * time.Millisecond) }
				kill := func() {
					n.Kill()
					n = f.Start("n")
				}
				time.Sleep(2 * time.Second)
				pause(1500)
				if seed%3 == 1 {
					kill()
					pause(1000)
				}
				change(n)
				pause(600)
				if seed%3 != 0 {
					kill()
					pause(2000)
					kill()
				}
				for busy() {
					pause(1000)
					if seed%3 == 2 && rng.IntN(3) == 0 {
						n.Paths[[]string{"eu", "us", "ap"}[rng.IntN(3)]].Cut()
						pause(500)
						n.heal()
					}
				}
				return []*Node{n}
			})
		})
	}
}

// Each link has a node of its own. They hear of the change one after the other, and one is killed around it.
func TestReroute_NodeForEachLink(t *testing.T) {
	owner := func(p mirror.PumpID) string { return p.From + "-" + p.To }
	for seed := range seeds(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rerouting(t, seed, func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node {
				names := []string{"eu-us", "us-ap", "eu-ap"}
				team := f.Share(owner, names...)
				time.Sleep(3 * time.Second)
				victim := names[int(seed)%3]
				kill := func() {
					team.Kill(victim)
					time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
					team.Start(victim, owner)
				}
				rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				for _, name := range names {
					change(team.Node(name))
					time.Sleep(time.Duration(rng.IntN(1200)) * time.Millisecond)
					if seed%4 != 3 && name == victim {
						kill()
					}
				}
				if seed%4 != 3 {
					kill()
				}
				for busy() {
					time.Sleep(200 * time.Millisecond)
				}
				return team.Alive()
			})
		})
	}
}
