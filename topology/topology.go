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
	Stays    []Stay
	Routers  []Router
	Admin    Admin

	routes *routes
	ids    *idSpace
	// written tells, by link, where it is written.
	written map[string]string
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
	// Principal is whom the cluster takes us for, as it names it in its rules: User:NAME. Empty where the login tells, or nobody does.
	Principal string
	// Insecure allows what gives a login away: SASL without TLS off loopback, and a TokenURL without TLS.
	Insecure bool
}

// Embedded describes a cluster inside the isthmus process.
type Embedded struct {
	// Dir is the data directory, already resolved against the folder of the topology file.
	Dir string
	dir string // as it was written
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen string
}

// Link is a directed pair of clusters and what goes over it.
type Link struct {
	// Name is unique; FROM-TO unless the file says otherwise.
	Name string
	// From and To are names of two different clusters.
	From, To string
	// Topics and Exclude decide, together with the rule on internal topics, what Matches; Exclude wins.
	Topics, Exclude Patterns
	// Groups and GroupsExclude choose the consumer groups whose positions follow: see KeepsGroup.
	Groups, GroupsExclude Patterns
	// Start is where a pump begins that has no state yet.
	Start Start
	// ReplicationFactor of topics created on the target; 0 is the source's.
	ReplicationFactor int
	// ByteRate is the most bytes per second that are read from the source for this link, all nodes together, as they are on the
	// wire; 0 is no limit. Nodes share it by the partitions that they copy.
	ByteRate int64
	// Naming is what topics are called on the target.
	Naming Naming
	// Policy is what happens where a log went wrong.
	Policy Policy
	// Keeps is what follows the source beside the records.
	Keeps Keeps
	// Rates are finer bounds than ByteRate.
	Rates Rates
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
	s, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(s.Name, s.Text)
}

// Read reads the file at path. What is larger than a topology may be is cut: Parse says so.
func Read(path string) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return Source{}, fmt.Errorf("open topology: %w", err)
	}
	defer f.Close()
	// One byte more than allowed, so that Parse sees that there is more.
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return Source{}, fmt.Errorf("read topology: %w", err)
	}
	return Source{Name: path, Text: data}, nil
}

// Cluster returns the cluster of that name.
func (t *Topology) Cluster(name string) (Cluster, bool) {
	return find(t.Clusters, func(c Cluster) bool { return c.Name == name })
}

// Link returns the link of that name.
func (t *Topology) Link(name string) (Link, bool) {
	return find(t.Links, func(l Link) bool { return l.Name == name })
}

// Written tells where a link is written: [[link]], or the short form that it comes from, and its line, or the setting that made it.
// Empty for a link that there is not.
func (t *Topology) Written(link string) string { return t.written[link] }

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
