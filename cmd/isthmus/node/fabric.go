package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// fabric is this node's part in its fabric: what it tells the others and hears from them, and what follows from it.
//
//	        settings, views                owners, pauses, topology
//	gossip ────────────────▶ fabric ────────────────────────────────▶ mirror.Set
//	   ▲                       │  ▲                                      │
//	   └───── reports, pins ───┘  └──── reach (probes), loads ───────────┘
//
// Nothing is copied before the fabric is known: the settings of the stores and of the others were read, and each live member has
// said what it does. Else a node that starts would take for a moment what others have, and go on with what somebody paused.
type fabric struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	clock    *gossip.Clock
	settings *gossip.Settings
	pool     *gossip.Pool
	controls *controls
	owners   *owners
	config   *config
	witness  *witness
	set      *mirror.Set

	api addresses

	known    atomic.Bool                       // the fabric is
	stores   atomic.Pointer[map[string]string] // by link, the cluster whose settings were not read yet; empty: both were
	stopping atomic.Bool
}

// addresses are where this node's API answers.
type addresses struct{ grpc, http string }

// How long a node waits, at its start, for what may not come.
const (
	firstProbes = 3 * time.Second  // each cluster's first measurement
	firstAnswer = 5 * time.Second  // of some seed
	firstWords  = 10 * time.Second // of every member, and of the stores
)

const (
	followEvery  = time.Second // without news: loads change by themselves
	watchEvery   = 500 * time.Millisecond
	balanceEvery = 10 * time.Second // see [gossip.Balancer]
	releaseAfter = 10 * time.Second // a node that ends waits so long for others to take its work
	leaveAfter   = 3 * time.Second
)

// peers sends what mirrors say to each other. It implements [mirror.Peers].
type peers struct{ pool *gossip.Pool }

// kindMirror are messages between mirrors.
const kindMirror = "mirror"

// Send implements [mirror.Peers].
func (p peers) Send(ctx context.Context, node string, payload []byte) error {
	return p.pool.Send(ctx, node, kindMirror, payload)
}

// newFabric makes the node's part in its fabric. The set comes later: see [fabric.begin].
func newFabric(cfg Config, open func(topology.Cluster) (*broker.Cluster, error), started time.Time) (*fabric, error) {
	f := &fabric{cfg: cfg, log: cfg.Log, started: started, clock: gossip.NewClock(cfg.Self.Name, time.Now), owners: newOwners(cfg.Self.Name), witness: newWitness(cfg.Self.Name)}
	f.settings = gossip.NewSettings(f.clock)
	f.controls, f.config = newControls(open, cfg.Log), newConfig(cfg)
	keys, err := cfg.Topology.Fabric.Keyring()
	if err != nil {
		return nil, err
	}
	self := cfg.Self.Gossip
	if self == "" {
		self = net.JoinHostPort("127.0.0.1", "0") // alone in its file: nobody looks for it
	}
	c := gossip.Config{Name: cfg.Self.Name, DC: cfg.Self.DC, Fabric: cfg.Topology.Fabric.Name, Bind: self, Keys: keys, Started: started.UnixMilli()}
	if cfg.Gossip != "" {
		c.Bind, c.Advertise = cfg.Gossip, self
	}
	for _, n := range cfg.Topology.Nodes {
		if n.Gossip != "" {
			c.Seeds = append(c.Seeds, n.Gossip)
		}
	}
	for _, p := range cfg.Topology.Fabric.GossipCIDRs {
		c.CIDRs = append(c.CIDRs, p.String())
	}
	if cfg.Network.Gossip != nil {
		cfg.Network.Gossip(&c)
	}
	f.pool, err = gossip.NewPool(c, gossip.Deps{Settings: f.settings, Stores: f.controls.stores, Clock: f.clock, Now: time.Now,
		Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), Log: cfg.Log, KeysChanged: keepKeys(cfg.Topology.Fabric.GossipKey)})
	if err != nil {
		return nil, fmt.Errorf("join the fabric: %w", err)
	}
	return f, nil
}

// begin gives the fabric the links that it decides about, and what is to hear of a change of what runs beside them; before run.
func (f *fabric) begin(set *mirror.Set, changed func()) {
	f.set, f.config.changed = set, changed
	f.set.SetPauses(f.paused)
	f.pool.Handle(kindMirror, set.Receive)
}

// paused says why a partition is not to be copied.
func (f *fabric) paused(link, topic string, partition int32) (why string, paused bool) {
	if !f.known.Load() {
		return "the fabric is not known yet: its settings, and who copies what", true
	}
	if stores := f.stores.Load(); stores != nil {
		switch cluster, looked := (*stores)[link]; {
		case !looked:
			return "the link is new: the settings in its clusters are about to be read", true
		case cluster != "":
			return "the settings in cluster " + cluster + " were not read yet: it may be paused there", true
		}
	}
	return f.config.paused(f.settings, link, topic, partition, time.Now())
}

// lookAtStores notes which links have to wait because the settings of one of their clusters are not known; it tells whether that is
// news. A cluster that was away when the node started may be the only one that knows what is paused.
func (f *fabric) lookAtStores(topo *topology.Topology) (changed bool) {
	unread := make(map[string]string, len(topo.Links))
	for _, l := range topo.Links {
		unread[l.Name] = ""
		for _, c := range []string{l.From, l.To} {
			if !f.pool.StoreRead(c) {
				unread[l.Name] = c
			}
		}
	}
	before := f.stores.Swap(&unread)
	return before == nil || !maps.Equal(*before, unread)
}

// run takes part until ctx ends. An error is one with which the node cannot go on, such as another node of its name.
func (f *fabric) run(ctx context.Context) error {
	defer f.controls.close()
	if err := f.controls.follow(ctx, f.config.running()); err != nil {
		return err
	}
	f.probed(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.pool.Run(ctx) })
	g.Go(func() error { return f.follow(ctx) })
	g.Go(func() error { return f.configure(ctx) })
	g.Go(func() error { return f.balance(ctx) })
	g.Go(func() error { return f.watch(ctx) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("take part in fabric %s: %w", f.cfg.Topology.Fabric.Name, err)
	}
	return nil
}

// probed waits until each cluster was measured once, for a while.
func (f *fabric) probed(ctx context.Context) {
	t := time.NewTimer(firstProbes)
	defer t.Stop()
	for {
		missing := false
		for _, r := range f.controls.reach() {
			missing = missing || !r.Reads && r.Trouble == ""
		}
		if !missing {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-f.controls.changed:
		}
	}
}

// follow takes over each view, and tells what this node does.
func (f *fabric) follow(ctx context.Context) error {
	reached := make(map[string]bool)
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		changed := f.pool.Changed()
		view := f.pool.View()
		if f.known.Load() || f.isKnown(view) {
			changed := f.lookAtStores(f.config.running())
			changed = f.owners.see(view, time.Now()) || changed
			if !f.known.Swap(true) || changed {
				f.set.Reconsider()
				f.config.changed()
			}
		}
		told := f.report()
		for name, r := range told.Reach {
			up := r.Reads && r.Writes
			if reached[name] && !up {
				f.set.HangUp(name) // what waits for answers there would still do so when the path is back
			}
			reached[name] = up
		}
		f.pool.Tell(told)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-f.controls.changed:
		case <-ticker.C:
		}
	}
}

// isKnown tells whether this node knows enough of its fabric to take work.
func (f *fabric) isKnown(v *gossip.View) bool {
	age := time.Since(f.started)
	loaded, alone := false, true
	select {
	case <-f.pool.Loaded():
		loaded = true
	default:
	}
	heard := true
	for _, m := range v.Members {
		if m.Name != f.cfg.Self.Name && m.Status == gossip.Alive {
			alone, heard = false, heard && m.Report.Started != 0
		}
	}
	others := len(f.cfg.Topology.Nodes) > 1
	switch {
	case age > firstWords:
		return true
	case alone && others && age < firstAnswer:
		return false
	}
	return loaded && heard && f.config.now.Load().read == f.settings.Hash() // what was read has to count, too
}

// knows is an error while the settings were not read: what somebody writes then is planned over a fabric that is not this one.
func (f *fabric) knows() error {
	if f.known.Load() {
		return nil
	}
	return fmt.Errorf("%w: this node has just started and does not know the settings of the fabric yet; ask again in some seconds, or ask another node", admin.ErrNotReady)
}

// runs is the topology that runs; nil while the settings over the file are not known.
func (f *fabric) runs() *topology.Topology {
	if !f.known.Load() {
		return nil
	}
	return f.config.running()
}

// Live implements [router.Liveness]: clients are not sent to a node that is gone or about to go.
func (f *fabric) Live(node string) bool {
	m, ok := f.pool.View().Member(node)
	return ok && m.Status == gossip.Alive && (m.Report.Ready || !m.Report.Draining)
}

// watch tells those who watch what happens here. Nobody, as a rule: then it costs nothing.
func (f *fabric) watch(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		if f.witness.Watched() {
			f.witness.look(f.pool.View(), f.settings.All(), f.set.Status())
		} else {
			f.witness.first = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// balance moves load while this node is the one that does.
func (f *fabric) balance(ctx context.Context) error {
	b := gossip.NewBalancer()
	ticker := time.NewTicker(balanceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		view := f.pool.View()
		if !f.known.Load() || f.pool.Sequencer() != f.cfg.Self.Name {
			continue
		}
		round := gossip.Round{View: view, Now: time.Now(), Exists: f.exists()}
		for _, l := range f.config.running().Links {
			round.Links = append(round.Links, gossip.Pair{From: l.From, To: l.To})
		}
		pins, moves := b.Round(round)
		for _, m := range moves {
			f.log.Info("partition moved for its load", "pump", inHex(m.Pump), "from", m.From, "to", m.To, "bytes_per_second", int64(m.Bytes), "why", m.Why)
		}
		if len(moves) > 0 || len(pins) != len(view.Pins) {
			f.pool.SetPins(pins)
		}
	}
}

// exists tells whether there is a pump of a hash. Where a cluster is not known yet, all may be.
func (f *fabric) exists() func(pump uint64) bool {
	known := make(map[uint64]bool)
	for _, l := range f.set.Status() {
		if len(l.Flows) == 0 || !l.Up {
			return nil
		}
		for _, flow := range l.Flows {
			for _, p := range flow.Pumps {
				known[gossip.PumpHash(l.From, l.To, flow.Topic, p.Partition)] = true
			}
		}
	}
	return func(pump uint64) bool { return known[pump] }
}

// leave gives the work away and tells the others that this node goes. The links still run when it returns.
func (f *fabric) leave(ctx context.Context) {
	f.stopping.Store(true)
	f.pool.Tell(f.report())
	if f.alone() {
		return // nobody could take it
	}
	release, cancel := context.WithTimeout(ctx, releaseAfter)
	defer cancel()
	f.set.Drain(release)
}

// alone tells whether no other node is alive.
func (f *fabric) alone() bool {
	return !slices.ContainsFunc(f.pool.View().Members, func(m gossip.Member) bool { return m.Name != f.cfg.Self.Name && m.Status == gossip.Alive })
}

// left tells the others that this node is gone.
func (f *fabric) left(ctx context.Context) {
	if f.alone() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveAfter)
	defer cancel()
	if err := f.pool.Leave(ctx); err != nil {
		f.log.Debug("left without a word", "error", err)
	}
}
