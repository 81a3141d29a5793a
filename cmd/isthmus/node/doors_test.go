package node

import (
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

// TestDoorsOf: a node runs its own instances, and sends clients to those of its data center.
func TestDoorsOf(t *testing.T) {
	topo := &topology.Topology{
		Clusters: []topology.Cluster{{Name: "eu", Bootstrap: []string{"eu:9092"}}},
		Nodes:    []topology.Node{{Name: "eu-1", DC: "frankfurt"}, {Name: "eu-2", DC: "frankfurt"}, {Name: "us-1", DC: "virginia"}, {Name: "x-1"}, {Name: "x-2"}},
	}
	for _, n := range topo.Nodes {
		topo.Routers = append(topo.Routers, topology.Router{Name: "shop", Node: n.Name, Home: "eu"})
	}
	topo.Routers = append(topo.Routers, topology.Router{Name: "own", Node: "eu-1", Home: "eu"})
	for _, tc := range []struct {
		self string
		want map[string][]string // router → nodes of the instances
	}{
		{"eu-1", map[string][]string{"shop": {"eu-1", "eu-2"}, "own": {"eu-1"}}},
		{"us-1", map[string][]string{"shop": {"us-1"}}},
		{"x-2", map[string][]string{"shop": {"x-1", "x-2"}}},
		{"none", nil},
	} {
		specs, instances := doorsOf(topo, tc.self)
		if len(specs) != len(tc.want) {
			t.Errorf("%s runs %v", tc.self, specs)
		}
		for name, nodes := range tc.want {
			if s := specs[name]; s.Router.Node != tc.self || s.Home.Bootstrap[0] != "eu:9092" {
				t.Errorf("%s runs %s as %+v", tc.self, name, s)
			}
			var got []string
			for _, r := range instances[name] {
				got = append(got, r.Node)
			}
			if len(got) != len(nodes) || got[0] != nodes[0] || got[len(got)-1] != nodes[len(nodes)-1] {
				t.Errorf("%s sends clients of %s to %v, want %v", tc.self, name, got, nodes)
			}
		}
	}
}

// TestSpecOf: a router has a connection to the home of each set, once, besides its own.
func TestSpecOf(t *testing.T) {
	topo := &topology.Topology{Clusters: []topology.Cluster{{Name: "eu"}, {Name: "us"}, {Name: "ap"}}}
	spec := specOf(topo, topology.Router{Home: "eu", Sets: []topology.Set{{Home: "us"}, {Home: "eu"}, {Home: "us"}, {Home: "gone"}}})
	if spec.Home.Name != "eu" || len(spec.Others) != 1 || spec.Others[0].Name != "us" {
		t.Errorf("%+v", spec)
	}
}
