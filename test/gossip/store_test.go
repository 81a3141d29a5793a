package gossip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// shelf is a store that outlives all nodes.
type shelf struct {
	name string

	mu      sync.Mutex
	down    bool
	changes map[gossip.Time]gossip.Change
	saves   int
}

func newShelf(name string) *shelf {
	return &shelf{name: name, changes: make(map[gossip.Time]gossip.Change)}
}

func (s *shelf) Name() string { return s.name }

func (s *shelf) Load(context.Context) (all []gossip.Change, err error) {
	time.Sleep(200 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("not reachable")
	}
	for _, c := range s.changes {
		all = append(all, c)
	}
	return all, nil
}

func (s *shelf) Save(_ context.Context, changes ...gossip.Change) error {
	time.Sleep(100 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errors.New("not reachable")
	}
	s.saves++
	for _, c := range changes {
		s.changes[c.Version] = c
	}
	return nil
}

func (s *shelf) Drop(_ context.Context, versions ...gossip.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range versions {
		delete(s.changes, v)
	}
	return nil
}

func (s *shelf) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.changes)
}

func TestFleet_SettingsOutliveAllNodes(t *testing.T) {
	oneSeed(t, 5, dcs, func(t *testing.T, f *Fleet) {
		x, y := newShelf("x"), newShelf("y")
		var hidden atomic.Bool // y is not reached
		restart := func() {
			for _, n := range f.Nodes {
				n.Kill()
			}
			time.Sleep(10 * time.Second)
			f.Start()
			for _, n := range f.Nodes {
				<-n.Pool.Loaded()
				n.Pool.Tell(gossip.Report{DC: n.DC, Capacity: 1, Ready: true, Reach: map[string]gossip.Reach{"x": {Reads: true, Writes: true}, "y": {Reads: true, Writes: true}}})
			}
			f.Until("whole", time.Minute, f.Whole)
			time.Sleep(2 * time.Second)
		}
		f.Config = func(_ *gossip.Config, d *gossip.Deps) {
			d.Stores = func() []gossip.Store {
				if hidden.Load() {
					return []gossip.Store{x}
				}
				return []gossip.Store{x, y}
			}
		}
		restart()
		write := func(i int) string {
			t.Helper()
			n := f.Nodes[i%5]
			_, note, err := n.Pool.Propose(context.Background(), set(n, fmt.Sprintf("link/l%d/rate", i), "1"))
			if err != nil {
				t.Fatal(err)
			}
			return note
		}
		if note := write(1); note != "" || x.count() != 1 || y.count() != 1 {
			t.Errorf("a write is in %d and %d stores, with note %q; want it in both, without", x.count(), y.count(), note)
		}
		y.set(true)
		if note := write(2); !strings.Contains(note, "cluster y") || x.count() != 2 {
			t.Errorf("a write while a cluster is away gives note %q, want the cluster named", note)
		}
		y.set(false)
		f.Until("the cluster that was away has it too", 30*time.Second, func() bool { return y.count() == 2 })
		hidden.Store(true)
		if note := write(3); !strings.Contains(note, "cluster y") || x.count() != 3 {
			t.Errorf("a write while a cluster is not reached gives note %q, want the cluster named", note)
		}
		hidden.Store(false)
		f.Until("the cluster that was not reached has it too", 30*time.Second, func() bool { return y.count() == 3 })
		restart()
		for _, n := range f.Nodes {
			if n.value("link/l1/rate") != "1" || n.value("link/l2/rate") != "1" {
				t.Errorf("%s does not have the settings after all nodes restarted", n.Name)
			}
		}
		// What only one cluster has, the other one gets.
		x.mu.Lock()
		clear(x.changes)
		x.mu.Unlock()
		saves := x.saves
		f.Until("the cluster that lost them has them again", 5*time.Minute, func() bool { return x.count() == 3 })
		if got := x.saves - saves; got != 1 {
			t.Errorf("%d nodes brought back what the cluster lost, want one", got)
		}
		x.set(true)
		y.set(true)
		start := time.Now()
		for _, n := range f.Nodes {
			n.Kill()
		}
		f.Start()
		for _, n := range f.Nodes {
			<-n.Pool.Loaded()
		}
		if took := time.Since(start); took > 40*time.Second {
			t.Errorf("without any cluster the nodes waited %v for their stores", took)
		}
	})
}

// TestFleet_StoreDoesNotGrowForEver: a setting that is written again and again leaves no more in the store than the history keeps.
func TestFleet_StoreDoesNotGrowForEver(t *testing.T) {
	oneSeed(t, 2, dcs, func(t *testing.T, f *Fleet) {
		x := newShelf("x")
		f.Config = func(_ *gossip.Config, d *gossip.Deps) {
			d.Stores = func() []gossip.Store { return []gossip.Store{x} }
		}
		for _, n := range f.Nodes {
			n.Kill()
		}
		time.Sleep(10 * time.Second)
		f.Start()
		f.Until("whole", time.Minute, f.Whole)
		once := set(f.Nodes[0], "link/once/rate", "1")
		if _, _, err := f.Nodes[0].Pool.Propose(context.Background(), once); err != nil {
			t.Fatal(err)
		}
		for i := range 1600 {
			f.Until("it is written", time.Minute, func() bool { // a packet may get lost
				_, _, err := f.Nodes[1].Pool.Propose(context.Background(), set(f.Nodes[1], "link/often/rate", fmt.Sprint(i)))
				return err == nil
			})
		}
		f.Until("what means nothing any more is out of the store", 10*time.Minute, func() bool { return x.count() < 1300 })
		time.Sleep(5 * time.Minute) // nobody brings it back
		if got := x.count(); got < 1000 || got >= 1300 {
			t.Errorf("the store holds %d changes, want the 1000 that are kept and a little more", got)
		}
		all, err := x.Load(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		fresh := gossip.NewSettings(gossip.NewClock("z", time.Now))
		if _, err := fresh.Merge(all...); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"link/once/rate": "1", "link/often/rate": "1599"} {
			if v, _ := fresh.Get(key); string(v.Value) != want {
				t.Errorf("by the store %s is %q, want %q", key, v.Value, want)
			}
		}
	})
}
