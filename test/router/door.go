package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

const (
	// firstID is the virtual id of broker 0; kfake counts from 0.
	firstID = 101
	// firstSlot is the port of its slot.
	firstSlot = 9301
	// clusterID is what clients are told.
	clusterID = "virtual-cluster"
)

// Door is a virtual cluster in front of a kfake cluster, in one bubble with it.
type Door struct {
	Cluster *kfake.Cluster
	t       testing.TB
	net     *kfake.VirtualNetwork
	brokers []string // their real addresses
	ears    []net.Listener
	relays  sync.WaitGroup
	stop    context.CancelFunc
	ids     atomic.Int64

	mu    sync.Mutex
	conns []net.Conn // to brokers
	ends  []error    // of relays
	leaks []string   // addresses that clients dialed and that are no slots
}

// Open starts a cluster of three brokers and the door to it. It must be called inside a bubble, and closed there.
func Open(t testing.TB, opts ...kfake.Opt) *Door {
	t.Helper()
	d := &Door{t: t, net: &kfake.VirtualNetwork{}}
	ports := []int{9001, 9002, 9003}
	var err error
	d.Cluster, err = kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(d.net.Listen), kfake.Ports(ports...), kfake.NumBrokers(len(ports)), kfake.ClusterID("real-cluster")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	var slots []rewrite.Slot
	for i, port := range ports {
		d.brokers = append(d.brokers, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		slots = append(slots, rewrite.Slot{ID: int32(firstID + i), Node: int32(i), Host: "127.0.0.1", Port: int32(firstSlot + i)})
	}
	view, err := rewrite.NewView(clusterID, slots)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer([]apis.Broker{{Name: "broker 0", Versions: d.versions()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	for i := range slots {
		l, err := d.net.Listen("tcp", d.Slot(i))
		if err != nil {
			t.Fatal(err)
		}
		d.ears = append(d.ears, l)
		d.relays.Go(func() { d.serve(ctx, l, i, view, versions) })
	}
	return d
}

// versions asks a broker what it speaks.
func (d *Door) versions() apis.Versions {
	d.t.Helper()
	cl := d.direct()
	defer cl.Close()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(d.t.Context(), cl)
	if err != nil {
		d.t.Fatal(err)
	}
	v := make(apis.Versions)
	for _, k := range resp.ApiKeys {
		v[k.ApiKey] = apis.Range{Min: k.MinVersion, Max: k.MaxVersion}
	}
	return v
}

// serve accepts clients of a slot.
func (d *Door) serve(ctx context.Context, l net.Listener, slot int, view *rewrite.View, versions apis.Versions) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r, err := relay.New(relay.Config{
			Client: c, Versions: versions, View: func() *rewrite.View { return view },
			Dial:       func(ctx context.Context) (net.Conn, error) { return d.dialBroker(ctx, slot) },
			ProducerID: func() (int64, error) { return 1<<62 + d.ids.Add(1), nil },
		})
		if err != nil {
			d.t.Error(err)
			return
		}
		d.relays.Go(func() {
			if err := r.Run(ctx); err != nil {
				d.mu.Lock()
				d.ends = append(d.ends, err)
				d.mu.Unlock()
			}
		})
	}
}

func (d *Door) dialBroker(ctx context.Context, slot int) (net.Conn, error) {
	c, err := d.net.DialContext(ctx, "tcp", d.brokers[slot])
	if err == nil {
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
	}
	return c, err
}

// Slot is the address of the i-th slot.
func (d *Door) Slot(i int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(firstSlot+i))
}

// dial is how clients of the door dial: slots, and nothing else.
func (d *Door) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !slices.Contains([]string{d.Slot(0), d.Slot(1), d.Slot(2)}, address) {
		d.mu.Lock()
		d.leaks = append(d.leaks, address)
		d.mu.Unlock()
		return nil, fmt.Errorf("%s is no slot", address)
	}
	return d.net.DialContext(ctx, network, address)
}

// Client is a client that knows the first slot.
func (d *Door) Client(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	return d.client(append([]kgo.Opt{kgo.SeedBrokers(d.Slot(0)), kgo.Dialer(d.dial)}, opts...)...)
}

// direct is a client of the cluster itself, to compare with.
func (d *Door) direct(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	return d.client(append([]kgo.Opt{kgo.SeedBrokers(d.brokers[0]), kgo.Dialer(d.net.DialContext)}, opts...)...)
}

func (d *Door) client(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		d.t.Fatal(err)
	}
	return cl
}

// Cut ends all connections to brokers, as their restart does.
func (d *Door) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// Close ends the door and the cluster, and says what clients learned that they must not, and which relays did not end as they should.
func (d *Door) Close() {
	d.t.Helper()
	for _, l := range d.ears {
		_ = l.Close()
	}
	d.stop()
	d.relays.Wait()
	d.Cluster.Close()
	if len(d.leaks) > 0 {
		d.t.Errorf("clients went around the door: %q", d.leaks)
	}
	for _, err := range d.ends {
		// That either end hangs up is part of the tests; that the other one does not understand what came is not.
		if e := (*relay.Error)(nil); !errors.As(err, &e) || e.Side == relay.Router || errors.Is(err, relay.ErrMalformed) || errors.Is(err, relay.ErrUnsupported) || errors.Is(err, os.ErrDeadlineExceeded) {
			d.t.Errorf("a relay ended: %v", err)
		}
	}
}
