package world

import "github.com/isthmus-project/isthmus/test/judge"

// ways are what the nodes that run say of positions.
func (w *World) ways() []judge.Way {
	var nodes []judge.Translator
	for _, n := range w.Running() {
		nodes = append(nodes, n.API)
	}
	return judge.Ways(w.Topology, nodes...)
}
