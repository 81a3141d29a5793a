package broker_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
)

// A broker that takes connections and is silent holds up nobody who asks for what others lead: every question, whichever broker it happens
// to go to first, is answered within seconds.
func TestCluster_AsksAnotherBrokerThanTheFrozenOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.Ports(9092, 9093, 9094), kfake.NumBrokers(3), kfake.SeedTopics(1, "orders"))
		if err := v.fake.MoveTopicPartition("orders", 0, 2); err != nil {
			t.Fatal(err)
		}
		w, p := &way{dial: v.net.DialContext}, v.profile()
		p.Dial = w.Dial
		p.Bootstrap = []string{"127.0.0.1:9092", "127.0.0.1:9093", "127.0.0.1:9094"}
		c := openProfile(t, p)
		fill(t, c, "orders", 0, 3)
		w.set(func(w *way) { w.noBack = func(address string) bool { return strings.HasSuffix(address, ":9093") } })
		for name, ask := range map[string]func(context.Context) error{
			"metadata": func(ctx context.Context) error { _, err := c.Metadata(ctx, "orders"); return err },
			"offsets": func(ctx context.Context) error {
				_, err := c.ListOffsets(ctx, "orders", 0, broker.Latest, false)
				return err
			},
			"epoch":     func(ctx context.Context) error { _, _, err := c.EpochEnd(ctx, "orders", 0, 0); return err },
			"producers": func(ctx context.Context) error { _, err := c.Producers(ctx, "orders", 0); return err },
			"settings":  func(ctx context.Context) error { _, err := c.TopicConfigs(ctx, "orders"); return err },
		} {
			slowest := time.Duration(0)
			for range 8 { // the client library takes the brokers in turn
				time.Sleep(5 * time.Second) // what it knows of leaders is too old by then
				began := time.Now()
				if err := ask(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				slowest = max(slowest, time.Since(began))
			}
			t.Logf("%s: answered within %v", name, slowest)
			if most := 4 * time.Second; slowest > most {
				t.Errorf("%s took up to %v beside a frozen broker, want at most %v", name, slowest, most)
			}
		}
	})
}

// Connections that broke, as all do when a broker starts anew, are no answer: who asks the leader is answered over a new one.
func TestCluster_AsksAgainOverANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.Ports(9092), kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
		w, p := &way{dial: v.net.DialContext}, v.profile()
		p.Dial = w.Dial
		c := openProfile(t, p)
		for range 5 {
			if _, err := c.ListOffsets(t.Context(), "orders", 0, broker.Latest, false); err != nil {
				t.Fatalf("after all connections broke: %v", err)
			}
			time.Sleep(time.Second)
			w.breakAll()
		}
	})
}

// A leader that takes no connections is asked for a moment only: many partitions may wait for their turn to ask.
func TestCluster_LeavesALeaderThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.Ports(9092, 9093), kfake.NumBrokers(2), kfake.SeedTopics(1, "orders"))
		if err := v.fake.MoveTopicPartition("orders", 0, 1); err != nil {
			t.Fatal(err)
		}
		w, p := &way{dial: v.net.DialContext}, v.profile()
		var refuses atomic.Bool
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if refuses.Load() && strings.HasSuffix(address, ":9093") {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			return w.Dial(ctx, network, address)
		}
		c := openProfile(t, p)
		if _, err := c.ListOffsets(t.Context(), "orders", 0, broker.Latest, false); err != nil {
			t.Fatal(err)
		}
		refuses.Store(true)
		w.breakAll()
		began := time.Now()
		if _, err := c.ListOffsets(t.Context(), "orders", 0, broker.Latest, false); err == nil {
			t.Error("a broker that refuses answered")
		}
		took := time.Since(began)
		t.Logf("given up after %v", took)
		if most := time.Second; took > most {
			t.Errorf("given up after %v, want at most %v", took, most)
		}
	})
}

// A leader that has just started says for a moment that it leads nothing: who asks is answered when it does, and asks no more often than that.
func TestCluster_WaitsForALeaderThatIsAboutToLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.Ports(9092), kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
		c := openProfile(t, v.profile())
		var asked atomic.Int32
		v.fake.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
			v.fake.KeepControl()
			if asked.Add(1) > 3 {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.ErrorCode = kerr.NotLeaderForPartition.Code
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic, rt.Partitions = "orders", append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp, nil, true
		})
		if _, err := c.ListOffsets(t.Context(), "orders", 0, broker.Latest, false); err != nil || asked.Load() != 4 {
			t.Errorf("asked %d times, want 4: %v", asked.Load(), err)
		}
	})
}
