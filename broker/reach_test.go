package broker_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// way is the network between a prober and a cluster, whose directions can be cut apart. Connections stay up over a cut.
type way struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu            sync.Mutex
	noOut, noBack func(address string) bool // what is swallowed; nil = nothing
	noDial        bool                      // new connections hang
	delay         time.Duration             // half the round trip
	dials         int
	conns         []*wayConn
	bytes         int // both ways
}

func (w *way) set(fn func(*way)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w)
}

func all(string) bool { return true }

// breakAll ends all connections, as the restart of a broker does.
func (w *way) breakAll() {
	w.mu.Lock()
	conns := w.conns
	w.conns = nil
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Dial connects, and takes a round trip for it.
func (w *way) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	hang, delay := w.noDial, w.delay
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(2 * delay)
	conn, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &wayConn{Conn: conn, way: w, address: address, out: make(chan sent, 1000), gone: make(chan struct{})}
	go c.carry()
	w.set(func(w *way) { w.conns = append(w.conns, c) })
	return c, nil
}

// silence has all connections that there are swallow everything, as a firewall does that forgot them.
func (w *way) silence() {
	w.set(func(w *way) {
		for _, c := range w.conns {
			c.silent = true
		}
		w.conns = nil
	})
}

// silenceOne does so with the oldest that is open.
func (w *way) silenceOne() {
	w.set(func(w *way) {
		for i, c := range w.conns {
			if !c.closed && !c.silent {
				c.silent, w.conns = true, w.conns[i+1:]
				return
			}
		}
	})
}

type sent struct {
	b  []byte
	at time.Time
}

// wayConn delays and swallows.
type wayConn struct {
	net.Conn
	way     *way
	address string
	out     chan sent
	gone    chan struct{}
	once    sync.Once
	silent  bool // the way's mu guards it
	closed  bool // and it
}

// carry writes what was sent when its time has come, so that a delay is not a limit to how much is on its way.
func (c *wayConn) carry() {
	for {
		select {
		case s := <-c.out:
			select {
			case <-time.After(time.Until(s.at)):
			case <-c.gone:
				return
			}
			if _, err := c.Conn.Write(s.b); err != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}

func (c *wayConn) Write(b []byte) (int, error) {
	c.way.mu.Lock()
	swallowed := c.silent || c.way.noOut != nil && c.way.noOut(c.address)
	at := time.Now().Add(2 * c.way.delay) // the whole round trip: a delay of reads would count for each piece of an answer
	c.way.bytes += len(b)
	c.way.mu.Unlock()
	if !swallowed {
		c.out <- sent{append([]byte(nil), b...), at}
	}
	return len(b), nil
}

func (c *wayConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		c.way.mu.Lock()
		swallowed := c.silent || c.way.noBack != nil && c.way.noBack(c.address)
		c.way.bytes += n
		c.way.mu.Unlock()
		if err != nil || !swallowed {
			return n, err
		}
	}
}

func (c *wayConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	c.way.set(func(*way) { c.closed = true })
	return c.Conn.Close()
}

// watched is a prober that runs until the test ends, and what it said.
type watched struct {
	*broker.Prober
	fake *kfake.Cluster
	way  *way
	stop func()

	mu   sync.Mutex
	said []gossip.Reach
}

func (w *watched) hear(r gossip.Reach) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, r)
}

// all is what it said.
func (w *watched) all() []gossip.Reach {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.said)
}

// lost is how many times the cluster was said to be lost.
func (w *watched) lost() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.said {
		if i > 0 && w.said[i-1].Reads && !r.Reads {
			n++
		}
	}
	return n
}

// until waits for what a reach should become and returns how long that took.
func (w *watched) until(t *testing.T, most time.Duration, want func(gossip.Reach) bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !want(w.Reach()) {
		if time.Since(start) > most {
			t.Fatalf("after %v the reach is %+v", most, w.Reach())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func up(r gossip.Reach) bool   { return r.Reads && r.Writes }
func down(r gossip.Reach) bool { return !r.Reads && !r.Writes }

// watch starts kfake and a prober for it; change may alter the profile.
func watch(t *testing.T, change func(*broker.Profile), opts ...kfake.Opt) *watched {
	t.Helper()
	v := startVirtual(t, opts...)
	profile := v.profile()
	if change != nil {
		change(&profile)
	}
	w := run(t, profile, &watched{fake: v.fake, way: &way{dial: v.net.DialContext}})
	t.Cleanup(w.stop)
	return w
}

// run starts a prober over a way until it is stopped.
func run(t *testing.T, profile broker.Profile, w *watched) *watched {
	t.Helper()
	profile.Dial = w.way.Dial
	p, err := broker.NewProber(openProfile(t, profile), broker.ProberConfig{}, broker.ProberDeps{Changed: w.hear})
	if err != nil {
		t.Fatal(err)
	}
	w.Prober = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run the prober: %v", err)
		}
	}
	return w
}

func TestProber_SeesAHealthyCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, nil)
		if down(w.Reach()) == false {
			t.Error("before the first measurement the cluster is reached")
		}
		if took := w.until(t, time.Second, up); took > 100*time.Millisecond {
			t.Errorf("a near cluster is reached after %v", took)
		}
		time.Sleep(time.Minute)
		w.way.set(func(y *way) { y.bytes, y.dials = 0, 0 })
		time.Sleep(3 * time.Minute) // after five the client library looks at the metadata over the same path
		w.way.mu.Lock()
		defer w.way.mu.Unlock()
		if each := w.way.bytes / 90; each > 700 || each < 100 {
			t.Errorf("a probe costs %d bytes, want a few hundred", each)
		}
		if w.way.dials > 0 {
			t.Errorf("%d connections were opened in a quiet time, want none", w.way.dials)
		}
		if len(w.all()) != 1 || w.all()[0] != (gossip.Reach{Reads: true, Writes: true, RTT: 5 * time.Millisecond}) {
			t.Errorf("the prober said %+v, want one measurement without trouble", w.all())
		}
		t.Logf("%d bytes for each probe", w.way.bytes/90)
	})
}

// A direction that swallows everything while connections stay up is found in less than two intervals, whenever it begins.
func TestProber_FindsAHalfOpenPath(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(*way)
	}{
		{"requests vanish", func(y *way) { y.noOut, y.noDial = all, true }},
		{"answers vanish", func(y *way) { y.noBack, y.noDial = all, true }},
		{"connections open, and nothing comes", func(y *way) { y.noBack = all }},
	} {
		for _, delay := range []time.Duration{0, 75 * time.Millisecond} {
			for phase := 100 * time.Millisecond; phase < 2*time.Second; phase += 300 * time.Millisecond {
				t.Run(fmt.Sprintf("%s/delay=%v/phase=%v", c.name, delay, phase), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := watch(t, nil)
						w.way.set(func(y *way) { y.delay = delay })
						w.until(t, 5*time.Second, up)
						time.Sleep(time.Minute + phase)
						w.way.set(c.cut)
						took := w.until(t, 10*time.Second, down)
						if took > 3300*time.Millisecond+10*time.Millisecond {
							t.Errorf("lost after %v, want at most 3.3s", took)
						}
						if got := w.Reach().Trouble; !strings.Contains(got, "no answer") && !strings.Contains(got, "connect") || len(got) > 100 {
							t.Errorf("the trouble is %q", got)
						}
						time.Sleep(30 * time.Second)
						w.way.set(func(y *way) { y.noOut, y.noBack, y.noDial = nil, nil, false })
						if took = w.until(t, time.Minute, up); took < 10*time.Second || took > 18*time.Second {
							t.Errorf("reached again after %v, want ten seconds of good probes", took)
						}
					})
				})
			}
		}
	}
}

// What the network drops one at a time is no reason to move work.
func TestProber_OutlivesOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, nil)
		w.until(t, time.Second, up)
		for i := range 20 {
			time.Sleep(20*time.Second + time.Duration(i)*170*time.Millisecond)
			one := fmt.Sprintf("127.0.0.1:%d", 9092+i%2)
			w.way.set(func(y *way) { y.noBack = func(address string) bool { return address == one } })
			time.Sleep(7 * time.Second)
			w.way.set(func(y *way) { y.noBack = nil })
		}
		if w.lost() > 0 {
			t.Errorf("the cluster was lost %d times though one broker answered all the time", w.lost())
		}
	})
}

// secured has kfake want TLS, and perhaps a login that takes many round trips and ends after half a minute.
func secured(t *testing.T, login bool) (func(*broker.Profile), []kfake.Opt) {
	id := newIdentity(t)
	opts := []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{id.pair}})}
	if login {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "s", "pw"), kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "30000"}))
	}
	return func(p *broker.Profile) {
		p.TLS = (&tls.Config{RootCAs: id.roots}).Clone
		if login {
			p.SASL = scram.Auth{User: "s", Pass: "pw"}.AsSha512Mechanism()
		}
	}, opts
}

// A far cluster is slow in everything, and no less reached, also when sessions are renewed. When all its connections break, or go
// silent, fresh ones save it as long as they can be had in the time of a probe.
func TestProber_KeepsAFarCluster(t *testing.T) {
	const ms = time.Millisecond
	breaks, silent := (*way).breakAll, (*way).silence
	for _, c := range []struct {
		name  string
		delay time.Duration // half the round trip
		login bool
		harm  func(*way) // once a minute
		class time.Duration
	}{
		{"breaks", 75 * ms, true, breaks, 200 * ms},
		{"goes silent", 75 * ms, false, silent, 200 * ms},
		{"farther", 150 * ms, true, nil, 300 * ms},
		{"farthest", 430 * ms, false, nil, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			change, opts := secured(t, c.login)
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, change, opts...)
				w.way.set(func(y *way) { y.delay = c.delay })
				w.until(t, 20*time.Second, up)
				for i := range 10 {
					time.Sleep(time.Minute + time.Duration(i)*170*ms)
					if c.harm != nil {
						c.harm(w.way)
					}
				}
				if w.lost() > 0 {
					t.Errorf("the cluster was lost %d times: %+v", w.lost(), w.all())
				}
				if rtt := w.Reach().RTT; rtt != c.class {
					t.Errorf("round trips of %v are in the class %v, want %v", 2*c.delay, rtt, c.class)
				}
				w.way.mu.Lock()
				defer w.way.mu.Unlock()
				if c.harm == nil && w.way.dials > 15 {
					t.Errorf("%d connections were opened in ten minutes, want few", w.way.dials)
				}
			})
		})
	}
}

// With one broker too there is a spare connection, for a login may take longer than a probe may.
func TestProber_OutlivesTheOneConnectionToABroker(t *testing.T) {
	change, opts := secured(t, true)
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, change, append(opts, kfake.Ports(9092), kfake.NumBrokers(1))...)
		w.way.set(func(y *way) { y.delay = 75 * time.Millisecond })
		w.until(t, 5*time.Second, up)
		for range 20 {
			time.Sleep(21 * time.Second)
			w.way.silenceOne()
		}
		if w.lost() > 0 {
			t.Errorf("the cluster was lost %d times though one connection answered all the time", w.lost())
		}
	})
}

// A cluster that answers that something may not be done has answered.
func TestProber_ARefusalIsAnAnswer(t *testing.T) {
	for _, c := range []struct {
		err   *kerr.Error
		reads bool
	}{
		{kerr.ClusterAuthorizationFailed, true},
		{kerr.TopicAuthorizationFailed, true},
		{kerr.UnknownServerError, true},
		{kerr.InvalidRequest, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, nil)
			w.fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.fake.KeepControl()
				resp := req.ResponseKind().(*kmsg.FetchResponse)
				resp.ErrorCode = c.err.Code
				return resp, nil, true
			})
			time.Sleep(10 * time.Second)
			if r := w.Reach(); r.Reads != c.reads || !r.Writes || !strings.Contains(r.Trouble, c.err.Message) {
				t.Errorf("a fetch is answered by %s: %+v, want reads %v and that in the trouble", c.err.Message, r, c.reads)
			}
		})
	}
}

// Who is throttled is not read from for a while.
func TestProber_ThrottledIsNotLost(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Metadata} {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, nil)
			w.until(t, time.Second, up)
			var mu sync.Mutex
			asked := 0
			w.fake.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.fake.KeepControl()
				resp := req.ResponseKind()
				mu.Lock()
				defer mu.Unlock()
				asked++
				switch r := resp.(type) {
				case *kmsg.ProduceResponse:
					r.ThrottleMillis = 20_000
				case *kmsg.MetadataResponse:
					r.ThrottleMillis = 20_000
				}
				return resp, nil, true
			})
			time.Sleep(5 * time.Minute)
			if w.lost() > 0 || !up(w.Reach()) {
				t.Errorf("throttled at %s, the cluster was lost %d times: %+v", key.Name(), w.lost(), w.all())
			}
			mu.Lock()
			defer mu.Unlock()
			if asked > 60 {
				t.Errorf("throttled for 20 s at a time, the prober asked for %s %d times in 300 s", key.Name(), asked)
			}
		})
	}
}

// A cluster that goes away altogether refuses connections, which needs no patience.
func TestProber_ARefusedConnectionIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, nil)
		w.until(t, time.Second, up)
		time.Sleep(time.Minute)
		w.fake.Close()
		if took := w.until(t, 10*time.Second, down); took > 2100*time.Millisecond {
			t.Errorf("lost after %v, want the next probe", took)
		}
	})
}

// The embedded cluster looks at each request before it answers; those of a probe are sound.
func TestProber_ReachesAnEmbeddedCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		e, err := embedded.New(embedded.Config{Name: "eu", InMemory: true, Listen: "127.0.0.1:9092", NewListener: network.Listen}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error, 1)
		go func() { ran <- e.Run(context.Background()) }()
		defer func() {
			e.Close()
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}()
		w := run(t, broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}}, &watched{way: &way{dial: network.DialContext}})
		defer w.stop()
		w.until(t, time.Second, up)
		time.Sleep(time.Minute)
		if len(w.all()) != 1 || w.all()[0].Trouble != "" {
			t.Errorf("the prober said %+v, want one measurement without trouble", w.all())
		}
	})
}
