package fabric

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
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

// Translate answers as the admin API of a node does.
func (n *Node) Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	t, err := n.Set.Translate(ctx, req.GetLink(), req.GetTopic(), req.GetPartition(), req.GetOffset(), req.GetReverse())
	if errors.Is(err, mirror.ErrFormerLog) {
		err = fmt.Errorf("%w: %w", judge.ErrNotKnown, err)
	}
	return &adminpb.TranslateResponse{Result: t.Result}, err
}

// Ways are both ways of each link of the nodes, any of which answers.
func Ways(nodes ...*Node) []judge.Way {
	all := make([]judge.Translator, len(nodes))
	for i, n := range nodes {
		all[i] = n
	}
	return judge.Ways(nodes[0].Set.Topology(), all...)
}
