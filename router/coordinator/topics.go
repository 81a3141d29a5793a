package coordinator

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/sets"
)

// here knows what is of a set.
func (c *Coordinator) here(set string) sets.Here {
	at := 0
	for i, s := range c.router.Sets {
		if s.Name == set {
			at = i + 1
		}
	}
	return sets.NewMap(c.router).Of(at)
}

// ours reports whether a topic is a cluster's own, or the fabric's: those stay where they are.
func ours(name string) bool { return strings.HasPrefix(name, "__") }

// topics are those of a set at a cluster, by name.
func (c *Coordinator) topics(ctx context.Context, at *broker.Cluster, set string) (map[string]broker.Topic, error) {
	m, err := at.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	here := c.here(set)
	maps.DeleteFunc(m.Topics, func(name string, t broker.Topic) bool { return t.Internal || ours(name) || !here.Topic(name) })
	return m.Topics, nil
}

// carried splits topics into those that a link brings from one cluster to another under the same name, and the others.
func (c *Coordinator) carried(from, to string, topics map[string]broker.Topic) (yes, no []string) {
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		if c.carries(from, to, name) {
			yes = append(yes, name)
		} else {
			no = append(no, name)
		}
	}
	return yes, no
}

// carries reports whether some link brings what is written to a topic at one cluster to another, where the topic is called the same.
func (c *Coordinator) carries(from, to, topic string) bool {
	return c.topo.CarriesBetween(from, to, from, topic) && c.topo.SameName(topic)
}
