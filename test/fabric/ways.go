package fabric

import (
	"context"
	"errors"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// Running lists the nodes that run.
func (f *Fabric) Running() (nodes []*Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		select {
		case <-n.done:
		default:
			if !n.dead.Load() {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes
}

// Ways are both ways of each link of the nodes, any of which answers.
func Ways(nodes ...*Node) (ways []judge.Way) {
	if len(nodes) == 0 {
		return nil
	}
	topo := nodes[0].Set.Topology()
	for _, l := range topo.Links {
		ways = append(ways, way(nodes, topo, l, false), way(nodes, topo, l, true))
	}
	return ways
}

func way(nodes []*Node, topo *topology.Topology, l topology.Link, reverse bool) judge.Way {
	w := judge.Way{From: l.From, To: l.To}
	if reverse {
		w.From, w.To = l.To, l.From
	}
	w.Translate = func(ctx context.Context, topic string, partition int32, offset int64) (int64, error) {
		if !l.Matches(topic) {
			return 0, judge.ErrNoWay
		}
		var all error
		for _, n := range nodes {
			t, err := n.Set.Translate(ctx, l.Name, topic, partition, offset, reverse)
			if err == nil {
				return t.Result, nil
			}
			all = errors.Join(all, err)
		}
		if errors.Is(all, mirror.ErrUnknownPump) && len(topo.Route(l.From, l.To, topic)) != 1 {
			return 0, judge.ErrNoWay
		}
		return 0, all
	}
	return w
}
