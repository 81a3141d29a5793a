package fabric

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
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
			everywhere(t, f, log, 300, 40)
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
		var direct map[string]bool
		eventually(t, 3*time.Minute, "all is copied, and the direct link runs", func() bool {
			done, behind := make(map[string]bool), false
			direct = make(map[string]bool)
			for _, n := range nodes {
				for _, l := range n.Set.Status() {
					for _, fl := range l.Flows {
						for _, p := range fl.Pumps {
							key := fmt.Sprint(l.Name, fl.Topic, p.Partition)
							runs := p.State == mirror.StateRunning && p.SourceEnd >= 0
							behind = behind || runs && p.LagRecords > 0
							done[key] = done[key] || runs
							direct[key] = l.Name == "eu-ap" && runs && p.TargetLast > 0 || direct[key]
						}
					}
				}
			}
			for _, runs := range done {
				behind = behind || !runs
			}
			return !behind && len(done) == 3*2*2
		})
		time.Sleep(5 * time.Second)
		if !slices.Contains(slices.Collect(maps.Values(direct)), true) {
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
	for seed := range seeds(3) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rerouting(t, seed, func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node {
				names := []string{"eu-us", "us-ap", "eu-ap"}
				team := f.Share(owner, names...)
				time.Sleep(3 * time.Second)
				victim := names[int(seed+seed/3)%3]
				kill := func() {
					team.Kill(victim)
					time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
					team.Start(victim, owner)
				}
				rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				for _, name := range names {
					change(team.Node(name))
					time.Sleep(time.Duration(rng.IntN(1200)) * time.Millisecond)
					if seed%3 != 0 && name == victim {
						kill()
					}
				}
				if seed%3 != 0 {
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

// Nodes share the work, and share it otherwise while they hear of the change, each at its own time.
func TestReroute_WhileWorkMoves(t *testing.T) {
	for seed := range seeds(1) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rerouting(t, seed, func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node {
				names := []string{"n1", "n2", "n3"}
				team := f.Share(Spread(0, names...), names...)
				time.Sleep(3 * time.Second)
				for i, name := range names {
					team.Move(Spread(i+1, names...), 300*time.Millisecond)
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
					change(team.Node(name))
				}
				for busy() {
					time.Sleep(200 * time.Millisecond)
				}
				return team.Alive()
			})
		})
	}
}

// Two nodes that know nothing of each other have all links, and hear of the change one after the other.
func TestReroute_UnawareOwners(t *testing.T) {
	for seed := range seeds(1) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rerouting(t, seed, func(t *testing.T, f *Fabric, rng *rand.Rand, change func(*Node), busy func() bool) []*Node {
				a, b := f.Start("a"), f.Start("b")
				time.Sleep(3*time.Second + time.Duration(rng.IntN(1000))*time.Millisecond)
				change(a)
				time.Sleep(time.Duration(seed%3) * 700 * time.Millisecond)
				change(b)
				for busy() {
					time.Sleep(200 * time.Millisecond)
				}
				return []*Node{a, b}
			})
		})
	}
}

// A node that begins with the new routes decides the end while the owner that has not heard of them copies on: what that one copied behind the end
// before it heard is not copied again.
func TestReroute_OwnerWhoHearsLate(t *testing.T) {
	rerouting(t, 1, func(t *testing.T, f *Fabric, _ *rand.Rand, change func(*Node), busy func() bool) []*Node {
		late := f.Start("late")
		time.Sleep(3 * time.Second)
		change(nil)
		first := f.Start("first")
		time.Sleep(1500 * time.Millisecond)
		change(late)
		for busy() {
			time.Sleep(200 * time.Millisecond)
		}
		return []*Node{late, first}
	})
}

// of lists the partitions of a topic on a link of a node.
func of(n *Node, link, topic string) (out []mirror.PumpStatus) {
	for _, l := range n.Set.Status() {
		for _, fl := range l.Flows {
			if l.Name == link && fl.Topic == topic {
				out = append(out, fl.Pumps...)
			}
		}
	}
	return out
}

// all reports whether a topic on a link has its partitions, and all are as is said.
func all(n *Node, link, topic string, want func(mirror.PumpStatus) bool) bool {
	list := of(n, link, topic)
	for _, p := range list {
		if !want(p) {
			return false
		}
	}
	return len(list) == 2
}

// The node of the relay is dead when the routes change: the direct link waits for it and says so, and begins when another node has the relay.
func TestReroute_WaitsForTheRelay(t *testing.T) {
	owner := func(p mirror.PumpID) string { return p.From + "-" + p.To }
	rerouting(t, 1, func(t *testing.T, f *Fabric, _ *rand.Rand, change func(*Node), _ func() bool) []*Node {
		team := f.Share(owner, "eu-us", "us-ap", "eu-ap")
		time.Sleep(3 * time.Second)
		team.Kill("us-ap")
		for _, n := range team.Alive() {
			change(n)
		}
		waits := func(p mirror.PumpStatus) bool {
			return p.State == mirror.StateWaiting && p.Cause == mirror.CauseRelay && strings.Contains(p.Reason, "link us-ap has not given up yet what was produced in eu")
		}
		eventually(t, 10*time.Second, "the direct link waits and says for what", func() bool { return all(team.Node("eu-ap"), "eu-ap", "orders", waits) })
		time.Sleep(5 * time.Second)
		if !all(team.Node("eu-ap"), "eu-ap", "orders", waits) {
			t.Errorf("it does not wait any more: %+v", of(team.Node("eu-ap"), "eu-ap", "orders"))
		}
		team.Start("us-ap", owner)
		return team.Alive()
	})
}

// The relay is taken away with the same change, so that nobody says where it stopped: the link halts, copies nothing, and goes on where somebody says,
// for every later owner too.
func TestReroute_UnanchoredWithoutTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>ap"}, Topics: []string{"orders"}, Verbose: testing.Verbose()})
		defer f.Close()
		n := f.Start("n")
		defer func() { n.Stop() }()
		log := judge.NewLog()
		load := judge.Load{Topic: "orders", Partitions: 2, Records: 200, Size: 50, Seed: 1}
		write(t, f, log, "eu", load)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		var ends kadm.ListedOffsets
		admin(t, f, "eu", func(ctx context.Context, a *kadm.Client) (err error) {
			ends, err = a.ListEndOffsets(ctx, "orders")
			return err
		})
		f.Topology = f.text(t, `eu-us eu>us topics = ["*"]`, `eu-ap eu>ap topics = ["*"]`)
		if err := n.Set.Apply(t.Context(), f.Topology); err != nil {
			t.Fatal(err)
		}
		load.Seed = 2
		write(t, f, log, "eu", load)
		halted := func(p mirror.PumpStatus) bool {
			return p.State == mirror.StateHalted && p.Cause == mirror.CauseUnanchored && strings.Contains(p.Reason, "link us-ap brought what was produced in eu") &&
				strings.Contains(p.Reason, "isthmus anchor")
		}
		was := holds(t, f, "ap", "orders")
		for range 2 { // also after a restart
			eventually(t, 20*time.Second, "the link halts as unanchored", func() bool { return all(n, "eu-ap", "orders", halted) })
			time.Sleep(10 * time.Second)
			if now := holds(t, f, "ap", "orders"); now != was {
				t.Fatalf("%d records were copied though nobody knows where to begin", now-was)
			}
			n.Stop()
			n = f.Start("n")
		}
		eventually(t, 20*time.Second, "the link halts as unanchored", func() bool { return all(n, "eu-ap", "orders", halted) })
		for _, p := range []int32{0, 1} {
			end, _ := ends.Lookup("orders", p) // the relay had copied all that was written until then
			if _, err := n.Set.Anchor(t.Context(), mirror.AnchorRequest{Link: "eu-ap", Topic: "orders", Partition: p, At: mirror.AnchorAt(end.Offset), Why: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		n.Kill()
		n = f.Start("n")
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Carries: f.carries})
	})
}

// The routes are put back: the relay halts before what it gave up, and goes on when they are changed once more. Nothing is lost or comes twice.
func TestReroute_PutBackHaltsTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>ap"}, Topics: []string{"orders"}, Verbose: testing.Verbose()})
		defer f.Close()
		before := f.Topology
		n := f.Start("n")
		defer n.Stop()
		log := judge.NewLog()
		load := judge.Load{Topic: "orders", Partitions: 2, Records: 100, Size: 50}
		step := func(topo *topology.Topology) {
			t.Helper()
			f.Topology = topo
			if err := n.Set.Apply(t.Context(), topo); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			load.Seed++
			write(t, f, log, "eu", load)
		}
		step(before)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		after := f.text(t, `eu-us eu>us topics = ["*"]`, `us-ap us>ap topics = ["*"]`, `eu-ap eu>ap topics = ["*"]`)
		step(after)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		step(before)
		eventually(t, 20*time.Second, "the relay halts", func() bool {
			return all(n, "us-ap", "orders", func(p mirror.PumpStatus) bool {
				return p.State == mirror.StateHalted && p.Cause == mirror.CauseUnanchored && strings.Contains(p.Reason, "gave up what was produced in eu at source offset")
			})
		})
		step(after)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Carries: f.carries})
	})
}

// Two links take the place of one relay with the same change: each begins where it stopped for that one.
func TestReroute_TwoHeirsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "sa", "us", "ap"}, Links: []string{"eu>us", "sa>us", "us>ap"}, Topics: []string{"orders"}, Verbose: testing.Verbose()})
		defer f.Close()
		n := f.Start("n")
		defer n.Stop()
		log := judge.NewLog()
		load := judge.Load{Topic: "orders", Partitions: 2, Records: 100, Size: 50}
		both := func() {
			t.Helper()
			for _, c := range []string{"eu", "sa"} {
				load.Seed++
				write(t, f, log, c, load)
			}
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
		}
		both()
		f.Topology = f.text(t, `eu-us eu>us topics = ["*"]`, `sa-us sa>us topics = ["*"]`, `us-ap us>ap topics = ["*"]`,
			`eu-ap eu>ap topics = ["*"]`, `sa-ap sa>ap topics = ["*"]`)
		if err := n.Set.Apply(t.Context(), f.Topology); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		both()
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Carries: f.carries})
	})
}
