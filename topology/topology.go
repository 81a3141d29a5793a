package topology

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// MaxFileBytes is the size above which a topology file is refused: a full mesh of a hundred clusters fits.
const MaxFileBytes = 1 << 20

// Topology is one fabric: its clusters, the links between them and the nodes that run them, each in the order of the
// file. It is immutable: callers must not write to its slices.
type Topology struct {
	Fabric   Fabric
	Clusters []Cluster
	Links    []Link
	Nodes    []Node

	routes *routes
	ids    *idSpace
}

// Fabric is what all nodes and clusters of one topology share.
type Fabric struct {
	// Name is the identity of the fabric. It is hashed into every producer id the fabric writes with: a fabric that is
	// renamed takes its own earlier copies for the writes of ordinary clients.
	Name string
}

// Cluster is one Kafka cluster. Exactly one of Bootstrap and Embedded is set.
type Cluster struct {
	// Name is the cluster's identity for ever: letters, digits, dash. It is hashed into producer ids.
	Name string
	// DC is the data center the cluster is in; may be empty.
	DC string
	// Bootstrap lists addresses as host:port.
	Bootstrap []string
	// Embedded makes a node run this cluster itself; nil for a real one.
	Embedded *Embedded
	// TLS is nil for plain TCP.
	TLS *TLS
	// SASL is nil where the cluster asks for no login.
	SASL *SASL
}

// Embedded describes a cluster inside the isthmus process.
type Embedded struct {
	// Dir is the data directory, already resolved against the folder of the topology file.
	Dir string
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen string
}

// TLS says how to speak TLS to a cluster. All references may be zero: then the system's roots and no client certificate.
type TLS struct {
	// CA, Cert and Key refer to PEM. Cert and Key are both set or both zero.
	CA, Cert, Key Secret
	// ServerName overrides the name the broker's certificate is checked against; empty is the host that was dialed.
	ServerName string
}

// SASL is a login at a cluster.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism string
	User      string
	Password  Secret
}

// Link is a directed pair of clusters and what goes over it.
type Link struct {
	// Name is unique; FROM-TO unless the file says otherwise.
	Name string
	// From and To are names of two different clusters.
	From, To string
	// Topics and Exclude decide, together with the rule on internal topics, what Matches; Exclude wins.
	Topics, Exclude Patterns
	// Groups are the consumer groups whose positions follow.
	Groups Patterns
	// Start is where a pump begins that has no state yet.
	Start Start
	// ReplicationFactor of topics created on the target; 0 is the source's.
	ReplicationFactor int
}

// StartKind is the sort of place a pump without state begins at.
type StartKind int

// The kinds of start.
const (
	// Earliest is the oldest record the source retains, the default.
	Earliest StartKind = iota
	// Latest is the end of the source's log.
	Latest
	// At is the first record at or after a time.
	At
)

// Start is where a pump begins that has no state yet.
type Start struct {
	Kind StartKind
	// At is set for the kind At only.
	At time.Time
}

// String gives the start as it is written in a file.
func (s Start) String() string {
	switch s.Kind {
	case Latest:
		return "latest"
	case At:
		return s.At.Format(time.RFC3339Nano)
	default:
		return "earliest"
	}
}

// Node is one isthmus process.
type Node struct {
	// Name is unique among the nodes.
	Name string
	// DC is the data center the node runs in; may be empty.
	DC string
	// HTTP and GRPC are the addresses to listen on as host:port; empty where the file names none.
	HTTP, GRPC string
}

// Matches tells whether the link takes a topic. Internal topics match only where they are named literally, and
// Isthmus's own state topics never do.
func (l Link) Matches(topic string) bool {
	if topic == "" || isState(topic) || l.Exclude.Match(topic) {
		return false
	}
	if Internal(topic) {
		return l.Topics.names(topic)
	}
	return l.Topics.Match(topic)
}

// Load reads and parses the file at path. Faults in the text are Errors; a file that cannot be read is the error of the
// file system, wrapped.
func Load(path string) (*Topology, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	defer f.Close()
	// One byte more than allowed, so that Parse sees that there is more.
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return Parse(path, data)
}

// Cluster returns the cluster of that name.
func (t *Topology) Cluster(name string) (Cluster, bool) {
	return find(t.Clusters, func(c Cluster) bool { return c.Name == name })
}

// Link returns the link of that name.
func (t *Topology) Link(name string) (Link, bool) {
	return find(t.Links, func(l Link) bool { return l.Name == name })
}

// Node returns the node of that name.
func (t *Topology) Node(name string) (Node, bool) {
	return find(t.Nodes, func(n Node) bool { return n.Name == name })
}

func find[T any](list []T, is func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], true
	}
	return found, false
}
