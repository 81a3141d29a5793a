package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/topology"
)

// world is a home in a bubble, and routers in front of it.
type world struct {
	t       *testing.T
	net     kfake.VirtualNetwork
	home    *kfake.Cluster
	brokers int

	mu   sync.Mutex
	dead map[string]bool // nodes
	log  strings.Builder
	id   atomic.Int64
	rand func() float64 // nil is the machine's own
	deps func(instance int, d *router.Deps)
}

func inWorld(t *testing.T, brokers int, fn func(t *testing.T, w *world), opts ...kfake.Opt) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dead: make(map[string]bool), brokers: brokers}
		var ports []int
		for i := range brokers {
			ports = append(ports, 9001+i)
		}
		c, err := kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(w.net.Listen), kfake.Ports(ports...), kfake.NumBrokers(brokers),
			kfake.ClusterID("real-cluster"), kfake.SeedTopics(6, "orders")}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.home = c
		fn(t, w)
	})
}

// Live says of a node whether it lives.
func (w *world) Live(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dead[node]
}

// Write keeps the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) said(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.log.String(), what)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// instance is one of the two that a world may have.
func instance(i int) topology.Router {
	at := uint16(9100 + 100*i)
	return topology.Router{Name: "shop", Node: fmt.Sprint("eu-", i), Listen: fmt.Sprintf("127.0.0.1:%d", at), Advertise: "127.0.0.1",
		Slots: topology.Ports{First: at + 1, Last: at + 4}, Home: "eu", Auth: topology.PassThrough}
}

// door is one instance that runs.
type door struct {
	router *router.Router
	stop   context.CancelFunc
	ended  chan error
}

// end stops an instance in order, or finds it stopped, and returns how it ended.
func (d *door) end() error {
	d.stop()
	return <-d.ended
}

// start starts an instance of a router of so many, until the bubble ends or it is ended.
func (w *world) start(i, of int, change func(*router.Config)) *door {
	w.t.Helper()
	return w.startAs(i, of, change, nil)
}

// startAs starts one that logs in at the home.
func (w *world) startAs(i, of int, change func(*router.Config), login sasl.Mechanism) *door {
	w.t.Helper()
	home, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9001"}, Dial: w.net.DialContext, SASL: login}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := router.Config{Router: instance(i)}
	for j := range of {
		cfg.Instances = append(cfg.Instances, instance(j))
	}
	if change != nil {
		change(&cfg)
	}
	deps := router.Deps{Home: home, Live: w, Listen: w.net.Listen, Rand: w.rand, Log: slog.New(slog.NewTextHandler(w, nil)),
		Unique:     func() string { return fmt.Sprint("proposal-", w.id.Add(1)) },
		ProducerID: func(counter uint32) int64 { return 1<<62 + int64(counter) }}
	if w.deps != nil {
		w.deps(i, &deps)
	}
	r, err := router.New(cfg, deps)
	if err != nil {
		home.Close()
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &door{router: r, stop: stop, ended: make(chan error, 1)}
	go func() {
		err := r.Run(ctx)
		home.Close()
		d.ended <- err
		close(d.ended)
	}()
	w.t.Cleanup(func() { _ = d.end() })
	return d
}

// client knows the bootstrap of some instances, and reaches nothing but doors.
func (w *world) client(instances []int, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	var seeds []string
	for _, i := range instances {
		seeds = append(seeds, instance(i).Listen)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "127.0.0.1:90") {
			w.t.Errorf("a client went around the door, to %s", address)
		}
		return w.net.DialContext(ctx, network, address)
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.Dialer(dial), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

// told is what clients of an instance are told of brokers: id to address; and the cluster's id.
func (w *world) told(i int) (cluster string, brokers map[int32]string) {
	w.t.Helper()
	cl := w.client([]int{i}, kgo.RequestRetries(20))
	defer cl.Close()
	m, err := kadm.NewClient(cl).Metadata(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	brokers = make(map[int32]string)
	for _, b := range m.Brokers {
		brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	return m.Cluster, brokers
}

func same(a, b map[int32]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// TestRouter_ProduceAndConsume: a client goes through the router as it would to the cluster, which it knows by its real ids.
func TestRouter_ProduceAndConsume(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		d := w.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		cluster, brokers := w.told(0)
		if want := map[int32]string{0: "127.0.0.1:9101", 1: "127.0.0.1:9102", 2: "127.0.0.1:9103"}; cluster != "real-cluster" || !same(brokers, want) {
			t.Errorf("clients are told %q, %v", cluster, brokers)
		}
		cl := w.client([]int{0}, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond))
		produce(t, cl, 0, 2000)
		if id, _, err := cl.ProducerID(t.Context()); err != nil || id < 1<<62 {
			t.Errorf("the producer's id is %d, %v", id, err)
		}
		in := w.client([]int{0}, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		consume(t, in, 2000)
		in.Close()
		cl.Close()
		if err := d.end(); err != nil {
			t.Errorf("the router ended: %v", err)
		}
	})
}

// TestRouter_IdentityStays: over two instances that start at once, over restarts, and in any order of them, brokers keep ids and slots.
func TestRouter_IdentityStays(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		one, two := w.start(0, 2, nil), w.start(1, 2, nil)
		time.Sleep(3 * time.Second)
		cluster, brokers := w.told(0)
		if other, b := w.told(1); other != cluster || !same(b, brokers) || len(b) != 3 {
			t.Errorf("one tells %q, %v, the other %q, %v", cluster, brokers, other, b)
		}
		on := map[string]int{}
		for _, address := range brokers {
			on[address[:len("127.0.0.1:91")]]++
		}
		if len(on) != 2 {
			t.Errorf("slots are on one instance only: %v", brokers)
		}
		for round := range 2 {
			if err := errors.Join(one.end(), two.end()); err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				one, two = w.start(0, 2, nil), w.start(1, 2, nil)
			} else {
				two, one = w.start(1, 2, nil), w.start(0, 2, nil)
			}
			time.Sleep(3 * time.Second)
			for i := range 2 {
				if c, b := w.told(i); c != cluster || !same(b, brokers) {
					t.Errorf("round %d: instance %d tells %q, %v, before it was %q, %v", round, i, c, b, cluster, brokers)
				}
			}
		}
	})
}

// TestRouter_BrokersJoin: one that joins has the next slot soon; one for which there is no slot is said, by the field, and the others are served.
func TestRouter_BrokersJoin(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		_, before := w.told(0)
		add := func(node int) {
			if _, _, err := w.home.AddNode(int32(node), 9001+node); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		add(3)
		_, after := w.told(0)
		if before[3] = "127.0.0.1:9104"; !same(after, before) {
			t.Errorf("clients are told %v, want %v", after, before)
		}
		if w.said("slots = ") {
			t.Error("slots are said to be too few")
		}
		add(4)
		if _, last := w.told(0); !same(last, before) {
			t.Errorf("clients are told %v, want %v", last, before)
		}
		if !w.said(`slots = \"9101-9104\" are all taken, and brokers [4] of eu have none`) {
			t.Errorf("it is not said that slots are too few:\n%s", w.logged())
		}
		for p := range int32(6) { // whoever led what is not reached would wait for ever
			if err := w.home.MoveTopicPartition("orders", p, p%4); err != nil {
				t.Fatal(err)
			}
		}
		cl := w.client([]int{0}, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		defer cl.Close()
		produce(t, cl, 0, 100)
	})
}

// TestRouter_StandIn: who comes to the slot of a broker that is not there is told about the cluster by another one, and has to go elsewhere with anything else; nobody
// stands in at a slot that was never anyone's.
func TestRouter_StandIn(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		if err := w.home.RemoveNode(2); err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{0, 10 * time.Second} { // while the router still takes it to be there, and when it knows better
			time.Sleep(after)
			for _, c := range []struct {
				slot  string
				first kmsg.Request
				told  bool
			}{{"127.0.0.1:9103", kmsg.NewPtrMetadataRequest(), true}, {"127.0.0.1:9103", kmsg.NewPtrListOffsetsRequest(), false}, {"127.0.0.1:9104", kmsg.NewPtrMetadataRequest(), false}} {
				slot, err := w.net.DialContext(t.Context(), "tcp", c.slot)
				if err != nil {
					t.Fatal(err)
				}
				defer slot.Close()
				c.first.SetVersion(1)
				if _, err := slot.Write(kmsg.NewRequestFormatter().AppendRequest(nil, c.first, 7)); err != nil {
					t.Fatal(err)
				}
				_ = slot.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.ReadFull(slot, make([]byte, 8)); (err == nil) != c.told {
					t.Errorf("slot %s, %s: %v, want an answer: %t", c.slot, kmsg.NameForKey(c.first.Key()), err, c.told)
				}
			}
		}
	})
}

// TestRouter_BrokerLeaves: the connections to one that is gone end in order, and clients find the new leaders.
func TestRouter_BrokerLeaves(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		slot, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9103")
		if err != nil {
			t.Fatal(err)
		}
		defer slot.Close()
		ask(t, slot)
		if err := w.home.RemoveNode(2); err != nil {
			t.Fatal(err)
		}
		cl := w.client([]int{0}, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		defer cl.Close()
		produce(t, cl, 0, 500)
		_ = slot.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := slot.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection to the broker's slot ended with %v, want EOF", err)
		}
		if _, brokers := w.told(0); len(brokers) != 2 {
			t.Errorf("clients are told %v", brokers)
		}
	})
}

// ask sends a Metadata request, whose answer comes from the broker.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil || head[7] != 7 {
		t.Fatalf("% x, %v", head, err)
	}
	if _, err := io.CopyN(io.Discard, c, int64(head[2])<<8+int64(head[3])-4); err != nil {
		t.Fatal(err)
	}
}

// TestRouter_InstanceDies: clients go on over the other instance, and no record is lost or doubled.
func TestRouter_InstanceDies(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		one := w.start(0, 2, nil)
		w.start(1, 2, nil)
		time.Sleep(3 * time.Second)
		out := w.client([]int{0, 1}, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond))
		defer out.Close()
		in := w.client([]int{0, 1}, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		defer in.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			consume(t, in, 3000)
		}()
		produce(t, out, 0, 1000)
		w.mu.Lock()
		w.dead["eu-0"] = true
		w.mu.Unlock()
		if err := one.end(); err != nil {
			t.Error(err)
		}
		began := time.Now()
		produce(t, out, 1000, 2000)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("clients were back after %v", took)
		}
		_, brokers := w.told(1)
		for id, address := range brokers {
			if !strings.HasPrefix(address, "127.0.0.1:92") {
				t.Errorf("broker %d is told to be at %s, where nobody is", id, address)
			}
		}
		w.mu.Lock()
		delete(w.dead, "eu-0")
		w.mu.Unlock()
		w.start(0, 2, nil)
		produce(t, out, 2000, 3000)
		<-done
	})
}

// TestRouter_Limits: what is over a limit is reset and said; who is in stays in; there is room again when one leaves.
func TestRouter_Limits(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1, func(c *router.Config) { c.Limits.Connections = 3 })
		time.Sleep(3 * time.Second)
		dial := func() net.Conn {
			c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		var in []net.Conn
		for range 3 {
			c := dial()
			defer c.Close()
			ask(t, c)
			in = append(in, c)
		}
		out := dial()
		defer out.Close()
		_ = out.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := out.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one too many was not hung up on: %v", err)
		}
		if !w.said(router.ErrConnections.Error()) {
			t.Error("nothing is said of it")
		}
		for _, c := range in {
			ask(t, c)
		}
		_ = in[0].Close()
		time.Sleep(time.Second)
		last := dial()
		defer last.Close()
		ask(t, last)
	})
}

// TestRouter_HomeComesLater: while the home was not reached connections are reset, and it is said why; later all goes well by itself.
func TestRouter_HomeComesLater(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		var away atomic.Bool
		away.Store(true)
		w.home.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
			w.home.KeepControl()
			return nil, errors.New("away"), away.Load()
		})
		w.start(0, 1, nil)
		time.Sleep(20 * time.Second)
		c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9100")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection while the home is away: %v", err)
		}
		if !w.said("a home cannot be asked") || !w.said(router.ErrNotReady.Error()) {
			t.Errorf("it is not said why:\n%s", w.logged())
		}
		away.Store(false)
		time.Sleep(20 * time.Second)
		if _, brokers := w.told(0); len(brokers) != 3 {
			t.Errorf("clients are told %v", brokers)
		}
	})
}

// TestRouter_NewerClaims: a claim of a newer version ends the router, by that error.
func TestRouter_NewerClaims(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9001"}, Dial: w.net.DialContext}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.CreateTopic(t.Context(), identity.Topic, 1, 1, nil); err != nil {
			t.Fatal(err)
		}
		p, err := c.Producer(broker.ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Produce(t.Context(), broker.Record{Topic: identity.Topic, Key: []byte("shop/slot/x"), Value: []byte(`{"v":4}`)}); err != nil {
			t.Fatal(err)
		}
		if err := <-w.start(0, 1, nil).ended; !errors.Is(err, identity.ErrVersion) || !strings.Contains(err.Error(), "shop") {
			t.Errorf("the router ended with %v", err)
		}
	})
}
