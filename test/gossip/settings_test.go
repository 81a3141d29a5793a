package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// set is a change of one key, as its author sees it now.
func set(n *Node, key, value string) gossip.Change {
	v, _ := n.Settings.Get(key)
	return gossip.Change{Author: "test", Reason: "because", Entries: []gossip.Entry{{Key: key, Value: []byte(value), Base: v.Version}}}
}

func (n *Node) value(key string) string {
	v, _ := n.Settings.Get(key)
	return string(v.Value)
}

// liveAt waits until a change is live on every node, and returns when it was on each.
func liveAt(f *Fleet, start time.Time, c gossip.Change, limit time.Duration) (all []time.Duration) {
	f.T.Helper()
	live := make(map[string]bool)
	for len(live) < len(f.Live()) {
		for _, n := range f.Live() {
			if !live[n.Name] && n.Settings.Has(c.Version) {
				live[n.Name] = true
				all = append(all, time.Since(start))
			}
		}
		if time.Since(start) > limit {
			f.T.Fatalf("seed %d: change %v is live on %d of %d nodes after %v", f.seed, c.Version, len(live), len(f.Live()), limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return all
}

func TestFleet_SettingIsLiveEverywhere(t *testing.T) {
	var all []time.Duration
	writes := 6
	if full() {
		writes = 20
	}
	oneSeed(t, 50, dcs, func(t *testing.T, f *Fleet) {
		for i := range writes {
			n := f.Nodes[(i*11+3)%len(f.Nodes)]
			start := time.Now()
			c, note, err := n.Pool.Propose(context.Background(), set(n, fmt.Sprintf("link/a>b/%d", i%4), fmt.Sprint(i)))
			if err != nil {
				t.Fatalf("write %d: %v", i, err)
			}
			if note != "" {
				t.Logf("write %d after %v: %s", i, time.Since(start), note)
			}
			all = append(all, liveAt(f, start, c, 20*time.Second)...)
			time.Sleep(time.Second)
		}
	})
	t.Logf("a setting is live after p50 %v, p99 %v, max %v of its proposal", quantile(all, .5), quantile(all, .99), quantile(all, 1))
	if got := quantile(all, .99); got > 2*time.Second {
		t.Errorf("a setting is live after %v, want less than 2 s (p99)", got)
	}
}

// equal tells whether all live nodes have the same settings.
func (f *Fleet) equal() bool {
	live := f.Live()
	for _, n := range live[1:] {
		if n.Settings.Hash() != live[0].Settings.Hash() || n.Settings.Buckets() != live[0].Settings.Buckets() {
			return false
		}
	}
	return true
}

func TestFleet_ManyWritersEndEqual(t *testing.T) {
	oneSeed(t, 50, dcs, func(t *testing.T, f *Fleet) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won, lost, alone := 0, 0, 0
		for i := range 100 {
			n := f.Nodes[i%len(f.Nodes)]
			wg.Go(func() {
				for try := range 3 {
					_, note, err := n.Pool.Propose(context.Background(), set(n, fmt.Sprintf("link/l%d/rate", i%7), fmt.Sprintf("%d from %d", try, i)))
					mu.Lock()
					switch {
					case err == nil:
						won++
						if strings.Contains(note, "did not answer") {
							alone++
						}
					case errors.Is(err, gossip.ErrConflict):
						lost++
					default:
						t.Errorf("writer %d: %v, want success or a conflict", i, err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		took := f.Until("all nodes have the same settings", time.Minute, f.equal)
		if won == 0 || lost == 0 {
			t.Errorf("%d writes won and %d lost, want some of both", won, lost)
		}
		// A node that got no answer writes by itself, and then the other one may have written too.
		if n := len(f.Nodes[0].Settings.Changes()); n < won || n > won+alone {
			t.Errorf("%d changes are there, want the %d that won, and at most %d more", n, won, alone)
		}
		t.Logf("%d won, %d of them without the node that orders; %d lost; equal %v later", won, alone, lost, took)
	})
}

func TestFleet_LargeChangeArrives(t *testing.T) {
	oneSeed(t, 20, dcs, func(t *testing.T, f *Fleet) {
		for _, size := range []int{900, 5_000, 480_000} {
			n := f.Nodes[size%len(f.Nodes)]
			c := gossip.Change{Author: "test"}
			for left := size; left > 0; left -= 60_000 {
				c.Entries = append(c.Entries, gossip.Entry{Key: fmt.Sprintf("link/big/%d/%d", size, left), Value: bytes.Repeat([]byte("x"), min(left, 60_000))})
			}
			start := time.Now()
			c, _, err := n.Pool.Propose(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			all := liveAt(f, start, c, 30*time.Second)
			t.Logf("%d bytes: live after p50 %v, max %v", size, quantile(all, .5), quantile(all, 1))
		}
	})
}

func TestFleet_NodeThatWasAwayCatchesUp(t *testing.T) {
	oneSeed(t, 8, dcs, func(t *testing.T, f *Fleet) {
		away := f.Nodes[3]
		away.Kill()
		for i := range 300 {
			n := f.Nodes[4+i%4]
			if _, _, err := n.Pool.Propose(context.Background(), set(n, fmt.Sprintf("link/x/%d", i), "1")); err != nil {
				t.Fatal(err)
			}
		}
		away.Start()
		took := f.Until("it has all settings", 20*time.Second, func() bool { return len(away.Settings.Changes()) >= 300 && f.equal() })
		t.Logf("300 changes after %v", took)
	})
}

func TestFleet_ClockAnHourAheadDoesNotStopWrites(t *testing.T) {
	oneSeed(t, 6, dcs, func(t *testing.T, f *Fleet) {
		fast, slow := f.Nodes[1], f.Nodes[4]
		for _, skew := range []time.Duration{time.Hour, -time.Hour} {
			fast.Kill()
			fast.Skew = skew
			fast.Start()
			f.Until("it is back", time.Minute, func() bool { return f.Whole() && f.equal() })
			for i, n := range []*Node{fast, slow, fast, slow} {
				c, _, err := n.Pool.Propose(context.Background(), set(n, "log/level", fmt.Sprint(skew, i)))
				if err != nil {
					t.Fatalf("skew %v, write %d: %v", skew, i, err)
				}
				liveAt(f, time.Now(), c, 10*time.Second)
				for _, o := range f.Nodes {
					if got, want := o.value("log/level"), fmt.Sprint(skew, i); got != want {
						t.Errorf("skew %v: %s has %q, want the later write %q", skew, o.Name, got, want)
					}
				}
			}
		}
	})
}

func TestFleet_NodeThatMissedAllPacketsCatchesUpSoon(t *testing.T) {
	eachSeed(t, 6, dcs, func(t *testing.T, f *Fleet) {
		for i := range 6 {
			away, n := f.Nodes[1+i%5], f.Nodes[0]
			f.Network.Cut(func(from, to *Host) bool { return from.Name == away.Name || to.Name == away.Name })
			c, _, err := n.Pool.Propose(context.Background(), set(n, "log/level", fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(1200 * time.Millisecond) // all copies are on their way, and nobody is dead yet
			f.Network.Cut(nil)
			liveAt(f, time.Now(), c, 5*time.Second)
			time.Sleep(5 * time.Second)
		}
	})
}
