package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology"
)

// The components of a node. An arrow means "asks"; a node is the only one that knows them all.
//
//	 people, probes, Prometheus
//	             │ gRPC, HTTP
//	             ▼
//	       admin.Server ──► answers ──► mirror.Set
//	             │                          │
//	             ▼                          ▼
//	    prometheus.Registry ◄──────── mirror.Link (one per link that this node runs)
//	             ▲                     │ from   │ to
//	             │                     ▼        ▼
//	             │                   broker.Cluster (one per cluster)
//	             │                          │ TCP
//	             │                          ▼
//	             └────────────────── host ──► embedded.Cluster (those of this node's data center)
//
// Stop order: links first, so that their last checkpoints find their clusters; then admin, which tells of it; then the
// embedded clusters; then the connections.

// nodeBytes bounds what all links of a node hold between source and target.
const nodeBytes = 512 << 20

// maxSeries bounds the partitions of a node that have metric series of their own.
const maxSeries = 5000

// beatEvery is how often a node looks at its own links, and beatLate after how long without a look it is not live.
const (
	beatEvery = 2 * time.Second
	beatLate  = 30 * time.Second
)

// nodeConfig is what a node is made of.
type nodeConfig struct {
	topo     *topology.Topology
	self     topology.Node // its addresses are those to listen on
	insecure bool
	log      *slog.Logger
}

// node is one running isthmus.
type node struct {
	writer   string
	log      *slog.Logger
	registry *prometheus.Registry
	hosts    []*host
	profiles []broker.Profile // of all clusters, in the order of the topology
	clusters map[string]*broker.Cluster
	links    []*mirror.Link
	set      *mirror.Set
	server   *admin.Server
	started  time.Time
	vitals   vitals
}

// vitals is what the node knows about its own health.
type vitals struct {
	stopping atomic.Bool
	mu       sync.Mutex
	beat     time.Time           // last look at the links
	seen     []mirror.LinkStatus // at that look
	ended    error               // a link that ended by itself
}

// newNode opens everything that can fail at once (data directories, secrets, addresses) and starts nothing. Clusters that
// cannot be reached are no error: their links wait for them.
func newNode(cfg nodeConfig) (_ *node, err error) {
	var random [4]byte
	rand.Read(random[:]) //nolint:errcheck // never fails
	n := &node{
		writer: cfg.self.Name + "/" + hex.EncodeToString(random[:]), log: cfg.log, registry: newRegistry(),
		clusters: map[string]*broker.Cluster{}, started: time.Now(),
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	for _, c := range cfg.topo.Clusters {
		if runsCluster(cfg.topo, cfg.self, c) {
			h, err := newHost(c, cfg.log)
			if err != nil {
				return nil, err
			}
			n.hosts = append(n.hosts, h)
			c = h.spec
		}
		profile, err := broker.NewProfile(c)
		if err != nil {
			return nil, err
		}
		cluster, err := broker.Open(profile, cfg.log)
		if err != nil {
			return nil, err
		}
		n.clusters[c.Name] = cluster
		n.profiles = append(n.profiles, profile)
	}
	n.registry.MustRegister(hostMetrics(n.hosts))
	metrics := mirror.NewMetrics(n.registry, maxSeries)
	memory := mirror.NewMemory(nodeBytes)
	for _, l := range cfg.topo.Links {
		if !runsLink(cfg.topo, cfg.self, l) {
			continue
		}
		link, err := mirror.NewLink(l, mirror.Config{}, mirror.Deps{
			Topology: cfg.topo, From: n.clusters[l.From], To: n.clusters[l.To], Log: cfg.log,
			Metrics: metrics, Writer: n.writer, Memory: memory,
		})
		if err != nil {
			return nil, fmt.Errorf("link %s: %w", l.Name, err)
		}
		n.links = append(n.links, link)
	}
	n.set = mirror.NewSet(cfg.topo, n.links)
	api := admin.Config{GRPC: cfg.self.GRPC, HTTP: cfg.self.HTTP, Insecure: cfg.insecure, Metrics: n.registry}
	n.server, err = admin.NewServer(api, &answers{node: n, name: cfg.self.Name}, cfg.log)
	return n, err
}

// close releases what newNode took when the node never ran, or what is left when it has run.
func (n *node) close() {
	for _, c := range n.clusters {
		c.Close()
	}
	for _, h := range n.hosts {
		h.close()
	}
	if n.server != nil {
		_ = n.server.Close() // closed already if it has run
	}
}

// Run runs the node until ctx ends, and then in the stop order above. A link that ends by itself takes no other with it:
// /livez tells of it.
func (n *node) Run(ctx context.Context) error {
	defer n.close()
	after := context.WithoutCancel(ctx)
	hostCtx, stopHosts := context.WithCancel(after)
	defer stopHosts()
	serverCtx, stopServer := context.WithCancel(after)
	defer stopServer()

	var hosts, server errgroup.Group
	for _, h := range n.hosts {
		hosts.Go(func() error { return h.Run(hostCtx) })
	}
	linkCtx, stopLinks := context.WithCancel(ctx)
	defer stopLinks()
	server.Go(func() error {
		defer stopLinks() // without its API a node cannot be asked or stopped in order: let it end
		return n.server.Run(serverCtx)
	})
	var links sync.WaitGroup
	for _, l := range n.links {
		links.Go(func() { n.runLink(linkCtx, l) })
	}
	n.look()
	links.Go(func() { n.beatLoop(linkCtx) })
	n.log.Info("node started", "writer", n.writer, "links", len(n.links), "embedded", len(n.hosts),
		"http", n.server.HTTPAddr(), "grpc", n.server.GRPCAddr())

	<-linkCtx.Done()
	n.vitals.stopping.Store(true)
	n.log.Info("node stops", "writer", n.writer)
	links.Wait()
	stopServer()
	err := server.Wait()
	stopHosts()
	return errors.Join(err, hosts.Wait())
}

func (n *node) runLink(ctx context.Context, l *mirror.Link) {
	err := l.Run(ctx)
	if ctx.Err() != nil && err == nil {
		return
	}
	if err == nil {
		err = errors.New("ended without being told to")
	}
	n.log.Error("link ended", "link", l.Name(), "error", err)
	n.vitals.mu.Lock()
	defer n.vitals.mu.Unlock()
	n.vitals.ended = fmt.Errorf("link %s ended: %w", l.Name(), err)
}

// beatLoop looks at the links again and again, so that a probe can tell whether they can still be looked at.
func (n *node) beatLoop(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			n.look()
		}
	}
}

func (n *node) look() {
	seen := n.set.Status()
	n.vitals.mu.Lock()
	defer n.vitals.mu.Unlock()
	n.vitals.beat, n.vitals.seen = time.Now(), seen
}

// openAgain opens connections of one's own to every cluster of the node, apart from those of its links.
func (n *node) openAgain(log *slog.Logger) ([]*broker.Cluster, error) {
	var opened []*broker.Cluster
	for _, p := range n.profiles {
		c, err := broker.Open(p, log)
		if err != nil {
			for _, c := range opened {
				c.Close()
			}
			return nil, err
		}
		opened = append(opened, c)
	}
	return opened, nil
}
