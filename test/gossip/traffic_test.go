package gossip

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// busy reports as a node does that works: loads that change all the time, and now and then a cluster that comes and goes.
func busy(n *Node, turn int) gossip.Report {
	r := gossip.Report{DC: n.DC, Version: "test", Capacity: 1, Ready: true, GRPC: n.Addr, HTTP: n.Addr, Reach: make(map[string]gossip.Reach)}
	for i := range 6 {
		r.Reach[fmt.Sprintf("cluster-%d", i)] = gossip.Reach{Reads: true, Writes: turn%40 != i, RTT: time.Duration(i) * 20 * time.Millisecond}
	}
	for i := range 16 {
		r.Heavy = append(r.Heavy, gossip.Load{Pump: uint64(i) * 977, Bytes: float64(turn * i)})
		r.Bytes += float64(turn * i)
	}
	return r
}

func TestFleet_TalksLittle(t *testing.T) {
	long := 30 * time.Second
	if full() {
		long = time.Hour
	}
	oneSeed(t, 50, dcs, func(t *testing.T, f *Fleet) {
		sent := make(map[string]int64)
		for _, n := range f.Nodes {
			sent[n.Name] = n.Host.Sent() + n.Host.Got()
		}
		start := time.Now()
		for turn := 0; time.Since(start) < long; turn++ {
			for i, n := range f.Nodes {
				n.Pool.Tell(busy(n, turn+i))
			}
			if turn%6 == 0 {
				n := f.Nodes[turn%len(f.Nodes)]
				if _, _, err := n.Pool.Propose(context.Background(), set(n, "link/a/rate", fmt.Sprint(turn))); err != nil {
					t.Fatalf("write %d: %v", turn, err)
				}
			}
			time.Sleep(5 * time.Second)
		}
		var rates []float64
		for _, n := range f.Nodes {
			rates = append(rates, float64(n.Host.Sent()+n.Host.Got()-sent[n.Name])/2e3/time.Since(start).Seconds())
		}
		slices.Sort(rates)
		t.Logf("%v: each way %.1f kB/s in the middle, %.1f kB/s at most", long, rates[25], rates[49])
		if rates[49] > 20 {
			t.Errorf("a node sends or gets %.1f kB/s, want at most 20", rates[49])
		}
		for _, n := range f.Nodes {
			for _, m := range n.Pool.View().Members {
				if len(m.Report.Heavy) != 16 || m.Status != gossip.Alive {
					t.Errorf("%s knows of %s: %s, %d loads; want all", n.Name, m.Name, m.Status, len(m.Report.Heavy))
				}
			}
		}
	})
}

func TestFleet_ChurnLeavesNothingBehind(t *testing.T) {
	long := time.Minute
	if full() {
		long = 10 * time.Minute
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	oneSeed(t, 12, dcs, func(t *testing.T, f *Fleet) {
		churn := func(long time.Duration) {
			for start, i := time.Now(), 0; time.Since(start) < long; i++ {
				n := f.Nodes[i%len(f.Nodes)]
				if i%2 == 0 {
					_ = n.Pool.Leave(context.Background())
				}
				n.Kill()
				time.Sleep(5 * time.Second)
				n.Start()
				o := f.Nodes[(i+5)%len(f.Nodes)]
				if _, _, err := o.Pool.Propose(context.Background(), gossip.Change{Entries: []gossip.Entry{{Key: fmt.Sprintf("k/%d/%s", i%10, time.Now()), Value: []byte("v")}}}); err != nil {
					t.Logf("write: %v", err)
				}
				time.Sleep(5 * time.Second)
			}
			f.Until("whole", time.Minute, f.Whole)
			time.Sleep(30 * time.Second)
		}
		churn(time.Minute)
		goroutines, heap := measure()
		churn(long)
		g, h := measure()
		t.Logf("goroutines %d, then %d; heap %d kB, then %d kB", goroutines, g, heap>>10, h>>10)
		if g > goroutines+goroutines/5 {
			t.Errorf("%d goroutines after churn, %d before it", g, goroutines)
		}
		if h > heap+heap/4+4<<20 {
			t.Errorf("%d kB of heap after churn, %d kB before it", h>>10, heap>>10)
		}
	})
}

func TestFleet_ReportsArrive(t *testing.T) {
	var all []time.Duration
	oneSeed(t, 30, dcs, func(t *testing.T, f *Fleet) {
		for i, draining := range []bool{true, false, true} {
			n := f.Nodes[i*9+2]
			r := busy(n, i)
			r.Draining = draining
			if i == 2 { // larger than a packet
				for c := range 200 {
					r.Reach[fmt.Sprintf("many-%d", c)] = gossip.Reach{Reads: true, Trouble: "cannot connect to any of the brokers of the cluster"}
				}
			}
			start := time.Now()
			n.Pool.Tell(r)
			for _, o := range f.Nodes {
				f.Until("the report is there", 20*time.Second, func() bool {
					m, _ := o.Pool.View().Member(n.Name)
					return m.Report.Draining == draining && len(m.Report.Reach) == len(r.Reach)
				})
				all = append(all, time.Since(start))
			}
		}
	})
	t.Logf("a report is known to all after p50 %v, max %v", quantile(all, .5), quantile(all, 1))
	if got := quantile(all, .5); got > 3*time.Second {
		t.Errorf("half of all know a report after %v, want at most 3 s", got)
	}
	// One that is larger than a packet, and whoever missed a packet, waits for an exchange of all that is known: each takes its turn by chance.
	if got := quantile(all, 1); got > 12*time.Second {
		t.Errorf("all know a report after %v, want at most 12 s", got)
	}
}

func TestFleet_LatestPinsWin(t *testing.T) {
	eachSeed(t, 8, dcs, func(t *testing.T, f *Fleet) {
		for i, count := range []int{3, 0, 2000, 1} {
			pins := make([]gossip.Pin, count)
			for j := range pins {
				pins[j] = gossip.Pin{Pump: uint64(j), Node: f.Nodes[j%8].Name}
			}
			f.Nodes[i*2].Pool.SetPins(pins)
			f.Until("all have the pins", 40*time.Second, func() bool {
				for _, n := range f.Nodes {
					if !slices.Equal(n.Pool.View().Pins, pins) {
						return false
					}
				}
				return true
			})
		}
	})
}
