package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// Fleet is a fabric of nodes in one bubble.
type Fleet struct {
	T       testing.TB
	Network *Network
	Nodes   []*Node
	Config  func(*gossip.Config, *gossip.Deps) // changes what a node starts with
	Log     *slog.Logger
	seed    uint64
}

// Node is one process of a fleet.
type Node struct {
	Name, DC string
	Addr     string
	Host     *Host
	Pool     *gossip.Pool
	Settings *gossip.Settings
	Skew     time.Duration // of its clock, from its next start on
	fleet    *Fleet
	cancel   context.CancelFunc
	done     chan struct{}
	err      error
	lives    int
	mu       sync.Mutex
}

// Key is a gossip key of its own for each number.
func Key(n byte) []byte {
	k := make([]byte, 32)
	for i := range k {
		k[i] = n
	}
	return k
}

// NewFleet makes nodes that are spread over the data centers; Start starts them.
func NewFleet(t testing.TB, seed uint64, nodes int, dcs ...string) *Fleet {
	f := &Fleet{T: t, Network: NewNetwork(seed), Log: slog.New(slog.DiscardHandler), seed: seed}
	for i := range nodes {
		f.Nodes = append(f.Nodes, &Node{Name: fmt.Sprintf("n%02d", i), DC: dcs[i%len(dcs)], Addr: Addr(i), fleet: f})
	}
	return f
}

// WAN sets 150 ms round trip between all data centers, and 5 % loss everywhere.
func (f *Fleet) WAN() {
	for _, a := range f.Nodes {
		for _, b := range f.Nodes {
			if a.DC != b.DC {
				f.Network.Delay(a.DC, b.DC, 75*time.Millisecond)
			}
		}
	}
	f.Network.Loss(0.05)
}

// Start starts all nodes.
func (f *Fleet) Start() {
	for _, n := range f.Nodes {
		n.Start()
	}
}

// Stop kills all nodes and waits for their goroutines. memberlist waits for none of its own: the last probe ends by its timeout.
func (f *Fleet) Stop() {
	for _, n := range f.Nodes {
		n.Kill()
	}
	time.Sleep(20 * time.Second)
}

// Start begins a life of the node.
func (n *Node) Start() {
	f := n.fleet
	n.lives++
	n.Host = f.Network.Host(n.Name, n.DC, n.Addr)
	skew := n.Skew // of this start: what is left of an earlier one may still ask its clock
	now := func() time.Time { return time.Now().Add(skew) }
	clock := gossip.NewClock(n.Name, now)
	n.Settings = gossip.NewSettings(clock)
	cfg := gossip.Config{Name: n.Name, DC: n.DC, Fabric: "shop", Bind: n.Addr, Keys: [][]byte{Key(1)}, Transport: n.Host}
	for _, o := range f.Nodes[:min(len(f.Nodes), 6)] {
		cfg.Seeds = append(cfg.Seeds, o.Addr)
	}
	deps := gossip.Deps{
		Settings: n.Settings, Clock: clock, Now: now, Log: f.Log.With("self", n.Name),
		Rand: rand.New(rand.NewPCG(f.seed, uint64(n.lives)<<32|hash(n.Name))),
	}
	if f.Config != nil {
		f.Config(&cfg, &deps)
	}
	p, err := gossip.NewPool(cfg, deps)
	if err != nil {
		f.T.Fatalf("node %s: %v", n.Name, err)
	}
	n.Pool = p
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		err := p.Run(ctx)
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	}()
	p.Tell(gossip.Report{DC: n.DC, Version: "test", Capacity: 1, Ready: true})
}

func hash(s string) (h uint64) {
	for _, b := range []byte(s) {
		h = h*131 + uint64(b)
	}
	return h
}

// Kill ends the node's life without a word, and waits for its goroutines.
func (n *Node) Kill() {
	if n.cancel == nil {
		return
	}
	n.Host.Kill()
	n.cancel()
	<-n.done
	n.cancel = nil
}

// Running tells whether the node's Run goes on; its error if not.
func (n *Node) Running() (bool, error) {
	select {
	case <-n.done:
		n.mu.Lock()
		defer n.mu.Unlock()
		return false, n.err
	default:
		return true, nil
	}
}

// Live are the nodes that run.
func (f *Fleet) Live() (live []*Node) {
	for _, n := range f.Nodes {
		if n.cancel != nil {
			live = append(live, n)
		}
	}
	return live
}

// Until waits until ok, and returns how long that took; it fails the test after limit.
func (f *Fleet) Until(what string, limit time.Duration, ok func() bool) time.Duration {
	f.T.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			f.T.Fatalf("seed %d: %s: not after %v", f.seed, what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// Whole tells whether every live node sees exactly the live nodes alive.
func (f *Fleet) Whole() bool {
	live := f.Live()
	for _, n := range live {
		if n.Alive() != len(live) {
			return false
		}
	}
	return true
}

// Alive counts the nodes that a node sees alive.
func (n *Node) Alive() (alive int) {
	for _, m := range n.Pool.View().Members {
		if m.Status == gossip.Alive {
			alive++
		}
	}
	return alive
}
