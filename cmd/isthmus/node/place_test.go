package node

import (
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

// world has three data centers and nodes in two of them, two in one.
const world = `[fabric]
name = "w"
[[cluster]]
name = "eu"
dc = "frankfurt"
embedded = { dir = "eu", listen = "127.0.0.1:0" }
[[cluster]]
name = "us"
dc = "virginia"
embedded = { dir = "us", listen = "127.0.0.1:0" }
[[cluster]]
name = "ap"
dc = "singapore"
embedded = { dir = "ap", listen = "127.0.0.1:0" }
[[cluster]]
name = "sa"
dc = "lima"
bootstrap = ["sa:9092"]
[[link]]
from = "eu"
to = "us"
topics = ["*"]
[[link]]
from = "us"
to = "eu"
topics = ["*"]
[[link]]
from = "us"
to = "ap"
topics = ["*"]
[[link]]
from = "ap"
to = "sa"
topics = ["*"]
`

const worldNodes = `
[[node]]
name = "eu-1"
dc = "frankfurt"
gossip = "127.0.0.1:7946"
[[node]]
name = "us-1"
dc = "virginia"
gossip = "127.0.0.1:7947"
[[node]]
name = "us-2"
dc = "virginia"
gossip = "127.0.0.1:7948"
`

func TestPlace(t *testing.T) {
	for _, tc := range []struct {
		text, node string
		want       string // embedded clusters
		err        string
	}{
		{world, "", "eu us ap", ""},
		{world, "eu-1", "", "has no [[node]]"},
		{world + worldNodes, "", "", "choose one with --node: eu-1, us-1, us-2"},
		{world + worldNodes, "eu-9", "", "its nodes are eu-1, us-1, us-2"},
		{world + worldNodes, "eu-1", "eu ap", ""}, // ap: nobody is near
		{world + worldNodes, "us-1", "us", ""},
		{world + worldNodes, "us-2", "", ""}, // a data directory has one owner
		{world + "[[node]]\nname = \"all\"\ndc = \"virginia\"\n", "", "eu us ap", ""},
	} {
		topo, err := topology.Parse("w.toml", []byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		self, err := Choose(topo, tc.node)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("node %q: %v, want %q", tc.node, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("node %q: %v", tc.node, err)
			continue
		}
		var got []string
		for _, c := range topo.Clusters {
			if runsCluster(topo, self, c) {
				got = append(got, c.Name)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("node %q runs %s, want %s", tc.node, s, tc.want)
		}
	}
}
