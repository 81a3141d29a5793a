package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// split cuts data center a from the others, both ways.
func split(from, to *Host) bool { return (from.DC == "a") != (to.DC == "a") }

func TestFleet_SplitHealsByItself(t *testing.T) {
	for _, nodes := range []int{6, 50} {
		run := eachSeed
		if nodes == 50 && !full() {
			nodes, run = 20, oneSeed
		}
		run(t, nodes, dcs, func(t *testing.T, f *Fleet) {
			start := time.Now()
			f.Network.Cut(split)
			a, b := f.Nodes[0], f.Nodes[1]
			one, two := time.Duration(0), time.Duration(0)
			for time.Since(start) < 20*time.Second {
				time.Sleep(10 * time.Millisecond)
				if one == 0 && a.Alive() == len(f.Nodes[0:(nodes+2)/3]) {
					one = time.Since(start)
				}
				if two == 0 && b.Alive() == nodes-(nodes+2)/3 {
					two = time.Since(start)
				}
			}
			t.Logf("the cut is known on the small side after %v, on the large one after %v", one, two)
			if a.sees(b.Name) != gossip.Dead || b.sees(a.Name) != gossip.Dead {
				t.Errorf("after 20 s of a cut %s takes %s for %s, and the other way %s; want both dead", a.Name, b.Name, a.sees(b.Name), b.sees(a.Name))
			}
			first, _, err := a.Pool.Propose(context.Background(), set(a, "link/one", "a"))
			if err != nil {
				t.Fatalf("write on one side of a cut: %v", err)
			}
			second, _, err := b.Pool.Propose(context.Background(), set(b, "link/two", "b"))
			if err != nil {
				t.Fatalf("write on the other side of a cut: %v", err)
			}
			time.Sleep(time.Minute - time.Since(start))
			f.Network.Cut(nil)
			healed := time.Now()
			took := f.Until("the fleet is whole again", 30*time.Second, f.Whole)
			liveAt(f, healed, first, 30*time.Second)
			liveAt(f, healed, second, 30*time.Second)
			f.Until("all nodes have the same settings", 30*time.Second, f.equal)
			t.Logf("%d nodes: whole after %v, equal after %v", nodes, took, time.Since(healed))
			stays := time.Now()
			for time.Since(stays) < 20*time.Second {
				if !f.Whole() {
					t.Fatalf("%v after it was whole again a node is missing", time.Since(stays))
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
}

// At 5 % loss chance alone takes a node out for a moment, in about one such minute of thirty: what a cut of one direction did would stay.
func TestFleet_OneWayCutKillsNobody(t *testing.T) {
	const moment = 9 * time.Second // a watcher's word counts for 7 s
	oneSeed(t, 12, dcs, func(t *testing.T, f *Fleet) {
		f.Network.Cut(func(from, to *Host) bool { return from.DC == "a" && to.DC == "b" })
		start := time.Now()
		for whole := start; time.Since(start) < time.Minute; time.Sleep(100 * time.Millisecond) {
			if f.Whole() {
				whole = time.Now()
				continue
			}
			for _, n := range f.Nodes {
				for _, o := range f.Nodes {
					if n.sees(o.Name) != gossip.Alive {
						t.Logf("after %v %s (%s) sees %s (%s) %s", time.Since(start), n.Name, n.DC, o.Name, o.DC, n.sees(o.Name))
					}
				}
			}
			if time.Since(whole) > moment {
				t.Fatalf("a cut of one direction of three took a node out, which the third data center reaches")
			}
		}
	})
}

func TestFleet_DataCenterDies(t *testing.T) {
	eachSeed(t, 12, dcs, func(t *testing.T, f *Fleet) {
		start := time.Now()
		var gone []*Node
		for _, n := range f.Nodes {
			if n.DC == "b" {
				n.Host.Kill()
				gone = append(gone, n)
			}
		}
		for _, n := range gone {
			n.Kill()
		}
		took := f.Until("all nodes of the data center are dead", 10*time.Second, f.Whole)
		t.Logf("known after %v (%v)", time.Since(start), took)
	})
}

func TestFleet_NodeLeavesInGoodOrder(t *testing.T) {
	eachSeed(t, 6, dcs, func(t *testing.T, f *Fleet) {
		n := f.Nodes[2]
		start := time.Now()
		if err := n.Pool.Leave(context.Background()); err != nil {
			t.Fatalf("leave: %v", err)
		}
		n.Kill()
		for _, o := range f.Live() {
			f.Until("it left", 10*time.Second, func() bool { return o.sees(n.Name) == gossip.Left })
			if got := o.Pool.Crashes(n.Name); got != 0 {
				t.Errorf("%s counts %d crashes of a node that left, want none", o.Name, got)
			}
		}
		t.Logf("known after %v", time.Since(start))
		time.Sleep(time.Minute)
		n.Start()
		f.Until("it is back", 20*time.Second, f.Whole)
	})
}

func TestFleet_CountsCrashes(t *testing.T) {
	oneSeed(t, 4, dcs, func(t *testing.T, f *Fleet) {
		n := f.Nodes[2]
		for i := range 3 {
			n.Kill()
			if i != 1 { // once it is back before anybody missed it
				time.Sleep(15 * time.Second)
			}
			time.Sleep(time.Millisecond)
			n.Start()
			f.Until("it is back", 30*time.Second, f.Whole)
			for _, o := range f.Nodes {
				f.Until(fmt.Sprintf("%s counts %d crashes of %s, has %d", o.Name, i+1, n.Name, o.Pool.Crashes(n.Name)), 60*time.Second, func() bool { return o.Pool.Crashes(n.Name) == i+1 })
			}
		}
		time.Sleep(11 * time.Minute)
		for _, o := range f.Nodes {
			if got := o.Pool.Crashes(n.Name); got != 0 {
				t.Errorf("%s counts %d crashes of %s 11 minutes later, want none", o.Name, got, n.Name)
			}
		}
	})
}

func TestFleet_SecondNodeOfANameStepsBack(t *testing.T) {
	for _, skew := range []time.Duration{0, -time.Hour} { // a clock behind does not make it the first
		eachSeed(t, 6, dcs, func(t *testing.T, f *Fleet) {
			first := f.Nodes[3]
			second := &Node{Name: first.Name, DC: "a", Addr: Addr(90), Skew: skew, fleet: f}
			second.Start()
			start := time.Now()
			for {
				for _, o := range f.Nodes {
					if m, _ := o.Pool.View().Member(first.Name); m.Status != gossip.Alive || m.Address != first.Addr || m.Report.DC != first.DC {
						t.Fatalf("%s sees %s as %s at %s in %s, want the first one untouched", o.Name, m.Name, m.Status, m.Address, m.Report.DC)
					}
				}
				if ok, _ := second.Running(); !ok {
					break
				}
				if time.Since(start) > time.Minute {
					t.Fatal("the second node of a name still runs after a minute")
				}
				time.Sleep(50 * time.Millisecond)
			}
			_, err := second.Running()
			if !errors.Is(err, gossip.ErrNameTaken) {
				t.Errorf("the second node ended with %v, want %v", err, gossip.ErrNameTaken)
			}
			t.Logf("after %v: %v", time.Since(start), err)
			second.Kill()
			if ok, err := first.Running(); !ok {
				t.Errorf("the first node ended too: %v", err)
			}
		})
	}
}

func TestFleet_NodeMovesToAnotherAddress(t *testing.T) {
	eachSeed(t, 6, dcs, func(t *testing.T, f *Fleet) {
		n := f.Nodes[5]
		n.Kill()
		n.Addr = Addr(91)
		n.Start() // at once: the others still take the old one for alive
		took := f.Until("it is back at its new address", 30*time.Second, func() bool {
			for _, o := range f.Nodes {
				if m, _ := o.Pool.View().Member(n.Name); m.Address != n.Addr || m.Status != gossip.Alive {
					return false
				}
			}
			return f.Whole()
		})
		time.Sleep(30 * time.Second)
		if ok, err := n.Running(); !ok {
			t.Errorf("it ended: %v", err)
		}
		t.Logf("after %v", took)
	})
}

func TestFleet_StrangersStayOut(t *testing.T) {
	for name, change := range map[string]func(*gossip.Config){
		"wrong key":              func(c *gossip.Config) { c.Keys = [][]byte{Key(9)} },
		"no key":                 func(c *gossip.Config) { c.Keys = nil },
		"another fabric":         func(c *gossip.Config) { c.Fabric = "sales" },
		"another fabric, no key": func(c *gossip.Config) { c.Fabric, c.Keys = "sales", nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := NewFleet(t, 1, 4, dcs...)
				f.WAN()
				var ours, theirs lines
				f.Config = func(_ *gossip.Config, d *gossip.Deps) { d.Log = slog.New(&ours) }
				f.Start()
				defer f.Stop()
				f.Until("whole", time.Minute, f.Whole)
				stranger := &Node{Name: "stranger", DC: "a", Addr: Addr(80), fleet: f}
				f.Config = func(c *gossip.Config, d *gossip.Deps) { change(c); d.Log = slog.New(&theirs) }
				stranger.Start()
				time.Sleep(time.Minute)
				// A line on both sides, and no storm: a minute, four members, and the few ways in which a packet can be wrong.
				if n := ours.count("gossip refused"); n < 1 || n > 16 {
					t.Errorf("the members say %d times that they refused something, want it once a minute each", n)
				}
				if n := theirs.count("seed not reached"); n < 1 || n > 2 {
					t.Errorf("the stranger says %d times that it reaches no seed, want it once a minute", n)
				}
				for _, n := range f.Nodes {
					if _, ok := n.Pool.View().Member("stranger"); ok {
						t.Errorf("%s took the stranger in", n.Name)
					}
				}
				if !f.Whole() {
					t.Error("the stranger took a node out")
				}
				if stranger.Alive() != 1 {
					t.Errorf("the stranger sees %d nodes, want itself alone", stranger.Alive())
				}
				if err := stranger.Pool.Trouble(); err == nil {
					t.Error("the stranger has no trouble, want the reason why it is alone")
				} else {
					t.Log(err)
				}
				stranger.Kill()
			})
		})
	}
}

// lines counts the warnings of a log by their messages.
type lines struct {
	mu   sync.Mutex
	said map[string]int
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *lines) WithGroup(string) slog.Handler                    { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said == nil {
		l.said = make(map[string]int)
	}
	l.said[r.Message]++
	return nil
}

func (l *lines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said[message]
}
