package node

import (
	"fmt"
	"sync"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// opened are clusters that are opened when they are first asked for, for one user.
type opened struct {
	open func(topology.Cluster) (*broker.Cluster, error)
	topo *topology.Topology

	mu  sync.Mutex
	all map[string]*broker.Cluster
}

func newOpened(topo *topology.Topology, open func(topology.Cluster) (*broker.Cluster, error)) *opened {
	return &opened{open: open, topo: topo, all: make(map[string]*broker.Cluster)}
}

// get opens a cluster, the first time.
func (o *opened) get(name string) (*broker.Cluster, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.all[name]; c != nil {
		return c, nil
	}
	spec, ok := o.topo.Cluster(name)
	if !ok {
		return nil, fmt.Errorf("open cluster %q: the topology has none of that name", name)
	}
	c, err := o.open(spec)
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", name, err)
	}
	o.all[name] = c
	return c, nil
}

// list opens clusters.
func (o *opened) list(names []string) (out []*broker.Cluster, err error) {
	for _, name := range names {
		c, err := o.get(name)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// close closes those that were opened.
func (o *opened) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, c := range o.all {
		c.Close()
		delete(o.all, name)
	}
}
