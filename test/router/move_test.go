package router

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/hold"
)

// inMovingHomes has a router whose home, of three brokers, may move to another, of two, which has records in all partitions.
func inMovingHomes(t *testing.T, fn func(t *testing.T, w *world, d *door, us *broker.Cluster)) {
	t.Helper()
	inWorld(t, 3, func(t *testing.T, w *world) {
		c, err := kfake.NewCluster(kfake.ListenFn(w.net.Listen), kfake.Ports(9011, 9012), kfake.NumBrokers(2), kfake.ClusterID("other-cluster"), kfake.SeedTopics(6, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		seed := w.direct("127.0.0.1:9011", kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite())
		for p := range int32(6) {
			if err := seed.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Partition: p, Value: []byte("seed")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		us, err := broker.Open(broker.Profile{Name: "us", Bootstrap: []string{"127.0.0.1:9011"}, Dial: w.net.DialContext}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer us.Close()
		d := w.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		fn(t, w, d, us)
		_ = d.end()
	})
}

// disconnects are the brokers whose connections ended.
type disconnects struct {
	mu sync.Mutex
	of []int32
}

func (d *disconnects) OnBrokerDisconnect(m kgo.BrokerMetadata, _ net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of = append(d.of, m.NodeID)
}

// ends is how many records a partition has at a home.
func (w *world) ends(bootstrap string, partition int32) int {
	w.t.Helper()
	all, err := kadm.NewClient(w.direct(bootstrap)).ListEndOffsets(w.t.Context(), "orders")
	if err != nil || all.Error() != nil {
		w.t.Fatal(err, all.Error())
	}
	o, _ := all.Lookup("orders", partition)
	return int(o.Offset)
}

// values are those of a partition's records at a home, in order.
func (w *world) values(bootstrap string, partition int32, n int) (out []string) {
	w.t.Helper()
	cl := w.direct(bootstrap, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": {partition: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			w.t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { out = append(out, string(r.Value)) })
	}
	return out
}

// TestRouter_Move: a producer goes on while its home moves. It sees no error and no connection that ends, and each record is at one of the two homes, in order.
func TestRouter_Move(t *testing.T) { moveProducer(t, false) }

// TestRouter_MoveProducers: the same with gates, behind which a connection may end, and under other ids at the new home.
func TestRouter_MoveProducers(t *testing.T) { moveProducer(t, true) }

func moveProducer(t *testing.T, gated bool) {
	inMovingHomes(t, func(t *testing.T, w *world, d *door, us *broker.Cluster) {
		const each = 400
		ends := new(disconnects)
		cl := w.client([]int{0}, kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.WithHooks(ends))
		defer cl.Close()
		id, epoch, err := cl.ProducerID(t.Context())
		if err != nil { // two of its connections that ask at once stop the time of a bubble
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range each {
				for p := range int32(6) {
					cl.Produce(t.Context(), &kgo.Record{Partition: p, Value: []byte(fmt.Sprint(i))}, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		_, before := w.told(0)
		d.drain(t)
		left := w.records("127.0.0.1:9001", "orders")
		time.Sleep(time.Second) // whatever else is done at a switch
		to := router.Home{Generation: 1, Cluster: us}
		if gated {
			to.Producers = w.gates("127.0.0.1:9001", id, epoch)
		}
		if err := d.router.Move(t.Context(), "", to); err != nil {
			t.Fatal(err)
		}
		<-done
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.records("127.0.0.1:9001", "orders"); n != left {
			t.Errorf("the home that was left has %d records, and %d when all was drained", n, left)
		}
		if n := w.records("127.0.0.1:9011", "orders"); n+left != 6*each+6 {
			t.Errorf("%d records were written, the homes have %d and %d", 6*each, left, n-6)
		}
		if gated {
			w.idsAre("127.0.0.1:9011", id+salt)
		}
		for p := range int32(6) {
			there := w.ends("127.0.0.1:9001", p)
			all := append(w.values("127.0.0.1:9001", p, there), w.values("127.0.0.1:9011", p, each-there+1)[1:]...)
			for i, v := range all {
				if v != fmt.Sprint(i) {
					t.Fatalf("partition %d: record %d is %s", p, i, v)
				}
			}
		}
		cluster, after := w.told(0)
		if cluster != "real-cluster" || len(after) != 2 {
			t.Errorf("clients are told cluster %s with brokers %v", cluster, after)
		}
		ends.mu.Lock()
		defer ends.mu.Unlock()
		for id, address := range after {
			if !gated && slices.Contains(ends.of, id) {
				t.Errorf("the producer's connection to broker %d ended", id)
			}
			if before[id] != address {
				t.Errorf("broker %d is at %s, and was at %q", id, address, before[id])
			}
		}
		if s := d.router.Status(); s.Home != "us" || strings.Contains(strings.Join(s.Troubles, " "), "slot") {
			t.Error(s.Home, s.Troubles)
		}
	})
}

// salt is what the new home's ids are more than those of clients.
const salt = 1 << 40

// gates are those for a producer that alone wrote what a home has.
func (w *world) gates(home string, id int64, epoch int16) *gate.Book {
	w.t.Helper()
	var left []gate.Partition
	for p := range int32(6) {
		one := gate.Producer{ID: id, Epoch: epoch, Last: int32(w.ends(home, p)) - 1, Time: time.Now().UnixMilli()}
		left = append(left, gate.Partition{Topic: "orders", Partition: p, Producers: []gate.Producer{one}})
	}
	b, err := gate.NewBook(time.Now(), left, func(id int64) (int64, error) { return id + salt, nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// idsAre checks under which id the records of partition 0 behind the first are at a home.
func (w *world) idsAre(home string, want int64) {
	w.t.Helper()
	cl := w.direct(home, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": {0: kgo.NewOffset().At(1)}}))
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	n := 0
	cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
		if n++; r.ProducerID != want {
			w.t.Errorf("record %d is of producer %d, want %d", r.Offset, r.ProducerID, want)
		}
	})
	if n == 0 {
		w.t.Error("nothing is there")
	}
}

// drain holds what no set names until nothing is under way.
func (d *door) drain(t *testing.T) {
	t.Helper()
	if err := d.router.Hold("", hold.Held); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := d.router.Writes("")
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRouter_MoveWithoutAcks: of records that nobody acknowledges it is known too when the home that is left has them all; what is sent behind the move is at the new one.
func TestRouter_MoveWithoutAcks(t *testing.T) {
	inMovingHomes(t, func(t *testing.T, w *world, d *door, us *broker.Cluster) {
		const all, late = 3000, 1000
		cl := w.client([]int{0}, kgo.DefaultProduceTopic("orders"), kgo.RequiredAcks(kgo.NoAck()), kgo.MetadataMaxAge(2*time.Second), kgo.DisableIdempotentWrite(), kgo.ProducerLinger(0))
		defer cl.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range all {
				if i == all-late {
					time.Sleep(10 * time.Second) // until it has asked for the leaders again: kfake does not end the connection of who sends to the wrong one
				}
				cl.Produce(t.Context(), kgo.StringRecord("x"), func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
					}
				})
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		d.drain(t)
		left := w.records("127.0.0.1:9001", "orders")
		time.Sleep(time.Second)
		if n := w.records("127.0.0.1:9001", "orders"); n != left || n == 0 {
			t.Errorf("the home that was left has %d records, and %d when all was drained", n, left)
		}
		if err := d.router.Move(t.Context(), "", router.Home{Generation: 1, Cluster: us}); err != nil {
			t.Fatal(err)
		}
		<-done
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := w.records("127.0.0.1:9011", "orders") - 6; n < late || n+left > all {
			t.Errorf("%d records were written, the homes have %d and %d", all, left, n)
		}
	})
}

// TestRouter_MoveRefused: a home that cannot be asked, a set that is not there and a generation that is not newer leave all as it was.
func TestRouter_MoveRefused(t *testing.T) {
	inMovingHomes(t, func(t *testing.T, w *world, d *door, us *broker.Cluster) {
		nobody, err := broker.Open(broker.Profile{Name: "nobody", Bootstrap: []string{"127.0.0.1:9099"}, Dial: w.net.DialContext}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer nobody.Close()
		c, err := kfake.NewCluster(kfake.ListenFn(w.net.Listen), kfake.Ports(9031), kfake.NumBrokers(1), kfake.MaxVersions(kversion.V2_4_0()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		old, err := broker.Open(broker.Profile{Name: "old", Bootstrap: []string{"127.0.0.1:9031"}, Dial: w.net.DialContext}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		for cluster, want := range map[*broker.Cluster]string{us: "", nobody: "nobody", old: "broker 0 of old does not speak what clients were told of (Produce "} {
			if err := d.router.Speaks(t.Context(), cluster); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v", cluster.Name(), err)
			}
		}
		_, before := w.told(0)
		for name, fails := range map[string]func() error{
			"no versions":   func() error { return d.router.Move(t.Context(), "", router.Home{Generation: 1, Cluster: old}) },
			"no home":       func() error { return d.router.Move(t.Context(), "", router.Home{Generation: 1, Cluster: nobody}) },
			"no set":        func() error { return d.router.Move(t.Context(), "fast", router.Home{Generation: 1, Cluster: us}) },
			"no generation": func() error { return d.router.Move(t.Context(), "", router.Home{Generation: 0, Cluster: us}) },
			"hold no set":   func() error { return d.router.Hold("fast", hold.Held) },
		} {
			if fails() == nil {
				t.Errorf("%s: no error", name)
			}
		}
		time.Sleep(3 * time.Second)
		if _, after := w.told(0); !same(before, after) {
			t.Errorf("clients are told %v, before %v", after, before)
		}
		cl := w.client([]int{0}, kgo.DefaultProduceTopic("orders"))
		defer cl.Close()
		send(t, cl, "orders", 10)
		if n := w.records("127.0.0.1:9001", "orders"); n != 10 {
			t.Errorf("the home has %d records", n)
		}
	})
}
