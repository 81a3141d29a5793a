package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// A change of the topology, in order:
//
//	open what is new ─▶ make new links ─▶ stop old links ─▶ new routes ─▶ start new links ─▶ close what is old
//	└── may fail: nothing has changed ──┘ └── cannot fail ──────────────────────────────────────────────────────┘
//
// Links that stay are not touched: the next look at their clusters finds which topics they have now. Batches are judged by the
// new routes from one moment on; see [flow.takes] for what is stopped by them.

// change is a set as it will be.
type change struct {
	links    []*running
	clusters map[string]*openCluster
	stop     []*running
	begin    []*running
	opened   []*openCluster
	close    []*openCluster
}

// drop undoes what was made for a change that does not happen.
func (s *Set) drop(c *change) {
	for _, l := range c.begin {
		s.deps.Metrics.unlink(l.Link)
	}
	for _, o := range c.opened {
		o.Close()
	}
}

// plan makes what a topology needs beside what is there. It changes nothing; after an error nothing is left open.
func (s *Set) plan(topo *topology.Topology) (c *change, err error) {
	c = &change{clusters: make(map[string]*openCluster)}
	defer func() {
		if err != nil {
			s.drop(c)
		}
	}()
	s.mu.Lock()
	had, clusters := make(map[string]*running), s.clusters
	for _, l := range s.links {
		had[l.name] = l
	}
	s.mu.Unlock()
	cluster := func(name string) (*broker.Cluster, error) {
		if o := c.clusters[name]; o != nil {
			return o.Cluster, nil
		}
		spec, ok := topo.Cluster(name)
		if !ok {
			return nil, fmt.Errorf("cluster %q is not in the topology", name)
		}
		if o := clusters[name]; o != nil && reflect.DeepEqual(o.spec, spec) {
			c.clusters[name] = o
			return o.Cluster, nil
		}
		b, err := s.deps.Open(spec)
		if err != nil {
			return nil, err
		}
		o := &openCluster{Cluster: b, spec: spec}
		c.opened = append(c.opened, o)
		c.clusters[name] = o
		return b, nil
	}
	for _, spec := range topo.Links {
		if s.deps.Runs != nil && !s.deps.Runs(spec) {
			continue
		}
		from, err := cluster(spec.From)
		if err != nil {
			return c, fmt.Errorf("link %s: %w", spec.Name, err)
		}
		to, err := cluster(spec.To)
		if err != nil {
			return c, fmt.Errorf("link %s: %w", spec.Name, err)
		}
		if old := had[spec.Name]; old != nil && old.from == from && old.to == to {
			c.links = append(c.links, old)
			delete(had, spec.Name)
			continue
		}
		l, err := s.newLink(spec, from, to)
		if err != nil {
			return c, fmt.Errorf("link %s: %w", spec.Name, err)
		}
		c.links, c.begin = append(c.links, l), append(c.begin, l)
	}
	for _, old := range had {
		c.stop = append(c.stop, old)
	}
	for name, o := range clusters {
		if c.clusters[name] != o {
			c.close = append(c.close, o)
		}
	}
	slices.SortFunc(c.links, byName)
	return c, nil
}

func (s *Set) newLink(spec topology.Link, from, to *broker.Cluster) (*running, error) {
	l, err := NewLink(spec, s.cfg, Deps{Topology: s.deps.Topology, From: from, To: to, Log: s.deps.Log, Metrics: s.deps.Metrics,
		Writer: s.deps.Writer, Now: s.deps.Now, Rand: rand.New(rand.NewPCG(s.deps.Rand.Uint64(), 2)), Memory: s.deps.Memory, shared: s.shared})
	if err != nil {
		return nil, err
	}
	return &running{Link: l}, nil
}

// Apply changes the set to another topology of the same fabric, at any time. Links that are gone finish what is in flight
// and note their places; new ones start; a link whose clusters are the same goes on, and only what its own change names is
// touched; a cluster that changed restarts its links and no other. After an error nothing has changed. What happened is
// undone by nothing: ctx bounds the wait for the turn only.
func (s *Set) Apply(ctx context.Context, topo *topology.Topology) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("apply a topology: %w", ctx.Err())
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	if was := s.Topology().Fabric.Name; topo.Fabric.Name != was {
		return fmt.Errorf("apply a topology: it is of fabric %q, this is %q: a fabric keeps its name, which is in every producer id", topo.Fabric.Name, was)
	}
	next, err := s.plan(topo)
	if err != nil {
		return fmt.Errorf("apply a topology: %w", err)
	}
	s.mu.Lock()
	active := s.active
	s.mu.Unlock()
	if !active {
		s.become(ctx, topo, next, false)
		return nil
	}
	done := make(chan struct{})
	select {
	case s.jobs <- func(ctx context.Context) { s.become(ctx, topo, next, true); close(done) }:
		<-done
		return nil
	case <-s.over:
		s.drop(next)
		return errors.New("apply a topology: the node stops")
	}
}

// become makes the change; ctx is that of the links.
func (s *Set) become(ctx context.Context, topo *topology.Topology, c *change, run bool) {
	stop(c.stop)
	for _, l := range c.stop {
		s.deps.Metrics.unlink(l.Link)
	}
	s.shared.routing.Store(newRouting(topo, s.shared.routing.Load()))
	s.mu.Lock()
	s.links, s.clusters = c.links, c.clusters
	s.mu.Unlock()
	var open []*broker.Cluster
	for _, o := range c.clusters {
		open = append(open, o.Cluster)
	}
	s.shared.forget(open)
	for _, l := range c.begin {
		if run {
			s.start(ctx, l)
		}
	}
	for _, o := range c.close {
		o.Close()
	}
	for _, l := range c.links {
		l.poke()    // which topics it has may have changed
		l.recheck() // and what it does about a log that went wrong
	}
}

// stop ends links: what is in flight is finished, and their places are noted.
func stop(links []*running) {
	var all sync.WaitGroup
	for _, l := range links {
		if l.cancel == nil {
			continue
		}
		all.Go(func() {
			l.quiesce()
			l.cancel()
			<-l.done
		})
	}
	all.Wait()
}
