package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
	"github.com/isthmus-project/isthmus/topology"
)

const text = `
[fabric]
name = "shop"
[[cluster]]
name = "eu"
bootstrap = ["127.0.0.1:9100"]
[[cluster]]
name = "us"
bootstrap = ["127.0.0.1:9101"]
[[cluster]]
name = "ap"
bootstrap = ["127.0.0.1:9102"]
[[node]]
name = "eu-1"
gossip = "127.0.0.1:7946"
[[node]]
name = "eu-2"
gossip = "127.0.0.1:7947"
[[link]]
from = "eu"
to = "us"
topics = ["orders", "bills"]
[[link]]
from = "us"
to = "eu"
topics = ["orders", "bills"]
[[router]]
name = "shop"
node = "eu-1"
listen = "127.0.0.1:9092"
advertise = "127.0.0.1"
slots = "9093-9095"
home = "eu"
[[router]]
name = "shop"
node = "eu-2"
listen = "127.0.0.2:9092"
advertise = "127.0.0.2"
slots = "9093-9095"
home = "eu"
`

// lab is three kfake clusters in a bubble, of which eu has been mirrored to us, and two instances of a router that do as they should.
type lab struct {
	t       *testing.T
	network kfake.VirtualNetwork
	fakes   map[string]*kfake.Cluster
	topo    *topology.Topology

	mu       sync.Mutex
	unique   int
	behind   int64                      // of what eu has is not at us
	stuck    bool                       // instances neither hold nor go on
	silent   []string                   // instances that do not answer
	deleted  string                     // a topic of which the mirror tells nothing
	lost     string                     // the address of a cluster that nobody reaches
	counted  func(all []Standing)       // what the coordinator was told, if that is to be seen
	clusters map[string]*broker.Cluster // opened
}

// inLab runs a test with topics that have some records, at us a hundred offsets further.
func inLab(t *testing.T, fn func(t *testing.T, l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		topo, err := topology.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		l := &lab{t: t, fakes: map[string]*kfake.Cluster{}, topo: topo, clusters: map[string]*broker.Cluster{}}
		for i, name := range []string{"eu", "us", "ap"} {
			fake, err := kfake.NewCluster(kfake.ListenFn(l.network.Listen), kfake.Ports(9100+i), kfake.NumBrokers(1), kfake.SeedTopics(3, "orders", "bills"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(fake.Close)
			l.fakes[name] = fake
		}
		for p := range int32(3) {
			l.fill("us", "orders", p, 100)
			for _, at := range []string{"eu", "us"} {
				l.fill(at, "orders", p, int(10*p))
			}
		}
		fn(t, l)
	})
}

func (l *lab) fill(at, topic string, partition int32, n int) {
	l.t.Helper()
	p, err := l.at(at).Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		l.t.Fatal(err)
	}
	defer p.Close()
	for range n {
		if _, err := p.Produce(l.t.Context(), broker.Record{Topic: topic, Partition: partition, Value: []byte("x")}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// at is a cluster that is there.
func (l *lab) at(name string) *broker.Cluster {
	l.t.Helper()
	c, err := l.cluster(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// commit sets where a group is at eu.
func (l *lab) commit(group string, at map[int32]int64) {
	l.t.Helper()
	var all []broker.GroupOffset
	for p, o := range at {
		all = append(all, broker.GroupOffset{TopicPartition: broker.TopicPartition{Topic: "orders", Partition: p}, Offset: o, LeaderEpoch: -1})
	}
	if refused, err := l.at("eu").CommitGroup(l.t.Context(), group, all); err != nil || len(refused) > 0 {
		l.t.Fatal(refused, err)
	}
}

// committed is where a group is.
func (l *lab) committed(at, group string) map[int32]int64 {
	l.t.Helper()
	got := l.at(at).GroupOffsets(l.t.Context(), group)[group]
	if got.Err != nil {
		l.t.Fatal(got.Err)
	}
	out := map[int32]int64{}
	for _, o := range got.Offsets {
		out[o.Partition] = o.Offset
	}
	return out
}

func (l *lab) cluster(name string) (*broker.Cluster, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.clusters[name]; c != nil {
		return c, nil
	}
	spec, ok := l.topo.Cluster(name)
	if !ok {
		return nil, errors.New("no such cluster")
	}
	c, err := broker.Open(broker.Profile{Name: name, Bootstrap: spec.Bootstrap, Dial: l.dial}, nil)
	if err == nil {
		l.t.Cleanup(c.Close)
		l.clusters[name] = c
	}
	return c, err
}

func (l *lab) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	lost := address == l.lost
	l.mu.Unlock()
	if lost {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return l.network.DialContext(ctx, network, address)
}

// store is that of a node.
func (l *lab) store(node string) *generation.Store {
	l.t.Helper()
	var all []*broker.Cluster
	for _, name := range l.topo.Controls() {
		c, err := l.cluster(name)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, c)
	}
	s := generation.NewStore(all, generation.Config{Router: "shop", Node: node, Now: generation.Clock(), Unique: l.next})
	l.t.Cleanup(s.Close)
	return s
}

func (l *lab) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unique++
	return fmt.Sprint("unique", l.unique)
}

// coordinator is that of a node.
func (l *lab) coordinator(node string) *Coordinator {
	l.t.Helper()
	instances := l.store("instances of " + node)
	c, err := New(l.topo, "shop", Deps{Store: l.store(node), Cluster: l.cluster, Mirror: func() arrival.Mirror { return l }, Unique: l.next, Now: generation.Clock(),
		Instances: func(ctx context.Context, set string) ([]Standing, []string) { return l.instances(ctx, instances, set) },
		Salted:    func(id, _ int64) (int64, error) { return id, nil }})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// instances do what the logs say.
func (l *lab) instances(ctx context.Context, s *generation.Store, set string) (all []Standing, missing []string) {
	_, _ = s.Read(ctx)
	st, err := s.State(set)
	if err != nil {
		l.t.Error(err)
	}
	one := Standing{Home: st.Home, Generation: st.Generation}
	l.mu.Lock()
	defer l.mu.Unlock()
	if st.Open && !l.stuck {
		one.Held, one.Round = true, st.Round
	}
	for _, node := range []string{"eu-1", "eu-2"} {
		if one.Node = node; !slices.Contains(l.silent, node) {
			all = append(all, one)
		}
	}
	if l.counted != nil {
		l.counted(all)
	}
	return all, l.silent
}

// Reached implements [arrival.Mirror].
func (l *lab) Reached(ctx context.Context, from, _, topic string, partition int32) (int64, error) {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	if lost != "" && topic == "orders" { // what is durable is at us
		return max(0, int64(10*partition)-1), nil
	}
	if lost != "" {
		return 0, nil
	}
	c, err := l.cluster(from)
	if err != nil {
		return 0, err
	}
	ends, err := c.LogEnds(ctx, topic)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if from != "eu" {
		return ends[topic][partition], nil
	}
	return max(0, ends[topic][partition]-l.behind), nil
}

// Runs implements [arrival.Mirror]: what eu has is at us a hundred offsets further, and back.
func (l *lab) Runs(_ context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	n := int64(10 * partition)
	l.mu.Lock()
	deleted := topic == l.deleted
	l.mu.Unlock()
	switch {
	case deleted:
		return nil, errors.New("no such topic")
	case topic != "orders" || n == 0:
		return nil, nil
	case from == "eu" && at == "us":
		return []timeline.Run{{From: 0, To: 100, Count: n}}, nil
	case from == "us" && at == "eu":
		return []timeline.Run{{From: 100, To: 0, Count: n}}, nil
	}
	return nil, errors.New("no link")
}

// Producers implements [arrival.Mirror].
func (*lab) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

// Copied implements [arrival.Mirror].
func (l *lab) Copied(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	return l.Runs(ctx, from, at, topic, partition)
}

// order is one to go from eu to us.
func (l *lab) order(c *Coordinator, to string, kind generation.Kind) switchover.Order {
	l.t.Helper()
	o, err := c.Order(l.t.Context(), "", to, kind, "a test")
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

// run runs a switch and returns the steps that it took.
func (l *lab) run(ctx context.Context, c *Coordinator, o switchover.Order) (switchover.State, []switchover.Step, time.Duration) {
	l.t.Helper()
	began := time.Now()
	var steps []switchover.Step
	s, err := c.Run(ctx, o, func(s switchover.State, _ Found) { steps = append(steps, s.Step) })
	if err != nil {
		l.t.Fatal(err)
	}
	return s, steps, time.Since(began)
}
