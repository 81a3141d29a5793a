package node

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/topology"
)

// Choose finds the node this process is: the one that was named, or the only one of the file. A file without nodes is
// run by one process, which runs all of it under the host's name.
func Choose(topo *topology.Topology, name string) (topology.Node, error) {
	var names []string
	for _, n := range topo.Nodes {
		names = append(names, n.Name)
	}
	switch {
	case name == "" && len(topo.Nodes) == 1:
		return topo.Nodes[0], nil
	case name == "" && len(topo.Nodes) > 1:
		return topology.Node{}, fmt.Errorf("the file has several nodes; choose one with --node: %s", strings.Join(names, ", "))
	case name == "":
		host, err := os.Hostname()
		if err != nil {
			host = "node"
		}
		return topology.Node{Name: host}, nil
	}
	if n, ok := topo.Node(name); ok {
		return n, nil
	}
	if len(names) == 0 {
		return topology.Node{}, fmt.Errorf("node %q is not in the file, which has no [[node]]; leave --node out", name)
	}
	return topology.Node{}, fmt.Errorf("node %q is not in the file; its nodes are %s", name, strings.Join(names, ", "))
}

// runsCluster tells whether a node runs an embedded cluster: the first node of its data center, else the first of the file.
// Only one may: a data directory has one owner.
func runsCluster(topo *topology.Topology, self topology.Node, c topology.Cluster) bool {
	if c.Embedded == nil {
		return false
	}
	near := slices.DeleteFunc(slices.Clone(topo.Nodes), func(n topology.Node) bool { return n.DC != c.DC })
	if len(near) > 0 {
		return first(near, self)
	}
	return first(topo.Nodes, self)
}

// first tells whether a node is the first of some; of none, every node is.
func first(nodes []topology.Node, self topology.Node) bool {
	return len(nodes) == 0 || nodes[0].Name == self.Name
}
