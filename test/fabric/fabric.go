package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	More       string   // at the end of the topology file
	Topics     []string // made on every cluster that On lists
	On         []string // nil = all clusters
	Partitions int32
	Brokers    int
	Seed       uint64
	Verbose    bool
	Mirror     mirror.Config
	Kfake      []kfake.Opt
	Data       string // a folder in which each cluster keeps its data under its name, for Restart; empty = in memory
	// Change is called with what each node is about to be made of.
	Change func(node string, d *mirror.SetDeps)
}

// Fabric is a running set of kfake clusters. It must be made inside a bubble.
type Fabric struct {
	Topology *topology.Topology
	Source   topology.Source // that the topology was read from
	Clusters map[string]*kfake.Cluster
	net      *kfake.VirtualNetwork
	ports    map[string]int
	opt      Options
	t        testing.TB
	rng      *rand.Rand
	killed   sync.WaitGroup // what is left of killed nodes

	mu    sync.Mutex
	nodes []*Node
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
		f.launch(name, true)
		fmt.Fprintf(&file, "[[cluster]]\nname = %q\nbootstrap = [\"127.0.0.1:%d\"]\n", name, base)
	}
	for _, l := range o.Links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&file, "[[link]]\nfrom = %q\nto = %q\n"+linkEnds+"%s\n", from, to, o.Settings)
	}
	file.WriteString(o.More)
	f.Source = topology.Source{Name: "fabric.toml", Text: []byte(file.String())}
	topo, err := topology.Parse(f.Source.Name, f.Source.Text)
	if err != nil {
		t.Fatal(err)
	}
	f.Topology = topo
	return f
}

// launch starts one cluster, with the topics that it begins with if it is new.
func (f *Fabric) launch(name string, begins bool) {
	f.t.Helper()
	ports := make([]int, f.opt.Brokers)
	for b := range ports {
		ports[b] = f.ports[name] + b
	}
	opts := []kfake.Opt{kfake.ListenFn(f.net.Listen), kfake.Ports(ports...), kfake.NumBrokers(f.opt.Brokers), kfake.ClusterID(name)}
	if begins && (f.opt.On == nil || slices.Contains(f.opt.On, name)) {
		opts = append(opts, kfake.SeedTopics(f.opt.Partitions, f.opt.Topics...))
	}
	if f.opt.Data != "" {
		opts = append(opts, kfake.DataDir(filepath.Join(f.opt.Data, name)))
	}
	c, err := kfake.NewCluster(append(opts, f.opt.Kfake...)...)
	if err != nil {
		f.t.Fatalf("start cluster %s: %v", name, err)
	}
	f.Clusters[name] = c
}

// Restart stops a cluster in good order, has its data changed, and starts it on that. Partitions are the folders
// partitions/TOPIC-NUMBER of the data.
func (f *Fabric) Restart(name string, change func(data string)) {
	f.t.Helper()
	f.Clusters[name].Close()
	if change != nil {
		change(filepath.Join(f.opt.Data, name))
	}
	f.launch(name, false)
}

// Close stops the clusters, when killed nodes have come to their ends.
func (f *Fabric) Close() {
	f.killed.Wait()
	for _, c := range f.Clusters {
		c.Close()
	}
}

// With is the topology as it would be with other settings of every link.
func (f *Fabric) With(settings string) (*topology.Topology, error) {
	text := strings.ReplaceAll(string(f.Source.Text), linkEnds, linkEnds+settings+"\n")
	return topology.Parse(f.Source.Name, []byte(text))
}

// linkEnds are the lines of a link before its settings.
const linkEnds = "topics = [\"*\"]\n"

// Path is a new way from somewhere to the clusters, without faults, whose connections buffer what is written.
func (f *Fabric) Path() *Path {
	p := newPath(f.net)
	p.buffers = true
	return p
}

// Listen is net.Listen of the bubble's network, and Dial reaches what listens there.
func (f *Fabric) Listen(network, address string) (net.Listener, error) {
	return f.net.Listen(network, address)
}

// Dial is net.Dial of the bubble's network.
func (f *Fabric) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return f.net.DialContext(ctx, network, address)
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
	dead   atomic.Bool // killed: it answers nobody
	killed *sync.WaitGroup
}

// Start runs the named links (all if none) as one node.
func (f *Fabric) Start(name string, links ...string) *Node {
	f.t.Helper()
	return f.Run(name, func(d *mirror.SetDeps) {
		d.Runs = func(l topology.Link) bool { return len(links) == 0 || slices.Contains(links, l.Name) }
	})
}

// Run starts a node whose dependencies may be changed before.
func (f *Fabric) Run(name string, change func(*mirror.SetDeps)) *Node {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{Name: name, Paths: make(map[string]*Path), cancel: cancel, done: make(chan struct{}), killed: &f.killed}
	log := slog.New(slog.DiscardHandler)
	if f.opt.Verbose {
		log = slog.New(slog.NewTextHandler(testWriter{f.t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
	}
	for _, c := range f.opt.Clusters {
		n.Paths[c] = newPath(f.net)
	}
	deps := mirror.SetDeps{
		Topology: f.Topology, Log: log, Writer: fmt.Sprintf("%s/%x", name, f.rng.Uint64()),
		Rand: rand.New(rand.NewPCG(f.rng.Uint64(), 2)),
		Open: func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			p.Dial = n.Paths[c.Name].Dial
			return broker.Open(p, log)
		},
	}
	if f.opt.Change != nil {
		f.opt.Change(name, &deps)
	}
	if change != nil {
		change(&deps)
	}
	var err error
	if n.Set, err = mirror.NewSet(f.opt.Mirror, deps); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.nodes = append(f.nodes, n)
	f.mu.Unlock()
	go func() {
		defer close(n.done)
		if err := errors.Join(n.Set.Run(ctx), n.Set.Ended()); err != nil {
			f.t.Errorf("node %s: %v", name, err)
		}
	}()
	return n
}

// Stop ends the node in good order.
func (n *Node) Stop() {
	n.cancel()
	<-n.done
	for _, p := range n.Paths { // as the end of a process does
		p.Cut()
	}
}

// Kill ends the node as kill -9 does: nothing more reaches any cluster, and nobody waits for it. What is left of it ends by itself.
func (n *Node) Kill() {
	n.dead.Store(true)
	for _, p := range n.Paths {
		p.Cut()
	}
	n.killed.Go(n.Stop)
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
