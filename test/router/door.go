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

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

const (
	// FirstID is the virtual id of the first broker; real ones count from 0 or 1.
	FirstID = 101
	// ClusterID is what clients are told.
	ClusterID = "virtual-cluster"
)

// Broker is one of the real cluster.
type Broker struct {
	ID      int32
	Address string
}

// Network is what there is between clients, door and brokers.
type Network struct {
	Listen func(network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Door is a virtual cluster in front of a real one.
type Door struct {
	// Slots are the addresses that clients are told.
	Slots   []string
	t       testing.TB
	net     Network
	brokers []Broker
	ears    []net.Listener
	relays  sync.WaitGroup
	stop    context.CancelFunc
	ids     atomic.Int64

	mu    sync.Mutex
	conns []net.Conn // to brokers
	ends  []error    // of relays
	leaks []string   // addresses that clients dialed and that are no slots
}

// Open opens a door with a slot for each broker at each of the addresses, whose ports may be 0.
func Open(t testing.TB, network Network, brokers []Broker, addresses []string) *Door {
	t.Helper()
	d := &Door{t: t, net: network, brokers: brokers}
	var slots []rewrite.Slot
	for i, address := range addresses {
		l, err := network.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		d.ears = append(d.ears, l)
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		d.Slots = append(d.Slots, net.JoinHostPort("127.0.0.1", port))
		slots = append(slots, rewrite.Slot{ID: int32(FirstID + i), Node: brokers[i].ID, Host: "127.0.0.1", Port: int32(n)})
	}
	view, err := rewrite.NewView(ClusterID, slots)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer([]apis.Broker{{Name: "the first broker", Versions: d.versions()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("clients are told %v", versions)
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	for i, l := range d.ears {
		d.relays.Go(func() { d.serve(ctx, l, i, view, versions) })
	}
	return d
}

// versions asks a broker what it speaks.
func (d *Door) versions() apis.Versions {
	d.t.Helper()
	cl := d.Direct()
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
			Dial: func(ctx context.Context, _ bool) (net.Conn, bool, error) {
				up, err := d.dialBroker(ctx, slot)
				return up, false, err
			},
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
	c, err := d.net.Dial(ctx, "tcp", d.brokers[slot].Address)
	if err == nil {
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
	}
	return c, err
}

// dial is how clients of the door dial: slots, and nothing else.
func (d *Door) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !slices.Contains(d.Slots, address) {
		d.mu.Lock()
		d.leaks = append(d.leaks, address)
		d.mu.Unlock()
		return nil, fmt.Errorf("%s is no slot", address)
	}
	return d.net.Dial(ctx, network, address)
}

// Client is a client that knows the first slot.
func (d *Door) Client(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	return d.client(append([]kgo.Opt{kgo.SeedBrokers(d.Slots[0]), kgo.Dialer(d.dial)}, opts...)...)
}

// Direct is a client of the cluster itself, to compare with.
func (d *Door) Direct(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	return d.client(append([]kgo.Opt{kgo.SeedBrokers(d.brokers[0].Address), kgo.Dialer(d.net.Dial)}, opts...)...)
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

// Close ends the door, and says what clients learned that they must not, and which relays did not end as they should.
func (d *Door) Close() {
	d.t.Helper()
	for _, l := range d.ears {
		_ = l.Close()
	}
	d.stop()
	d.relays.Wait()
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
