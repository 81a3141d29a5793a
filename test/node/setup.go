package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/process"
	"github.com/isthmus-project/isthmus/topology"
)

// Soak says whether the full numbers were asked for.
func Soak() bool { return os.Getenv("ISTHMUS_SOAK") == "1" }

// Pick is a size: for CI, or in full.
func Pick[T any](ci, full T) T {
	if Soak() {
		return full
	}
	return ci
}

// Seed is that of this run, printed so that a failure can be run again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("ISTHMUS_REAL_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("read ISTHMUS_REAL_SEED: %v", err)
		}
		s = n
	}
	t.Logf("seed: ISTHMUS_REAL_SEED=%d", s)
	return s
}

// Server is a cluster of real brokers ([kafka.Cluster]) or an embedded one ([Embedded]), whose brokers, numbered from 0, can be
// killed and started again on the data they had.
type Server interface {
	// Bootstrap returns the addresses of all brokers, whether they run or not.
	Bootstrap() []string
	// Kill is kill -9 of a broker that runs.
	Kill(i int)
	// Start starts a broker that is down and does not wait for it.
	Start(i int)
	// WaitReady returns when all brokers that run answer, or with what was missing when ctx ended.
	WaitReady(ctx context.Context) error
}

// Site is a cluster under the name it has in the topology.
type Site struct {
	Server // nil = an address where nothing listens
	Name   string
	Admin  *kadm.Client
}

// StartSites starts one-broker clusters of these names, all at once.
func StartSites(t testing.TB, names ...string) map[string]*Site {
	t.Helper()
	var all []kafka.Options
	for _, name := range names {
		all = append(all, kafka.Options{Name: name})
	}
	return StartSitesWith(t, all...)
}

// StartSitesWith starts clusters under the names in their options, all at once.
func StartSitesWith(t testing.TB, all ...kafka.Options) map[string]*Site {
	t.Helper()
	for i := range all {
		if all[i].HeapMB == 0 {
			all[i].HeapMB = 384
		}
	}
	sites := make(map[string]*Site)
	for i, c := range kafka.StartAll(t, all...) {
		cl, err := kgo.NewClient(append(slices.Clone(all[i].ClientOptions), kgo.SeedBrokers(c.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		sites[all[i].Name] = &Site{c, all[i].Name, kadm.NewClient(cl)}
	}
	return sites
}

// Client reaches the site as its own clients do.
func (s *Site) Client() judge.Client { return judge.Client{Name: s.Name, Bootstrap: s.Bootstrap()} }

// Create makes a topic with settings given as "key=value", replicated as is the default of the cluster.
func (s *Site) Create(t testing.TB, topic string, partitions int32, settings ...string) {
	t.Helper()
	configs := make(map[string]*string)
	for _, kv := range settings {
		k, v, _ := strings.Cut(kv, "=")
		configs[k] = &v
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.Admin.CreateTopic(ctx, partitions, -1, configs, topic); err != nil {
		t.Fatalf("create topic %s on %s: %v", topic, s.Name, err)
	}
}

// Alter sets one setting of a topic.
func (s *Site) Alter(t testing.TB, topic, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.Admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err == nil {
		_, err = res.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		t.Fatalf("set %s of topic %s on %s: %v", key, topic, s.Name, err)
	}
}

// Ends are the log ends of some topics of a cluster; topics it does not have are missing.
func (s *Site) Ends(ctx context.Context, topics ...string) (map[string]map[int32]int64, error) {
	listed, err := s.Admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", s.Name, err)
	}
	out := make(map[string]map[int32]int64)
	var failed error
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			failed = fmt.Errorf("list the end of %s:%d of %s: %w", o.Topic, o.Partition, s.Name, o.Err)
			return
		}
		if out[o.Topic] == nil {
			out[o.Topic] = make(map[int32]int64)
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	return out, failed
}

// Setup is a topology over some sites.
type Setup struct {
	t        testing.TB
	Sites    []*Site // those that run
	Topology *topology.Topology
	nodes    map[string]place
	made     *[]*Node
}

// place is where a node reads its file, and where it answers.
type place struct{ file, grpc, http string }

// NewSetup writes a topology. Links are "eu>us"; all carry the same topics; every node runs all of them; "n1@b" is
// node n1 in rack b. Sites that do not run are addresses where nothing listens. Each node has a file in which it is
// alone: none knows of the others, so that all of them work on everything at the same time.
func NewSetup(t testing.TB, fabric string, sites []*Site, links, topics, nodes []string) *Setup {
	t.Helper()
	s := &Setup{t: t, nodes: make(map[string]place), made: new([]*Node)}
	text := s.clusters(fabric, sites, nil) + linksText(links, topics)
	for _, n := range nodes {
		n, rack, _ := strings.Cut(n, "@")
		entry, p := nodeText(t, n)
		if rack != "" {
			entry += fmt.Sprintf("rack = %q\n", rack)
		}
		p.file = s.write(text + entry)
		s.nodes[n] = p
	}
	return s
}

// Fleet is a fabric whose nodes know each other and share the work.
type Fleet struct {
	Name          string
	Sites         []*Site
	DCs           map[string]string // data center of a site or a node, by name
	Links, Topics []string          // as for NewSetup
	Nodes         []string
	Fabric        string // lines of [fabric]
	More          string // at the end of the file
}

// NewFleet writes the one file that all nodes of a fleet read.
func NewFleet(t testing.TB, f Fleet) *Setup {
	t.Helper()
	s := &Setup{t: t, nodes: make(map[string]place), made: new([]*Node)}
	text := s.clusters(f.Name, f.Sites, f.DCs) + linksText(f.Links, f.Topics)
	text = strings.Replace(text, "[[cluster]]", f.Fabric+"[[cluster]]", 1)
	for _, n := range f.Nodes {
		entry, p := nodeText(t, n)
		text += entry + fmt.Sprintf("gossip = \"127.0.0.1:%d\"\ndc = %q\n", FreePort(t), f.DCs[n])
		s.nodes[n] = p
	}
	file := s.write(text + f.More)
	for n, p := range s.nodes {
		p.file = file
		s.nodes[n] = p
	}
	return s
}

func (s *Setup) clusters(fabric string, sites []*Site, dcs map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[fabric]\nname = %q\n", fabric)
	for _, c := range sites {
		bootstrap := []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(s.t)))}
		if c.Server != nil {
			bootstrap = c.Bootstrap()
			s.Sites = append(s.Sites, c)
		}
		fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s\"]\n", c.Name, strings.Join(bootstrap, `", "`))
		if dc := dcs[c.Name]; dc != "" {
			fmt.Fprintf(&b, "dc = %q\n", dc)
		}
	}
	return b.String()
}

func linksText(links, topics []string) string {
	var b strings.Builder
	for _, l := range links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&b, "[[link]]\nname = %q\nfrom = %q\nto = %q\ntopics = [\"%s\"]\n", from+"-"+to, from, to, strings.Join(topics, `", "`))
	}
	return b.String()
}

func nodeText(t testing.TB, name string) (string, place) {
	p := place{grpc: net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t))), http: net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))}
	return fmt.Sprintf("[[node]]\nname = %q\nhttp = %q\ngrpc = %q\n", name, p.http, p.grpc), p
}

// write puts the text into a file of its own, which has to be right.
func (s *Setup) write(text string) (file string) {
	s.t.Helper()
	file = filepath.Join(s.t.TempDir(), "isthmus.toml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.Topology, err = topology.Load(file); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// Node returns the node of that name, not started.
func (s *Setup) Node(name string) *Node {
	s.t.Helper()
	n := New(s.t, name, s.nodes[name].file, s.nodes[name].grpc)
	*s.made = append(*s.made, n)
	return n
}

// File is the topology file of a node, and GRPC where it answers.
func (s *Setup) File(node string) string { return s.nodes[node].file }

// HTTP is where a node has its page and its metrics.
func (s *Setup) HTTP(node string) string { return s.nodes[node].http }

// GRPC is the address of a node's API.
func (s *Setup) GRPC(node string) string { return s.nodes[node].grpc }

// FreePort finds a free port and keeps it for this test: a node that was killed must get the same port again.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, locks, err := process.ReservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.CloseAll(locks); err != nil {
			t.Error(err)
		}
	})
	return ports[0]
}

// FreeRow is the first of n free ports in a row.
func FreeRow(t testing.TB, n int) int {
	t.Helper()
	first, locks, err := process.ReserveRange(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.CloseAll(locks); err != nil {
			t.Error(err)
		}
	})
	return first
}

// In is the setup for a subtest.
func (s *Setup) In(t testing.TB) *Setup {
	c := *s
	c.t = t
	return &c
}
