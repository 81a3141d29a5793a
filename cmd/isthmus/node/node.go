package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// The components of a node. An arrow means "asks" or "tells".
//
//	 people, other nodes, probes, Prometheus
//	             │ gRPC, HTTP
//	             ▼
//	       admin.Server ──► answers ──► mirror.Set ◄──── fabric ◄──► gossip.Pool ◄──► other nodes
//	             │                          │              │
//	             ▼                          ▼              ▼
//	    prometheus.Registry ◄──────── mirror.Link       controls (a probe and a store of settings per cluster)
//	             ▲                     │ from   │ to       │
//	             │                     ▼        ▼          ▼
//	             │                     broker.Cluster, one for links and one for control
//	             │                          │ TCP
//	             │                          ▼
//	             └────────────────── host ──► embedded.Cluster (those of this node's data center)
//
// Beside the set of links are the doors: a router.Router, with a broker.Cluster of its own, for each [[router]] of this node. The fabric
// tells them that the running configuration changed, and who lives.
//
// Stop order: the work is handed over, while the links still run, and the doors send their clients away; then the links end, so that their last checkpoints find their
// clusters; then the others are told that this node is gone; then gossip, the API, which tells of all this, and the embedded clusters.

// nodeBytes bounds what all links of a node hold between source and target.
const nodeBytes = 512 << 20

// maxSeries bounds the partitions of a node that have metric series of their own.
const maxSeries = 5000

// beatEvery is how often a node looks at its own links, and beatLate after how long without a look it is not live.
const (
	beatEvery = 2 * time.Second
	beatLate  = 30 * time.Second
)

// Config is what a node is made of.
type Config struct {
	Topology *topology.Topology
	Source   topology.Source // what the topology was read from
	Self     topology.Node   // its addresses are those to listen on
	Gossip   string          // host:port to listen on for gossip where it is not what the others reach; empty: it is
	Insecure bool            // addresses that others can reach, without TLS or login
	Build    Build
	Log      *slog.Logger
	Level    *slog.LevelVar // of the log, which a setting may change; nil = it may not
	Network  Network
}

// Network replaces the machine's own, for tests. What is nil is not replaced.
type Network struct {
	Dial   func(cluster string) func(ctx context.Context, network, address string) (net.Conn, error)
	Listen func(network, address string) (net.Listener, error)
	Door   func(ctx context.Context, network, address string) (net.Conn, error) // to other nodes: their routers, and their API
	Gossip func(*gossip.Config)
}

// Build is what the program was built from.
type Build struct{ Version, Revision, Go string }

// Node is one running isthmus.
type Node struct {
	build    Build
	writer   string
	log      *slog.Logger
	registry *prometheus.Registry
	hosts    []*host
	fabric   *fabric
	set      *mirror.Set
	doors    *doors
	tails    *tails
	server   *admin.Server
	network  Network
	started  time.Time
	vitals   vitals
}

// vitals is what the node knows about its own health.
type vitals struct {
	stopping atomic.Bool
	mu       sync.Mutex
	beat     time.Time           // last look at the links
	seen     []mirror.LinkStatus // at that look
}

// New opens everything that can fail at once (data directories, secrets, addresses) and starts nothing. Clusters that
// cannot be reached are no error: their links wait for them.
func New(cfg Config) (_ *Node, err error) {
	var random [4]byte
	rand.Read(random[:]) //nolint:errcheck // never fails
	n := &Node{
		build: cfg.Build, writer: cfg.Self.Name + "/" + hex.EncodeToString(random[:]), log: cfg.Log, registry: newRegistry(cfg.Build),
		started: time.Now(), network: cfg.Network,
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	for _, c := range cfg.Topology.Clusters {
		if runsCluster(cfg.Topology, cfg.Self, c) {
			h, err := newHost(c, cfg.Log)
			if err != nil {
				return nil, err
			}
			n.hosts = append(n.hosts, h)
			c = h.spec
		}
		if _, err := broker.NewProfile(c); err != nil {
			return nil, err // secrets are there, also of clusters that no link needs yet
		}
	}
	n.registry.MustRegister(hostMetrics(n.hosts), router.NewMetrics(func() []*router.Router { return n.doors.routers() }), drillMetrics(func() []notedDoor { return n.doors.noted() }))
	if n.fabric, err = newFabric(cfg, n.open, n.started); err != nil {
		return nil, err
	}
	n.set, err = mirror.NewSet(mirror.Config{Rack: cfg.Self.Rack}, mirror.SetDeps{
		Topology: cfg.Topology, Open: n.open, Log: cfg.Log, Metrics: mirror.NewMetrics(n.registry, maxSeries), Writer: n.writer,
		Memory: mirror.NewMemory(nodeBytes), Owners: n.fabric.owners, Peers: peers{n.fabric.pool},
	})
	if err != nil {
		return nil, err
	}
	n.doors = &doors{self: cfg.Self.Name, open: n.open, running: n.fabric.runs, live: n.fabric, listen: cfg.Network.Listen, dial: cfg.Network.Door, log: cfg.Log,
		runs: func() arrival.Runs { return copied{n.set.Look()} }, care: n.care, changed: make(chan struct{}, 1), by: make(map[string]*door)}
	n.tails = newTails(cfg.Self.Name, n.open, n.set.Topology, n.set.HeedTails, cfg.Log)
	n.set.SetTails(n.tails)
	n.fabric.begin(n.set, n.doors.look)
	api := admin.Config{GRPC: cfg.Self.GRPC, HTTP: cfg.Self.HTTP, Insecure: cfg.Insecure, Name: cfg.Self.Name, Access: cfg.Topology.Admin,
		Keys: n.fabric.pool.Keys, Events: &n.fabric.witness.Events, Metrics: n.registry, Listen: cfg.Network.Listen}
	if door := cfg.Network.Door; door != nil {
		api.DialPeer = func(ctx context.Context, address string) (net.Conn, error) { return door(ctx, "tcp", address) }
	}
	if n.server, err = admin.NewServer(api, &answers{node: n, name: cfg.Self.Name}, cfg.Log); err != nil {
		return nil, err
	}
	n.fabric.api = addresses{n.server.GRPCAddr(), n.server.HTTPAddr()}
	return n, nil
}

// open opens a cluster for its links. One that this node runs is at the address it really listens on.
func (n *Node) open(c topology.Cluster) (*broker.Cluster, error) {
	for _, h := range n.hosts {
		if h.spec.Name == c.Name {
			c = h.spec
		}
	}
	return openCluster(c, n.network.Dial, n.log)
}

// close releases what New took when the node never ran, or what is left when it has run.
func (n *Node) close() {
	if n.set != nil {
		n.set.Close()
	}
	for _, h := range n.hosts {
		h.close()
	}
	if n.server != nil {
		_ = n.server.Close() // closed already if it has run
	}
}

// Run runs the node until ctx ends, and then in the stop order above. A link that ends by itself takes no other with it:
// /livez tells of it. Without its API a node cannot be asked or stopped in order, and without its fabric it would do what others
// do: then it ends.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	after := context.WithoutCancel(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	run := func(ctx context.Context, do func(context.Context) error) (end func() error) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			done <- do(ctx)
			stop()
		}()
		return sync.OnceValue(func() error { cancel(); return <-done })
	}
	endHosts := run(after, func(ctx context.Context) error { return runHosts(ctx, n.hosts) })
	defer endHosts() //nolint:errcheck // asked for below
	endServer := run(after, n.server.Run)
	endFabric := run(after, n.fabric.run)
	endLinks := run(after, n.set.Run)
	endDoors := run(after, n.doors.run)
	endTails := run(after, n.tails.run)
	n.look()
	endBeat := run(after, n.beatLoop)
	n.log.Info("node started", "writer", n.writer, "links", n.set.Links(), "embedded", len(n.hosts),
		"http", n.server.HTTPAddr(), "grpc", n.server.GRPCAddr())

	<-ctx.Done()
	n.vitals.stopping.Store(true)
	n.log.Info("node stops", "writer", n.writer)
	doorsEnded := make(chan error, 1)
	go func() { doorsEnded <- endDoors() }()
	n.fabric.leave(after)
	err := errors.Join(endBeat(), endLinks(), <-doorsEnded, endTails())
	n.fabric.left(after)
	return errors.Join(err, endFabric(), endServer(), endHosts())
}

// beatLoop looks at the links again and again, so that a probe can tell whether they can still be looked at.
func (n *Node) beatLoop(ctx context.Context) error {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			n.look()
		}
	}
}

func (n *Node) look() {
	seen := n.set.Status()
	n.vitals.mu.Lock()
	defer n.vitals.mu.Unlock()
	n.vitals.beat, n.vitals.seen = time.Now(), seen
}

// HTTPAddr is the host:port of metrics and health.
func (n *Node) HTTPAddr() string { return n.server.HTTPAddr() }

// GRPCAddr is the host:port of the admin API.
func (n *Node) GRPCAddr() string { return n.server.GRPCAddr() }

// Doors are the routers of the node, by name.
func (n *Node) Doors() []DoorStatus { return n.doors.list() }

// Set is all links of the node.
func (n *Node) Set() *mirror.Set { return n.set }

// View is the fabric as this node knows it now.
func (n *Node) View() *gossip.View { return n.fabric.pool.View() }
