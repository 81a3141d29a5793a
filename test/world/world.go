package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/cmd/isthmus/node"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	nets "github.com/isthmus-project/isthmus/test/gossip"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// World is a fabric of nodes over kfake clusters.
type World struct {
	*fabric.Fabric
	Net   *nets.Network
	Nodes []*Node
	t     testing.TB
	ends  []func()        // of what a test left running
	dead  []chan struct{} // of nodes that were killed
}

// Node is one node of the fabric.
type Node struct {
	Name  string
	Paths map[string]*fabric.Path // to the clusters
	API   *admin.Client
	Level slog.LevelVar // of its log
	*node.Node
	host *nets.Host
	ears []net.Listener
	stop context.CancelFunc
	done chan struct{}
	dead *atomic.Bool // this life was killed: how it ends does not matter
	w    *World
	spec topology.Node
}

// New makes the clusters and the nodes; "eu-1@frankfurt" is a node and its data center. Nothing runs yet but the clusters. It must be
// called inside a bubble.
func New(t testing.TB, o fabric.Options, seed uint64, nodes ...string) *World {
	t.Helper()
	var more strings.Builder
	more.WriteString(o.More)
	for i, n := range nodes {
		name, dc, _ := strings.Cut(n, "@")
		fmt.Fprintf(&more, "[[node]]\nname = %q\ndc = %q\ngossip = %q\ngrpc = \"127.0.0.1:%d\"\nhttp = \"127.0.0.1:%d\"\n", name, dc, address(i), 7001+2*i, 7002+2*i)
	}
	o.More = more.String()
	w := &World{Fabric: fabric.New(t, o), Net: nets.NewNetwork(seed), t: t}
	for _, spec := range w.Topology.Nodes {
		n := &Node{Name: spec.Name, Paths: make(map[string]*fabric.Path), w: w, spec: spec}
		for _, c := range o.Clusters {
			n.Paths[c] = w.Path()
		}
		w.Nodes = append(w.Nodes, n)
	}
	return w
}

func address(i int) string { return fmt.Sprintf("127.0.0.1:%d", 17946+i) }

// Start runs a node.
func (n *Node) Start() {
	n.w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(writer{n.w.t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", n.Name)
	}
	n.host = n.w.Net.Host(n.Name, n.spec.DC, n.spec.Gossip)
	var err error
	n.Node, err = node.New(node.Config{Topology: n.w.Topology, Source: n.w.Source, Self: n.spec, Log: log, Level: &n.Level, Network: node.Network{
		Dial: func(cluster string) func(context.Context, string, string) (net.Conn, error) {
			return n.Paths[cluster].Dial
		},
		Listen: n.listen, Door: n.w.Dial, Gossip: func(c *gossip.Config) { c.Transport = n.host },
	}})
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.API, err = admin.Dial(n.spec.GRPC, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return n.w.Dial(ctx, "tcp", address)
	}))
	if err != nil {
		n.w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	run, done, dead := n.Node, make(chan struct{}), new(atomic.Bool)
	n.stop, n.done, n.dead = stop, done, dead
	go func() {
		defer close(done)
		if err := errors.Join(run.Run(ctx), run.Set().Ended()); err != nil && !dead.Load() {
			n.w.t.Errorf("node %s: %v", n.Name, err)
		}
	}()
}

func (n *Node) listen(network, address string) (net.Listener, error) {
	l, err := n.w.Listen(network, address)
	if err == nil {
		n.ears = append(n.ears, l)
	}
	return l, err
}

// Stop ends a node in good order.
func (n *Node) Stop() {
	n.stop()
	<-n.done
	_ = n.API.Close()
	n.Node = nil
}

// Kill ends a node as kill -9 does: the others and the clusters hear nothing more of it. What is left of it ends by itself.
func (n *Node) Kill() {
	n.dead.Store(true)
	n.host.Kill()
	for c, p := range n.Paths {
		p.Cut()
		n.Paths[c] = n.w.Path() // of the next life
	}
	for _, l := range n.ears {
		_ = l.Close()
	}
	n.stop()
	_ = n.API.Close()
	n.w.dead, n.Node = append(n.w.dead, n.done), nil
}

// StartAll runs all nodes, and waits until every partition of every link is copied by one of them and all agree by whom.
func (w *World) StartAll() {
	w.t.Helper()
	for _, n := range w.Nodes {
		n.Start()
	}
	w.Until("all nodes agree", time.Minute, w.Agreed)
}

// Close ends everything.
func (w *World) Close() {
	for _, end := range w.ends {
		end()
	}
	for _, n := range w.Nodes {
		if n.Node != nil {
			n.Stop()
		}
	}
	for _, gone := range w.dead {
		<-gone
	}
	w.Fabric.Close()
	time.Sleep(time.Minute) // until the last ping has given up: time stands still when the bubble's main goroutine has ended
}

// Until waits in virtual time, and returns how long it took.
func (w *World) Until(what string, most time.Duration, ask func() error) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		err := ask()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > most {
			w.t.Fatalf("waited %v until %s: %v", most, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Pump is one partition on one link.
type Pump struct {
	Link, Topic string
	Partition   int32
}

// Copies are the nodes that copy each partition that any node knows.
func (w *World) Copies(nodes ...*Node) map[Pump][]string {
	out := make(map[Pump][]string)
	for _, n := range nodes {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					name := Pump{l.Name, f.Topic, p.Partition}
					out[name] = append(out[name], nil...)
					if p.State == mirror.StateRunning {
						out[name] = append(out[name], n.Name)
					}
				}
			}
		}
	}
	return out
}

// Running are the nodes that were started.
func (w *World) Running() []*Node {
	return slices.DeleteFunc(slices.Clone(w.Nodes), func(n *Node) bool { return n.Node == nil })
}

// Agreed is an error while a partition is not copied by exactly one node.
func (w *World) Agreed() error { return w.AgreedAmong(w.Running()...) }

// AgreedAmong is Agreed for some of the nodes.
func (w *World) AgreedAmong(nodes ...*Node) error {
	copies := w.Copies(nodes...)
	if want := len(w.Topology.Links); len(copies) < want {
		return fmt.Errorf("%d partitions are known, want at least %d", len(copies), want)
	}
	for p, by := range copies {
		if len(by) != 1 {
			return fmt.Errorf("%v is copied by %q: %s", p, by, w.about(p))
		}
	}
	return nil
}

// about is what each node says of a partition.
func (w *World) about(p Pump) (text string) {
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				if l.Name == p.Link && f.Topic == p.Topic && int(p.Partition) < len(f.Pumps) {
					at := f.Pumps[p.Partition]
					text += fmt.Sprintf("; %s: %s (%s) %s", n.Name, at.State, at.Reason, l.Trouble)
				}
			}
		}
	}
	return text
}

type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
