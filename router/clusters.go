package router

import (
	"fmt"
	"sync"

	"github.com/isthmus-project/isthmus/broker"
)

// clusters are those that are a home of some set, or were, or may be, by name.
type clusters struct {
	open func(name string) (*broker.Cluster, error) // nil: there are no others

	mu    sync.Mutex
	given map[string]*broker.Cluster // whoever gave them closes them
	own   map[string]*broker.Cluster
}

func newClusters(home string, deps Deps) *clusters {
	c := &clusters{open: deps.Open, given: map[string]*broker.Cluster{}, own: map[string]*broker.Cluster{}}
	for name, one := range deps.Others {
		c.given[name] = one
	}
	c.given[home] = deps.Home
	return c
}

// of is a cluster, which is opened if it is not yet.
func (c *clusters) of(name string) (*broker.Cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.given[name] != nil:
		return c.given[name], nil
	case c.own[name] != nil:
		return c.own[name], nil
	case c.open == nil:
		return nil, fmt.Errorf("cluster %s is not known to this router", name)
	}
	one, err := c.open(name)
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", name, err)
	}
	c.own[name] = one
	return one, nil
}

// close closes those that were opened here.
func (c *clusters) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.own {
		one.Close()
	}
	clear(c.own)
}
