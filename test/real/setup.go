package real

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/topology"
)

// soak says whether the full numbers were asked for.
func soak() bool { return os.Getenv("ISTHMUS_SOAK") == "1" }

// pick is a size: for CI, or in full.
func pick[T any](ci, full T) T {
	if soak() {
		return full
	}
	return ci
}

// seed is that of this run, printed so that a failure can be run again.
func seed(t testing.TB) uint64 {
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

// site is a cluster under the name it has in the topology.
type site struct {
	*kafka.Cluster
	name  string
	admin *kadm.Client
}

// startSites starts one-broker clusters of these names, all at once.
func startSites(t testing.TB, names ...string) map[string]*site {
	t.Helper()
	var all []kafka.Options
	for _, name := range names {
		all = append(all, kafka.Options{Name: name, HeapMB: 384})
	}
	sites := make(map[string]*site)
	for i, c := range kafka.StartAll(t, all...) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		sites[names[i]] = &site{c, names[i], kadm.NewClient(cl)}
	}
	return sites
}

// client reaches the site as its own clients do.
func (s *site) client() judge.Client { return judge.Client{Name: s.name, Bootstrap: s.Bootstrap()} }

// create makes a topic with settings given as "key=value".
func (s *site) create(t testing.TB, topic string, partitions int32, settings ...string) {
	t.Helper()
	configs := make(map[string]*string)
	for _, kv := range settings {
		k, v, _ := strings.Cut(kv, "=")
		configs[k] = &v
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.admin.CreateTopic(ctx, partitions, 1, configs, topic); err != nil {
		t.Fatalf("create topic %s on %s: %v", topic, s.name, err)
	}
}

// alter sets one setting of a topic.
func (s *site) alter(t testing.TB, topic, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err == nil {
		_, err = res.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		t.Fatalf("set %s of topic %s on %s: %v", key, topic, s.name, err)
	}
}

// ends are the log ends of some topics of a cluster; topics it does not have are missing.
func (s *site) ends(ctx context.Context, topics ...string) (map[string]map[int32]int64, error) {
	listed, err := s.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", s.name, err)
	}
	out := make(map[string]map[int32]int64)
	var failed error
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			failed = fmt.Errorf("list the end of %s:%d of %s: %w", o.Topic, o.Partition, s.name, o.Err)
			return
		}
		if out[o.Topic] == nil {
			out[o.Topic] = make(map[int32]int64)
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	return out, failed
}

// setup is a topology over some sites.
type setup struct {
	t     testing.TB
	sites []*site
	topo  *topology.Topology
	file  string
	grpc  map[string]string // address by node
}

// newSetup writes a topology file. Links are "eu>us"; all carry the same topics; every node runs all of them. Sites that
// do not run are addresses where nothing listens.
func newSetup(t testing.TB, fabric string, sites []*site, links, topics, nodes []string) *setup {
	t.Helper()
	s := &setup{t: t, file: filepath.Join(t.TempDir(), "isthmus.toml"), grpc: make(map[string]string)}
	var b strings.Builder
	fmt.Fprintf(&b, "[fabric]\nname = %q\n", fabric)
	for _, c := range sites {
		bootstrap := []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))}
		if c.Cluster != nil {
			bootstrap = c.Bootstrap()
			s.sites = append(s.sites, c)
		}
		fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s\"]\n", c.name, strings.Join(bootstrap, `", "`))
	}
	for _, l := range links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&b, "[[link]]\nname = %q\nfrom = %q\nto = %q\ntopics = [\"%s\"]\n", from+"-"+to, from, to, strings.Join(topics, `", "`))
	}
	for _, n := range nodes {
		s.grpc[n] = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
		fmt.Fprintf(&b, "[[node]]\nname = %q\nhttp = \"127.0.0.1:%d\"\ngrpc = %q\n", n, freePort(t), s.grpc[n])
	}
	if err := os.WriteFile(s.file, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.topo, err = topology.Load(s.file); err != nil {
		t.Fatal(err)
	}
	return s
}

// node returns the node of that name, not started.
func (s *setup) node(name string) *node {
	s.t.Helper()
	return newNode(s.t, name, s.file, s.grpc[name])
}

// freePort finds a free port below those that Linux gives to outgoing connections and those of the brokers: a node that
// was killed must get the same port again.
func freePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 8000 + rand.IntN(3900)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port")
	return 0
}

// in is the setup for a subtest.
func (s *setup) in(t testing.TB) *setup {
	c := *s
	c.t = t
	return &c
}
