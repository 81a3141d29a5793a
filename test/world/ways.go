package world

import (
	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/test/judge"
	testnode "github.com/isthmus-project/isthmus/test/node"
)

// ways are what the nodes that run say of positions.
func (w *World) ways() []judge.Way {
	var nodes []*admin.Client
	for _, n := range w.Running() {
		nodes = append(nodes, n.API)
	}
	return testnode.Ways(w.Topology, nodes...)
}
