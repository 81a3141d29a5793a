package router

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/topology"
)

// fabric is three clusters that decide together, eu, us and ap, instances of a router that follow what is decided, and who has it decided.
type fabric struct {
	*world
	fakes map[string]*kfake.Cluster
	coord *generation.Store

	mu       sync.Mutex
	cut      map[string]bool // "0 us": instance 0 does not reach us
	conns    map[string][]net.Conn
	arrivals []arrival.Request
	broken   error // of arrivals
	silent   atomic.Bool
}

var seeds = map[string]string{"eu": "127.0.0.1:9001", "us": "127.0.0.1:9011", "ap": "127.0.0.1:9021"}

func inFabric(t *testing.T, fn func(t *testing.T, f *fabric)) {
	t.Helper()
	inWorld(t, 3, func(t *testing.T, w *world) {
		f := &fabric{world: w, fakes: map[string]*kfake.Cluster{"eu": w.home}, cut: map[string]bool{}, conns: map[string][]net.Conn{}}
		for name, port := range map[string]int{"us": 9011, "ap": 9021} {
			c, err := kfake.NewCluster(kfake.ListenFn(w.net.Listen), kfake.Ports(port, port+1), kfake.NumBrokers(2), kfake.ClusterID(name+"-cluster"), kfake.SeedTopics(6, "orders", "payments-1"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f.fakes[name] = c
		}
		f.coord = f.store("coordinator")
		w.deps = f.follows
		fn(t, f)
	}, kfake.SeedTopics(6, "payments-1"))
}

// store is that of a node, over connections of its own.
func (f *fabric) store(node string) *generation.Store {
	f.t.Helper()
	var all []*broker.Cluster
	for _, name := range []string{"eu", "us", "ap"} {
		all = append(all, f.open(node, name))
	}
	s := generation.NewStore(all, generation.Config{Router: "shop", Node: node, Now: generation.Clock(), Unique: func() string { return fmt.Sprint(node, "-", f.id.Add(1)) }})
	f.t.Cleanup(s.Close)
	return s
}

func (f *fabric) open(node, name string) *broker.Cluster {
	f.t.Helper()
	way := node + " " + name
	c, err := broker.Open(broker.Profile{Name: name, Bootstrap: []string{seeds[name]}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		f.mu.Lock()
		gone := f.cut[way]
		f.mu.Unlock()
		if gone {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		conn, err := f.net.DialContext(ctx, network, address)
		if err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.conns[way] = append(f.conns[way], conn)
		}
		return conn, err
	}}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// part cuts the ways of a node to the logs of some clusters, or makes them whole.
func (f *fabric) part(node string, away bool, names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		way := node + " " + name
		f.cut[way] = away
		for _, c := range f.conns[way] {
			_ = c.Close()
		}
		f.conns[way] = nil
	}
}

// follows has an instance follow what is decided. Other clusters are there as they are, since only the logs are ever cut off.
func (f *fabric) follows(i int, d *router.Deps) {
	home, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{seeds["eu"]}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := f.net.DialContext(ctx, network, address)
		return &deaf{Conn: c, silent: &f.silent}, err
	}}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(home.Close)
	d.Home, d.Dial = home, f.net.DialContext // else each instance takes the other for gone, which the machine's own network does not know
	d.Generations = f.store(fmt.Sprint(i))
	d.Salted = func(id, _ int64) (int64, error) { return id + salt, nil }
	d.Open = func(name string) (*broker.Cluster, error) {
		return broker.Open(broker.Profile{Name: name, Bootstrap: []string{seeds[name]}, Dial: f.net.DialContext}, nil)
	}
	d.Arrive = func(_ context.Context, r arrival.Request, _ arrival.Runs) (arrival.Arrived, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.arrivals = append(f.arrivals, r)
		if f.broken != nil {
			return arrival.Arrived{}, f.broken
		}
		b, err := gate.NewBook(r.Now, nil, r.Salted)
		return arrival.Arrived{Producers: b}, err
	}
}

// asked are what was to be known of homes, since the last time.
func (f *fabric) asked() (all []arrival.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, f.arrivals = f.arrivals, nil
	return all
}

func (f *fabric) breaks(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
}

// prepare opens a round of a set.
func (f *fabric) prepare(set string) generation.Proposal {
	f.t.Helper()
	p, err := f.coord.Prepare(f.t.Context(), set)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// decide has a round decide a switch to a home.
func (f *fabric) decide(p generation.Proposal, kind generation.Kind, from, to string) {
	f.t.Helper()
	ref, err := f.coord.WriteCut(f.t.Context(), p.Set, []generation.CutTopic{{Topic: "orders", Virtual: []int64{7}, Real: []int64{8}, Left: []int64{7}}})
	if err != nil {
		f.t.Fatal(err)
	}
	err = f.coord.Propose(f.t.Context(), p, generation.Value{Kind: kind, Generation: p.Generation + 1, Home: to, From: from, Switch: fmt.Sprint("s", p.Round), Cut: ref})
	if err != nil {
		f.t.Fatal(err)
	}
}

// stay has a round decide that nothing changes.
func (f *fabric) stay(p generation.Proposal, home string) {
	f.t.Helper()
	if _, err := f.coord.Abort(f.t.Context(), p, generation.Value{Kind: generation.Stay, Generation: p.Generation, Home: home, Switch: "s"}); err != nil {
		f.t.Fatal(err)
	}
}

// until waits until a set of an instance stands as it should, a minute at most, and returns how long that took.
func (d *door) until(t *testing.T, set int, what string, ok func(router.Standing) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok(d.router.Standings()[set]) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: %+v", what, d.router.Standings()[set])
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func held(round int64) func(router.Standing) bool {
	return func(s router.Standing) bool { return s.Held && s.Round == round }
}

func serving(generation int64, home string) func(router.Standing) bool {
	return func(s router.Standing) bool {
		return s.Generation == generation && s.Home == home && s.Phase == hold.Serving && s.Leased && !s.Held && s.Trouble == ""
	}
}

// writer produces to all partitions all the time, as fast as every 10 ms, and counts what is acknowledged.
type writer struct {
	*kgo.Client
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	acked int
	last  time.Time // of the newest acknowledgement
	gap   time.Duration
}

func (w *world) writes(topic string, instances ...int) *writer {
	w.t.Helper()
	one := &writer{stop: make(chan struct{}), done: make(chan struct{}), last: time.Now(),
		Client: w.client(instances, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))}
	if _, _, err := one.ProducerID(w.t.Context()); err != nil { // two of its connections that ask at once stop the time of a bubble
		w.t.Fatal(err)
	}
	go func() {
		defer close(one.done)
		for i := 0; ; i++ {
			for p := range int32(6) {
				one.Produce(context.Background(), &kgo.Record{Partition: p, Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
					if err != nil {
						w.t.Error(err)
					}
					one.ack()
				})
			}
			select {
			case <-one.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return one
}

func (w *writer) ack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.acked++
	w.gap, w.last = max(w.gap, now.Sub(w.last)), now
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// end ends it when all is acknowledged, and returns how many records that are and the longest time without an acknowledgement.
func (w *writer) end(t *testing.T) (int, time.Duration) {
	t.Helper()
	close(w.stop)
	<-w.done
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return w.acked, w.gap
}

// stable waits until a group has a member at a home, and returns how long that took.
func (f *fabric) stable(home, group string) time.Duration {
	f.t.Helper()
	c := f.open("watcher", home)
	began := time.Now()
	for {
		all, err := c.DescribeGroups(f.t.Context(), group)
		if err != nil || time.Since(began) > time.Minute {
			f.t.Fatalf("%v, %v", all, err)
		}
		if g := all[group]; g.State == "Stable" && g.Members == 1 {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// some is how many records a reader gets in ten seconds at most.
func (f *fabric) some(cl *kgo.Client) int {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	return cl.PollFetches(ctx).NumRecords()
}

// deaf is a connection that hears no answers any more when it has carried a client's Produce and the home is silent.
type deaf struct {
	net.Conn
	silent   *atomic.Bool
	produces atomic.Bool
}

func (d *deaf) Write(b []byte) (int, error) {
	if len(b) > 6 && b[4] == 0 && b[5] == 0 && bytes.Contains(b, []byte("orders")) {
		d.produces.Store(true)
	}
	return d.Conn.Write(b)
}

func (d *deaf) Read(b []byte) (int, error) {
	for {
		n, err := d.Conn.Read(b)
		if err != nil || !d.silent.Load() || !d.produces.Load() {
			return n, err
		}
	}
}

// slow has the first home take so long for one Produce.
func (f *fabric) slow(d time.Duration) {
	f.fakes["eu"].ControlKey(0, func(kmsg.Request) (kmsg.Response, error, bool) {
		f.fakes["eu"].SleepControl(func() { time.Sleep(d) })
		return nil, nil, false
	})
}

// fastSet is a set with a home.
func fastSet(home string) []topology.Set {
	payments, err := topology.ParsePattern("payments-*")
	if err != nil {
		panic(err)
	}
	return []topology.Set{{Name: "fast", Home: home, Topics: topology.Patterns{payments}, Groups: topology.Patterns{payments}, Slots: topology.Ports{First: 9111, Last: 9114}}}
}
