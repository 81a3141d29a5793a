package fabric

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// Options describe a fabric.
type Options struct {
	Clusters   []string
	Links      []string // "eu>us"
	Settings   string   // of every link, as lines of the topology file
	Topics     []string // made on every cluster that On lists
	On         []string // nil = all clusters
	Partitions int32
	Brokers    int
	Seed       uint64
	Verbose    bool
	Mirror     mirror.Config
	Kfake      []kfake.Opt
}

// Fabric is a running set of kfake clusters. It must be made inside a bubble.
type Fabric struct {
	Topology *topology.Topology
	Clusters map[string]*kfake.Cluster
	net      *kfake.VirtualNetwork
	ports    map[string]int
	opt      Options
	t        testing.TB
	rng      *rand.Rand
}

// New starts the clusters.
func New(t testing.TB, o Options) *Fabric {
	t.Helper()
	if o.Partitions == 0 {
		o.Partitions = 2
	}
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	f := &Fabric{Clusters: make(map[string]*kfake.Cluster), net: &kfake.VirtualNetwork{}, ports: make(map[string]int),
		opt: o, t: t, rng: rand.New(rand.NewPCG(o.Seed, 1))}
	var file strings.Builder
	file.WriteString("[fabric]\nname = \"test\"\n")
	for i, name := range o.Clusters {
		base := 9000 + 10*i
		f.ports[name] = base
		ports := make([]int, o.Brokers)
		for b := range ports {
			ports[b] = base + b
		}
		opts := []kfake.Opt{kfake.ListenFn(f.net.Listen), kfake.Ports(ports...), kfake.NumBrokers(o.Brokers), kfake.ClusterID(name)}
		if o.On == nil || contains(o.On, name) {
			opts = append(opts, kfake.SeedTopics(o.Partitions, o.Topics...))
		}
		c, err := kfake.NewCluster(append(opts, o.Kfake...)...)
		if err != nil {
			t.Fatalf("start cluster %s: %v", name, err)
		}
		f.Clusters[name] = c
		fmt.Fprintf(&file, "[[cluster]]\nname = %q\nbootstrap = [\"127.0.0.1:%d\"]\n", name, base)
	}
	for _, l := range o.Links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&file, "[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n%s\n", from, to, o.Settings)
	}
	topo, err := topology.Parse("fabric.toml", []byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	f.Topology = topo
	return f
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Close stops the clusters.
func (f *Fabric) Close() {
	for _, c := range f.Clusters {
		c.Close()
	}
}

// Client reaches a cluster as its own clients do, without faults.
func (f *Fabric) Client(name string) judge.Client {
	return judge.Client{Name: name, Bootstrap: []string{fmt.Sprintf("127.0.0.1:%d", f.ports[name])}, Dial: f.net.DialContext}
}

// Clients lists all of them.
func (f *Fabric) Clients() []judge.Client {
	var out []judge.Client
	for _, name := range f.opt.Clusters {
		out = append(out, f.Client(name))
	}
	return out
}

// Node is one mirror process: its links and its paths to the clusters.
type Node struct {
	Name   string
	Set    *mirror.Set
	Paths  map[string]*Path
	cancel context.CancelFunc
	done   chan struct{}
}

// Start runs the named links (all if none) as one node.
func (f *Fabric) Start(name string, links ...string) *Node {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{Name: name, Paths: make(map[string]*Path), cancel: cancel, done: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	if f.opt.Verbose {
		log = slog.New(slog.NewTextHandler(testWriter{f.t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
	}
	clusters := make(map[string]*broker.Cluster)
	for _, c := range f.Topology.Clusters {
		n.Paths[c.Name] = newPath(f.net)
		p, err := broker.NewProfile(c)
		if err != nil {
			f.t.Fatal(err)
		}
		p.Dial = n.Paths[c.Name].Dial
		if clusters[c.Name], err = broker.Open(p, log); err != nil {
			f.t.Fatal(err)
		}
	}
	var running []*mirror.Link
	for _, spec := range f.Topology.Links {
		if len(links) > 0 && !contains(links, spec.Name) {
			continue
		}
		l, err := mirror.NewLink(spec, f.opt.Mirror, mirror.Deps{Topology: f.Topology, From: clusters[spec.From], To: clusters[spec.To],
			Log: log, Writer: fmt.Sprintf("%s/%x", name, f.rng.Uint64()), Rand: rand.New(rand.NewPCG(f.rng.Uint64(), 2))})
		if err != nil {
			f.t.Fatal(err)
		}
		running = append(running, l)
	}
	n.Set = mirror.NewSet(f.Topology, running)
	ended := make(chan struct{})
	for _, l := range running {
		go func() {
			if err := l.Run(ctx); err != nil {
				f.t.Errorf("link %s: %v", l.Name(), err)
			}
			ended <- struct{}{}
		}()
	}
	go func() {
		defer close(n.done)
		for range running {
			<-ended
		}
		for _, c := range clusters {
			c.Close()
		}
	}()
	return n
}

// Stop ends the node in good order.
func (n *Node) Stop() {
	n.cancel()
	<-n.done
}

// Kill ends the node as kill -9 does: nothing more reaches any cluster.
func (n *Node) Kill() {
	for _, p := range n.Paths {
		p.Cut()
	}
	n.Stop()
}

// CaughtUp waits until no pump of the nodes has anything left to copy, for at
// most the given (virtual) time, and reports what was in the way.
func CaughtUp(most time.Duration, nodes ...*Node) error {
	deadline := time.Now().Add(most)
	calm := 0
	for {
		why := ""
		for _, n := range nodes {
			for _, l := range n.Set.Status() {
				if !l.Up {
					why = l.Name + ": " + l.Trouble
				}
				for _, fl := range l.Flows {
					for _, p := range fl.Pumps {
						if p.State != mirror.StateRunning || p.LagRecords > 0 || p.SourceEnd < 0 {
							why = fmt.Sprintf("%s %s:%d %s (%s) lag %d of %d", l.Name, fl.Topic, p.Partition, p.State, p.Reason, p.LagRecords, p.SourceEnd)
						}
					}
				}
			}
		}
		if why == "" {
			if calm++; calm > 8 {
				return nil
			}
		} else {
			calm = 0
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not caught up: %s", why)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
