package fabric

import (
	"context"
	"errors"

	"github.com/isthmus-project/isthmus/test/judge"
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
		ways = append(ways, judge.BothWays(l, topo.Route, func(ctx context.Context, topic string, partition int32, offset int64, reverse bool) (int64, error) {
			var all error
			for _, n := range nodes {
				t, err := n.Set.Translate(ctx, l.Name, topic, partition, offset, reverse)
				if err == nil {
					return t.Result, nil
				}
				all = errors.Join(all, err)
			}
			return 0, all
		})...)
	}
	return ways
}
