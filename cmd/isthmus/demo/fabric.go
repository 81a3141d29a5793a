package demo

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/isthmus-project/isthmus/topology"
)

// sites are the data centers, and the clusters in them.
var sites = []struct{ cluster, dc string }{{"eu", "frankfurt"}, {"us", "virginia"}, {"ap", "singapore"}}

// Names of the topics and their number of partitions.
const (
	orders     = "orders"    // keyed, lz4, with tombstones
	payments   = "payments"  // keyed, zstd, with headers
	audit      = "audit"     // without keys, snappy, gzip and none
	transfers  = "transfers" // transactions, some of them aborted
	partitions = 4
)

// topics are all that the demo writes, everywhere.
var topics = []string{orders, payments, audit, transfers}

// fileHead begins every file that a demo wrote, so that no other one is written over.
const fileHead = "# The topology of isthmus demo: three data centers, each mirrored into each other.\n"

// IsFile tells whether the text of a topology file is one of a demo.
func IsFile(text string) bool { return strings.HasPrefix(text, fileHead) }

// Clusters are the embedded clusters of the demo, with their data in folders of dir, at free ports.
func Clusters(dir string) []topology.Cluster {
	var all []topology.Cluster
	for _, s := range sites {
		all = append(all, topology.Cluster{Name: s.cluster, DC: s.dc, Embedded: &topology.Embedded{Dir: filepath.Join(dir, s.cluster), Listen: "127.0.0.1:0"}})
	}
	return all
}

// File is the topology of the nodes: the clusters where they listen, by name, each linked with each, the nodes, and the doors that some have.
func File(clusters map[string]string, nodes []Place) string {
	var b strings.Builder
	b.WriteString(fileHead + "[fabric]\nname = \"demo\"\n")
	for _, s := range sites {
		fmt.Fprintf(&b, "\n[[cluster]]\nname = %q\ndc = %q\nbootstrap = [%q]\n", s.cluster, s.dc, clusters[s.cluster])
	}
	for i, from := range sites {
		for j, to := range sites {
			if from != to {
				fmt.Fprintf(&b, "\n[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n", from.cluster, to.cluster)
				if i == 0 || j == 0 { // a group's positions go over the first
					b.WriteString("groups = [\"*\"]\n")
				}
			}
		}
	}
	for _, n := range nodes {
		fmt.Fprintf(&b, "\n[[node]]\nname = %q\ndc = %q\ngossip = %q\nhttp = %q\ngrpc = %q\n", n.Name, n.DC, n.Gossip, n.HTTP, n.GRPC)
	}
	for _, n := range nodes {
		if host, text, err := net.SplitHostPort(n.Door); err == nil {
			port, _ := strconv.Atoi(text) // of a place
			fmt.Fprintf(&b, "\n[[router]]\nname = \"shop\"\nnode = %q\nlisten = %q\nadvertise = %q\nslots = \"%d-%d\"\nhome = %q\n", n.Name, n.Door, host, port+1, port+doorSlots, sites[0].cluster)
		}
	}
	return b.String()
}
