package fabric

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// sharing runs a test of some nodes that share the work of one link with a steady load, and judges it in the end.
func sharing(t *testing.T, seed uint64, partitions int32, names []string, run func(t *testing.T, f *Fabric, team *Team)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"},
			Partitions: partitions, Seed: seed, Verbose: testing.Verbose()})
		defer f.Close()
		owner := Spread(0, names...)
		team := f.Share(owner, names...)
		defer team.Stop()
		log := judge.NewLog()
		stop := flowing(t, f, log, "orders", partitions)
		settled(t, team, "orders", int(partitions), owner)
		run(t, f, team)
		stop()
		if err := AllCaughtUp(2*time.Minute, team, log, "orders"); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
		for _, n := range team.Alive() {
			if l, err := n.Set.Ledger(""); err != nil || len(l) > 0 {
				t.Errorf("ledger of %s: %+v, %v", n.Name, l, err)
			}
		}
	})
}

// A node dies; the others begin with what was its own as soon as their views tell.
func TestSharing_KilledNodeIsReplacedAtOnce(t *testing.T) {
	const partitions = 16
	sharing(t, 1, partitions, []string{"n1", "n2", "n3"}, func(t *testing.T, f *Fabric, team *Team) {
		time.Sleep(3 * time.Second)
		w := watch(t, f, "us", "orders", partitions)
		time.Sleep(time.Second)
		w.reset()
		team.Kill("n2")
		team.Move(Spread(0, "n1", "n3"), 0) // as soon as it is known
		time.Sleep(4 * time.Second)
		p50, most := p50max(w.reset())
		t.Logf("killed: stillness p50 %v, max %v", p50, most)
		if most > 2*time.Second {
			t.Errorf("a partition stood still for %v after its node was killed and the views told of it", most)
		}
		settled(t, team, "orders", partitions, Spread(0, "n1", "n3"))
		w.reset()
		team.Start("n2", Spread(0, "n1", "n2", "n3"))
		team.Move(Spread(0, "n1", "n2", "n3"), 100*time.Millisecond)
		time.Sleep(6 * time.Second)
		settled(t, team, "orders", partitions, Spread(0, "n1", "n2", "n3"))
		if p50, most := p50max(w.reset()); most > time.Second {
			t.Errorf("the node came back: stillness p50 %v, max %v", p50, most)
		}
		w.stop()
	})
}

// Both halves of a split own everything for a minute, and no message gets through.
func TestSharing_BothOwnEverything(t *testing.T) {
	for seed := range seeds(1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			sharing(t, seed, 8, []string{"n1", "n2"}, func(t *testing.T, f *Fabric, team *Team) {
				var heals atomic.Bool
				team.Post.Cut = func(string, string) bool { return !heals.Load() }
				team.See("n1", Only("n1"))
				team.See("n2", Only("n2"))
				time.Sleep(time.Minute)
				heals.Store(true)
				for _, n := range team.Alive() {
					if got := here(n, "orders"); got != 8 {
						t.Errorf("%s has %d partitions, want all of them on both sides", n.Name, got)
					}
				}
				healed := Spread(1, "n1", "n2")
				team.Move(healed, time.Second)
				time.Sleep(2 * time.Second)
				settled(t, team, "orders", 8, healed)
			})
		})
	}
}

// One of two nodes hears nothing, or is not heard. Who copied goes on until it is beaten to a batch, which a steady load may put off for long; all
// flows meanwhile, and the owner has it as soon as both hear each other.
func TestSharing_OneWay(t *testing.T) {
	for _, deaf := range []string{"n1", "n2"} {
		t.Run("to "+deaf, func(t *testing.T) {
			sharing(t, 4, 8, []string{"n1", "n2"}, func(t *testing.T, f *Fabric, team *Team) {
				var heals atomic.Bool
				team.Post.Cut = func(_, to string) bool { return to == deaf && !heals.Load() }
				owner := Only("n1")
				team.Move(owner, 0)
				w := watch(t, f, "us", "orders", 8)
				time.Sleep(10 * time.Second)
				if p50, most := p50max(w.reset()); most > 2*time.Second {
					t.Errorf("one is deaf: stillness p50 %v, max %v", p50, most)
				}
				w.stop()
				heals.Store(true)
				settled(t, team, "orders", 8, owner)
			})
		})
	}
}

// What nodes say to each other is lost, doubled and out of order, while pumps move all the time and views differ.
func TestSharing_BadPost(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			names := []string{"n1", "n2", "n3"}
			sharing(t, seed, 12, names, func(t *testing.T, f *Fabric, team *Team) {
				team.Post.Lose, team.Post.Double, team.Post.Scatter = 0.3, 0.3, 900*time.Millisecond
				for turn := range 12 {
					team.Move(Spread(turn, names[turn%2:]...), 700*time.Millisecond)
					time.Sleep(time.Duration(f.rng.Int64N(int64(2 * time.Second))))
				}
				time.Sleep(time.Second) // the last views arrive
				owner := Spread(5, names...)
				team.Move(owner, 0)
				time.Sleep(5 * time.Second)
				settled(t, team, "orders", 12, owner)
			})
		})
	}
}

// A node that is told to stop lets the others take over first.
func TestSharing_DrainBeforeTheEnd(t *testing.T) {
	const partitions = 16
	names := []string{"n1", "n2", "n3"}
	sharing(t, 6, partitions, names, func(t *testing.T, f *Fabric, team *Team) {
		time.Sleep(2 * time.Second)
		w := watch(t, f, "us", "orders", partitions)
		time.Sleep(time.Second)
		w.reset()
		for i, name := range names {
			rest := append(append([]string(nil), names[:i]...), names[i+1:]...)
			n := team.Node(name)
			team.Move(Spread(i, rest...), 100*time.Millisecond)
			began := time.Now()
			n.Set.Drain(context.Background())
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s drained for %v", name, took)
			}
			if got := copies("orders", n); got > 0 {
				t.Errorf("%s still copies %d partitions", name, got)
			}
			team.Leave(name)
			time.Sleep(time.Second)
			team.Start(name, Spread(i, rest...))
			time.Sleep(2 * time.Second)
		}
		team.Move(Spread(1, names...), 100*time.Millisecond)
		time.Sleep(3 * time.Second)
		p50, most := p50max(w.reset())
		t.Logf("rolling restart: stillness p50 %v, max %v", p50, most)
		if most > time.Second {
			t.Errorf("a partition stood still for %v in a rolling restart", most)
		}
		w.stop()
		settled(t, team, "orders", partitions, Spread(1, names...))
	})
}

// A node that nobody takes over from does not wait for long.
func TestSharing_DrainAlone(t *testing.T) {
	sharing(t, 7, 4, []string{"n1"}, func(t *testing.T, f *Fabric, team *Team) {
		began := time.Now()
		team.Node("n1").Set.Drain(context.Background())
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a node alone drained for %v", took)
		}
	})
}

// Any node translates partitions that another one copies, by what is durable.
func TestSharing_TranslateOnAnyNode(t *testing.T) {
	sharing(t, 8, 4, []string{"n1", "n2"}, func(t *testing.T, f *Fabric, team *Team) {
		time.Sleep(5 * time.Second)
		for _, n := range team.Alive() {
			for p := range int32(4) {
				got, err := n.Set.Translate(t.Context(), "eu-us", "orders", p, 20, false)
				if err != nil || got.Result != 20 || !got.Exact {
					t.Errorf("%s, partition %d: %+v, %v; want exactly offset 20", n.Name, p, got, err)
				}
				back, err := n.Set.Translate(t.Context(), "eu-us", "orders", p, 20, true)
				if err != nil || back.Result != 20 {
					t.Errorf("%s, partition %d, back: %+v, %v; want offset 20", n.Name, p, back, err)
				}
			}
			if here(n, "orders") == 4 {
				t.Errorf("%s has all partitions: nothing was asked of the store", n.Name)
			}
		}
		for _, n := range team.Alive() {
			for _, p := range pumps(n, "orders") {
				if p.State == mirror.StateElsewhere && (p.BufferedBytes != 0 || p.Runs != 0 || p.Reason == "") {
					t.Errorf("%s: a pump that is elsewhere holds something: %+v", n.Name, p)
				}
			}
		}
	})
}

// The load of a pump is what it copies, and the heaviest come first.
func TestSharing_Loads(t *testing.T) {
	sharing(t, 9, 8, []string{"n1", "n2"}, func(t *testing.T, f *Fabric, team *Team) {
		time.Sleep(20 * time.Second)
		seen := 0
		for _, n := range team.Alive() {
			bytes, heavy := n.Set.Loads(3)
			sum := 0.0
			for i, l := range heavy {
				if i > 0 && l.Bytes > heavy[i-1].Bytes {
					t.Errorf("%s: loads are not in order: %+v", n.Name, heavy)
				}
				if l.Lagging {
					t.Errorf("%s: %s lags, though it does not", n.Name, l.Pump)
				}
				sum += l.Bytes
				seen++
			}
			if len(heavy) > 3 || bytes < sum || here(n, "orders") > 0 && bytes < 1000 {
				t.Errorf("%s copies %.0f bytes/s, of which %+v", n.Name, bytes, heavy)
			}
		}
		if seen == 0 {
			t.Error("no load was told")
		}
	})
}

// A topic comes and grows while two nodes share its partitions. The second, which has none of the first ones and never read
// what is noted of them, makes the new ones on the target by itself: the first is not there.
func TestSharing_NewTopicAndPartitions(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		owner := func(p mirror.PumpID) string {
			if p.Topic == "late" && p.Partition < 2 {
				return "n1"
			}
			return "n2"
		}
		team := f.Share(owner, "n1", "n2")
		defer team.Stop()
		time.Sleep(5 * time.Second)
		createTopic(t, f, "eu", "late", 2, nil)
		write(t, f, log, "eu", judge.Load{Topic: "late", Partitions: 2, Records: 20, Size: 50, Seed: 1})
		arrives(t, f, "late", 20, 8*time.Second)
		team.Leave("n1")
		setPartitions(t, f, "eu", "late", 12)
		write(t, f, log, "eu", judge.Load{Topic: "late", Partitions: 12, Records: 300, Size: 50, Seed: 2})
		eventually(t, 10*time.Second, "the second node copies the new partitions", func() bool { return copies("late", team.Node("n2")) == 10 })
		team.Start("n1", owner)
		arrives(t, f, "late", 320, 10*time.Second)
		settled(t, team, "late", 12, owner)
		verdict(t, f, judge.Case{Topics: []string{"late"}, Log: log})
	})
}
