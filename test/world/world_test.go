package world

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/test/fabric"
	nets "github.com/isthmus-project/isthmus/test/gossip"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

var (
	topics = []string{"orders", "payments"}
	four   = []string{"eu-1@frankfurt", "eu-2@frankfurt", "us-1@virginia", "us-2@virginia"}
	// partitions of each topic, and what both links carry of both.
	partitions = pick(4, 8)
	pumps      = 2 * len(topics) * partitions
)

// full tells whether the long form of the suite is asked for, as package gossip says.
func full() bool { return os.Getenv("ISTHMUS_SEEDS") != "" }

// pick is a size: for CI, or in full.
func pick[T any](ci, all T) T {
	if full() {
		return all
	}
	return ci
}

// pair is two clusters linked both ways, with four nodes.
func pair(t *testing.T, run func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := New(t, fabric.Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Topics: topics, Partitions: int32(partitions), Seed: 1}, 1, four...)
		defer w.Close()
		w.StartAll()
		run(t, w)
	})
}

// load writes to both clusters until stop, and wants all of it to be right then.
func load(t *testing.T, w *World) (stop func()) {
	t.Helper()
	log := judge.NewLog()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	n := 0
	for i, c := range []string{"eu", "us"} {
		for j, topic := range topics {
			n++
			go func() {
				done <- judge.Write(ctx, w.Client(c), judge.Load{Topic: topic, Partitions: int32(partitions), Rate: pick(30, 60), Size: 80,
					Compression: "snappy", Seed: uint64(10*i + j + 1)}, log)
			}()
		}
	}
	end := sync.OnceFunc(func() {
		cancel()
		for range n {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	w.ends = append(w.ends, end)
	return func() {
		t.Helper()
		end()
		time.Sleep(2 * time.Second) // what the links know of the sources' ends may be a second old
		w.Until("everything is copied", 2*time.Minute, w.caughtUp)
		time.Sleep(10 * time.Second) // what is elsewhere is known from what is durable
		v, err := judge.Case{Topics: topics, Log: log, Clusters: w.Clients(), Ways: w.ways()}.Check(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !v.OK() {
			t.Errorf("%s", v)
		}
		t.Log(v)
	}
}

// seen is an error while a partition's source was not seen for more than a moment.
func (w *World) seen() error {
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if p.State == "running" && (p.SeenAgo < 0 || p.SeenAgo > 2*time.Second) {
						return fmt.Errorf("%s: %s %s:%d was seen %v ago", n.Name, l.Name, f.Topic, p.Partition, p.SeenAgo)
					}
				}
			}
		}
	}
	return nil
}

// caughtUp is an error while something at a source is not copied.
func (w *World) caughtUp() error {
	if err := w.Agreed(); err != nil {
		return err
	}
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if p.State == "running" && (p.LagRecords > 0 || p.SeenAgo < 0 || p.SeenAgo > time.Second) {
						return fmt.Errorf("%s: %s %s:%d is %d records behind", n.Name, l.Name, f.Topic, p.Partition, p.LagRecords)
					}
				}
			}
		}
	}
	return nil
}

// TestWorld_BothHalvesOfASplitOwnEverything cuts the gossip in two: both halves copy the same partitions, and nothing
// is doubled or reordered. It heals by itself.
func TestWorld_BothHalvesOfASplitOwnEverything(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		stop := load(t, w)
		time.Sleep(5 * time.Second)
		half := func(h *nets.Host) bool { return strings.HasPrefix(h.Name, "eu") }
		w.Net.Cut(func(from, to *nets.Host) bool { return half(from) != half(to) })
		split := time.Now()
		eu, us := w.Nodes[:2], w.Nodes[2:]
		// By its own view each half owns every partition.
		w.Until("each half counts on itself alone", 20*time.Second, func() error {
			for _, side := range [][]*Node{eu, us} {
				for _, n := range side {
					got, err := n.API.Nodes(context.Background())
					if err != nil {
						return err
					}
					owned := int32(0)
					for _, m := range got.GetMembers() {
						if slices.ContainsFunc(side, func(n *Node) bool { return n.Name == m.GetName() }) {
							owned += m.GetOwned()
						}
					}
					if int(owned) != pumps {
						return fmt.Errorf("by the view of %s its half owns %d of %d partitions", n.Name, owned, pumps)
					}
				}
			}
			return nil
		})
		time.Sleep(time.Until(split.Add(pick(30*time.Second, time.Minute))))
		var fenced int64
		for _, n := range w.Nodes {
			for _, l := range n.Set().Status() {
				for _, f := range l.Flows {
					for _, p := range f.Pumps {
						fenced += p.Fenced
					}
				}
			}
		}
		if fenced == 0 {
			t.Error("no partition met another owner: was it a split?")
		}
		w.Net.Cut(nil)
		took := w.Until("the halves share the work again", 30*time.Second, func() error {
			for _, n := range w.Nodes {
				if alive := n.alive(); alive != 4 {
					return fmt.Errorf("%s knows %d live nodes", n.Name, alive)
				}
			}
			return w.Agreed()
		})
		t.Logf("fenced %d times; healed within %v", fenced, took)
		stop()
	})
}

// alive is how many live nodes a node knows.
func (n *Node) alive() (alive int) {
	got, err := n.API.Nodes(context.Background())
	if err != nil {
		return 0
	}
	for _, m := range got.GetMembers() {
		if m.GetStatus().String() == "MEMBER_STATUS_ALIVE" {
			alive++
		}
	}
	return alive
}

// probeInterval is the probes' own default.
const probeInterval = 2 * time.Second

// TestWorld_HalfOpenPathMovesTheWork lets one direction between a node and a cluster vanish: its work is elsewhere within two probe
// intervals, although every member is alive all the time.
func TestWorld_HalfOpenPathMovesTheWork(t *testing.T) {
	for _, tc := range []struct {
		name, cluster string
		cut           func(*fabric.Path)
	}{
		{"answers vanish", "eu", (*fabric.Path).Deaf}, {"requests vanish", "us", (*fabric.Path).Mute},
		{"answers vanish", "us", (*fabric.Path).Deaf}, {"requests vanish", "eu", (*fabric.Path).Mute},
	}[:pick(2, 4)] {
		t.Run(tc.name+" of "+tc.cluster, func(t *testing.T) {
			pair(t, func(t *testing.T, w *World) {
				stop := load(t, w)
				time.Sleep(12 * time.Second) // all are ready
				w.Until("all agree", time.Minute, w.Agreed)
				n := w.Nodes[0]
				had := 0
				for _, by := range w.Copies(w.Nodes...) {
					if by[0] == n.Name {
						had++
					}
				}
				if had == 0 {
					t.Fatal("the node copies nothing: nothing is shown")
				}
				tc.cut(n.Paths[tc.cluster])
				others := slices.DeleteFunc(w.Running(), func(o *Node) bool { return o == n })
				took := w.Until("the others copy everything", 30*time.Second, func() error {
					for _, o := range w.Nodes {
						if alive := o.alive(); alive != 4 {
							t.Errorf("%s knows %d live nodes: that is not what was cut", o.Name, alive)
						}
					}
					return w.AgreedAmong(others...)
				})
				t.Logf("%d partitions are elsewhere after %v", had, took)
				if took > 2*probeInterval {
					t.Errorf("it took %v to move, want at most %v", took, 2*probeInterval)
				}
				n.Paths[tc.cluster].Heal()
				back := w.Until("the node has work again", 2*time.Minute, func() error {
					for _, by := range w.Copies(w.Nodes...) {
						if slices.Contains(by, n.Name) {
							return w.Agreed()
						}
					}
					return errors.New("it copies nothing")
				})
				// It reads over new connections, and does not wait for the end of those that were dead.
				t.Logf("work again after %v; all sources seen %v later", back, w.Until("all sources are seen", 5*time.Second, w.seen))
				stop()
			})
		})
	}
}

// TestWorld_CrashAndRestart kills a node, and restarts others in good order, under load.
func TestWorld_CrashAndRestart(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		stop := load(t, w)
		time.Sleep(10 * time.Second)
		n := w.Nodes[2]
		n.Kill()
		took := w.Until("the others copy everything", 30*time.Second, func() error { return w.AgreedAmong(w.Running()...) })
		t.Logf("taken over within %v", took)
		if took > 5*time.Second {
			t.Errorf("it took %v to take over from a dead node, want at most 5 s", took)
		}
		n.Start()
		for _, n := range w.Nodes {
			w.Until("all agree", time.Minute, w.Agreed)
			time.Sleep(10 * time.Second)
			began := time.Now()
			n.Stop()
			ended := time.Since(began)
			took := w.Until("the others copy everything", 30*time.Second, func() error { return w.AgreedAmong(w.Running()...) })
			t.Logf("%s ended within %v; all else runs after %v", n.Name, ended, took)
			n.Start()
		}
		w.Until("all agree", time.Minute, w.Agreed)
		stop()
	})
}

// views are what all nodes would give to whom.
func views(w *World) []*gossip.View {
	var out []*gossip.View
	for _, n := range w.Running() {
		out = append(out, n.View())
	}
	return out
}

// TestWorld_AllViewsAgree: nodes that see the same members give every partition to the same one.
func TestWorld_AllViewsAgree(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		time.Sleep(20 * time.Second)
		owners := make(map[gossip.Work]map[string]bool)
		for _, v := range views(w) {
			for _, topic := range topics {
				for p := range int32(partitions) {
					work := gossip.Work{From: "eu", To: "us", Topic: topic, Partition: p}
					if owners[work] == nil {
						owners[work] = make(map[string]bool)
					}
					owners[work][v.Owner(work).Node] = true
				}
			}
		}
		for work, nodes := range owners {
			if len(nodes) != 1 {
				t.Errorf("%v is of %v", work, slices.Sorted(maps.Keys(nodes)))
			}
		}
	})
}
