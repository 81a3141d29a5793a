package demo

import (
	"fmt"
	"strings"
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

// File is the topology of the demo: three embedded clusters, each linked with each. Their data is in folders beside the file.
func File() string {
	var b strings.Builder
	b.WriteString("# The topology of isthmus demo: three data centers, each mirrored into each other.\n[fabric]\nname = \"demo\"\n")
	for _, s := range sites {
		fmt.Fprintf(&b, "\n[[cluster]]\nname = %q\ndc = %q\nembedded = { dir = %q, listen = \"127.0.0.1:0\" }\n", s.cluster, s.dc, s.cluster)
	}
	for _, from := range sites {
		for _, to := range sites {
			if from != to {
				fmt.Fprintf(&b, "\n[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n", from.cluster, to.cluster)
			}
		}
	}
	return b.String()
}
