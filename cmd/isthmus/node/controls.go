package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/settingstore"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// control is what a node keeps open to one cluster beside its links: the probe that measures it, and the fabric's settings in it.
type control struct {
	spec    topology.Cluster
	cluster *broker.Cluster
	prober  *broker.Prober
	store   *settingstore.Store
	cancel  context.CancelFunc
	done    chan struct{}
}

// controls are those of all clusters that links and routers of the running topology need.
type controls struct {
	open    func(topology.Cluster) (*broker.Cluster, error)
	log     *slog.Logger
	changed chan struct{} // 1 token: something is reached otherwise

	mu  sync.Mutex
	all map[string]*control
}

func newControls(open func(topology.Cluster) (*broker.Cluster, error), log *slog.Logger) *controls {
	return &controls{open: open, log: log, changed: make(chan struct{}, 1), all: make(map[string]*control)}
}

// follow opens what a topology needs and closes what it no longer does. Probes run until ctx ends or they are closed. Only one
// goroutine may call it, and [controls.close].
func (c *controls) follow(ctx context.Context, topo *topology.Topology) error {
	needed := make(map[string]topology.Cluster)
	for _, l := range topo.Links {
		for _, name := range []string{l.From, l.To} {
			needed[name], _ = topo.Cluster(name)
		}
	}
	for _, r := range topo.Routers {
		needed[r.Home], _ = topo.Cluster(r.Home)
		for _, s := range r.Sets {
			needed[s.Home], _ = topo.Cluster(s.Home)
		}
	}
	var errs []error
	for _, old := range c.list() {
		if spec, ok := needed[old.spec.Name]; !ok || !reflect.DeepEqual(spec, old.spec) {
			c.drop(old)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		if c.get(name) == nil {
			errs = append(errs, c.begin(ctx, needed[name]))
		}
	}
	return errors.Join(errs...)
}

func (c *controls) begin(ctx context.Context, spec topology.Cluster) error {
	cluster, err := c.open(spec)
	if err != nil {
		return err
	}
	prober, err := broker.NewProber(cluster, broker.ProberConfig{}, broker.ProberDeps{Log: c.log, Changed: func(gossip.Reach) { c.poke() }})
	if err != nil {
		cluster.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	n := &control{spec: spec, cluster: cluster, prober: prober, store: settingstore.New(cluster), cancel: cancel, done: make(chan struct{})}
	c.mu.Lock()
	c.all[spec.Name] = n
	c.mu.Unlock()
	go func() {
		defer close(n.done)
		if err := prober.Run(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("cluster is not probed any more", "cluster", spec.Name, "error", err)
		}
	}()
	return nil
}

func (c *controls) drop(n *control) {
	c.mu.Lock()
	delete(c.all, n.spec.Name)
	c.mu.Unlock()
	n.cancel()
	n.store.Close()
	n.cluster.Close()
	<-n.done
}

// close ends everything.
func (c *controls) close() {
	for _, n := range c.list() {
		c.drop(n)
	}
}

func (c *controls) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *controls) get(name string) *control {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[name]
}

// list is all of them, by name.
func (c *controls) list() (out []*control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.all)) {
		out = append(out, c.all[name])
	}
	return out
}

// stores are those of the clusters that answer now. It is not waited until they are trusted with work: what they have settles
// which work that is.
func (c *controls) stores() (out []gossip.Store) {
	for _, n := range c.list() {
		if n.prober.Answers() {
			out = append(out, n.store)
		}
	}
	return out
}

// reach is what is measured of each cluster.
func (c *controls) reach() map[string]gossip.Reach {
	out := make(map[string]gossip.Reach)
	for _, n := range c.list() {
		out[n.spec.Name] = n.prober.Reach()
	}
	return out
}
