package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/topology"
)

// inTwoHomes has a router whose set fast is at another home. Both homes have all topics, as they do where they are mirrored, and brokers of the same ids.
func inTwoHomes(t *testing.T, fn func(t *testing.T, w *world, us *kfake.Cluster)) {
	t.Helper()
	inWorld(t, 3, func(t *testing.T, w *world) {
		us, err := kfake.NewCluster(kfake.ListenFn(w.net.Listen), kfake.Ports(9011, 9012), kfake.NumBrokers(2), kfake.ClusterID("other-cluster"),
			kfake.SeedTopics(4, "payments-1", "payments-2", "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer us.Close()
		w.startWithSet(nil, nil)
		time.Sleep(3 * time.Second)
		fn(t, w, us)
	}, kfake.SeedTopics(4, "payments-1", "payments-2"))
}

// startWithSet starts an instance with two homes, which it may log in at.
func (w *world) startWithSet(login sasl.Mechanism, change func(*topology.Router)) {
	w.t.Helper()
	open := func(name, bootstrap string) *broker.Cluster {
		c, err := broker.Open(broker.Profile{Name: name, Bootstrap: []string{bootstrap}, Dial: w.net.DialContext, SASL: login}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	eu, us := open("eu", "127.0.0.1:9001"), open("us", "127.0.0.1:9011")
	r := instance(0)
	payments, err := topology.ParsePattern("payments-*")
	if err != nil {
		w.t.Fatal(err)
	}
	r.Sets = []topology.Set{{Name: "fast", Home: "us", Topics: topology.Patterns{payments}, Groups: topology.Patterns{payments}, Slots: topology.Ports{First: 9111, Last: 9114}}}
	if change != nil {
		change(&r)
	}
	one, err := router.New(router.Config{Router: r}, router.Deps{Home: eu, Others: map[string]*broker.Cluster{"us": us}, Listen: w.net.Listen, Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Unique:     func() string { return fmt.Sprint("proposal-", w.id.Add(1)) },
		ProducerID: func(counter uint32) int64 { return 1<<62 + int64(counter) }})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- one.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		eu.Close()
		us.Close()
	})
}

// direct knows one of the homes.
func (w *world) direct(bootstrap string, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.Dialer(w.net.DialContext)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cl.Close)
	return cl
}

// records is how many records a topic has at a home.
func (w *world) records(bootstrap, topic string) (n int64) {
	w.t.Helper()
	ends, err := kadm.NewClient(w.direct(bootstrap)).ListEndOffsets(w.t.Context(), topic)
	if err != nil || ends.Error() != nil {
		w.t.Fatal(err, ends.Error())
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

func send(t *testing.T, cl *kgo.Client, topic string, n int) {
	t.Helper()
	for i := range n {
		cl.Produce(t.Context(), kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d of %s: %v", i, topic, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestSets_EachAtItsHome: one client that knows one address writes and reads topics of two homes, and each record is at its topic's home alone.
func TestSets_EachAtItsHome(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		for _, topic := range []string{"orders", "payments-1"} {
			out := w.client([]int{0}, kgo.DefaultProduceTopic(topic))
			send(t, out, topic, 100)
			out.Close()
			in := w.client([]int{0}, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
			got := 0
			for end := time.Now().Add(time.Minute); got < 100 && time.Now().Before(end); {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				got += in.PollFetches(ctx).NumRecords()
				cancel()
			}
			if in.Close(); got != 100 {
				t.Errorf("%d records of %s were read", got, topic)
			}
		}
		for _, tc := range []struct {
			bootstrap, topic string
			want             int64
		}{{"127.0.0.1:9001", "orders", 100}, {"127.0.0.1:9011", "orders", 0}, {"127.0.0.1:9001", "payments-1", 0}, {"127.0.0.1:9011", "payments-1", 100}} {
			if got := w.records(tc.bootstrap, tc.topic); got != tc.want {
				t.Errorf("%s has %d records of %s, want %d", tc.bootstrap, got, tc.topic, tc.want)
			}
		}
	})
}

// TestSets_Metadata: clients are told the brokers of all homes, under different ids, and each topic once, with leaders at its set's slots.
func TestSets_Metadata(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		cl := w.client([]int{0})
		defer cl.Close()
		adm := kadm.NewClient(cl)
		for _, names := range [][]string{nil, {"orders", "payments-1", "payments-2"}, {"payments-1", "payments-9"}} {
			m, err := adm.Metadata(t.Context(), names...)
			if err != nil || len(m.Brokers) != 5 {
				t.Fatalf("%v: %d brokers, %v", names, len(m.Brokers), err)
			}
			ports := make(map[int32]int32)
			for _, b := range m.Brokers {
				ports[b.NodeID] = b.Port
			}
			if len(ports) != 5 {
				t.Errorf("brokers %v", m.Brokers)
			}
			for name, topic := range m.Topics {
				if strings.HasSuffix(name, "9") {
					if !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
						t.Errorf("%s: %v", name, topic.Err)
					}
					continue
				}
				for _, p := range topic.Partitions {
					if ofSet := ports[p.Leader] > 9110; topic.Err != nil || ofSet != strings.HasPrefix(name, "payments") || len(p.Replicas) == 0 {
						t.Errorf("%s:%d is led by the broker at %d; %v", name, p.Partition, ports[p.Leader], topic.Err)
					}
				}
			}
			if want := len(names); names == nil && len(m.Topics) != 4 || names != nil && len(m.Topics) != want { // of all, that of claims is one
				t.Errorf("%v: %d topics, %v", names, len(m.Topics), m.Topics.Names())
			}
		}
	})
}

// TestSets_Groups: a group is coordinated and commits at its set's home, also for topics of that set only, and tools see each group once.
func TestSets_Groups(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		for group, topic := range map[string]string{"shop": "orders", "payments-audit": "payments-1"} {
			out := w.client([]int{0}, kgo.DefaultProduceTopic(topic))
			send(t, out, topic, 50)
			out.Close()
			in := w.client([]int{0}, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
			for got, end := 0, time.Now().Add(time.Minute); got < 50 && time.Now().Before(end); {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				got += in.PollFetches(ctx).NumRecords()
				cancel()
			}
			if err := in.CommitUncommittedOffsets(t.Context()); err != nil {
				t.Error(err)
			}
			in.Close()
			for _, home := range []string{"127.0.0.1:9001", "127.0.0.1:9011"} {
				committed, err := kadm.NewClient(w.direct(home)).FetchOffsets(t.Context(), group)
				total := int64(0)
				committed.Each(func(o kadm.OffsetResponse) { total += o.At })
				want := int64(0)
				if (home == "127.0.0.1:9011") == strings.HasPrefix(group, "payments") {
					want = 50
				}
				if err != nil && (want > 0 || !errors.Is(err, kerr.GroupIDNotFound)) || total != want {
					t.Errorf("%s has %d committed of %s, want %d; %v", home, total, group, want, err)
				}
			}
		}
		// A copy of a group at the other home is nobody's business.
		if err := kadm.NewClient(w.direct("127.0.0.1:9001")).CommitAllOffsets(t.Context(), "payments-audit", kadm.Offsets{"payments-1": {0: {Topic: "payments-1", At: 1}}}); err != nil {
			t.Fatal(err)
		}
		cl := w.client([]int{0})
		defer cl.Close()
		groups, err := kadm.NewClient(cl).ListGroups(t.Context())
		if err != nil || len(groups) != 2 || groups["payments-audit"].Coordinator == groups["shop"].Coordinator {
			t.Errorf("%+v, %v", groups, err)
		}
		described, err := kadm.NewClient(cl).DescribeGroups(t.Context(), "shop", "payments-audit")
		if err != nil || described.Error() != nil || len(described) != 2 {
			t.Errorf("%+v, %v", described, err)
		}
	})
}

// TestSets_Transactions: one within a set commits; one over two sets is refused with an error that says what it is, and nothing of it is at either home.
func TestSets_Transactions(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		for id, topic := range map[string]string{"tx": "orders", "payments-tx": "payments-1"} {
			cl := w.client([]int{0}, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			send(t, cl, topic, 10)
			if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Errorf("a transaction in one set: %v", err)
			}
			cl.Close()
		}
		cl := w.client([]int{0}, kgo.TransactionalID("both"), kgo.RecordDeliveryTimeout(10*time.Second))
		defer cl.Close()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "payments-2", Value: []byte("x")}).FirstErr()
		if !errors.Is(err, kerr.PolicyViolation) {
			t.Errorf("a transaction over two sets: %v", err)
		}
		if n := w.records("127.0.0.1:9001", "payments-2") + w.records("127.0.0.1:9011", "payments-2"); n != 0 {
			t.Errorf("%d records of it are there", n)
		}
	})
}

// TestSets_Admin: what can only be done at another home's controller is refused with words that say where to go, and works there.
func TestSets_Admin(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		cl := w.client([]int{0})
		defer cl.Close()
		_, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, "payments-new")
		if !errors.Is(err, kerr.PolicyViolation) {
			t.Errorf("made at the wrong home: %v", err)
		}
		if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, "plain-new"); err != nil {
			t.Error(err)
		}
		only := func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.net.DialContext(ctx, network, address)
		}
		there, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9111"), kgo.Dialer(only))
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		if _, err := kadm.NewClient(there).CreateTopic(t.Context(), 1, 1, nil, "payments-new"); err != nil {
			t.Errorf("at the set's own slots: %v", err)
		}
		if n := w.records("127.0.0.1:9011", "payments-new"); n != 0 {
			t.Error(n)
		}
	})
}

// TestSets_OneHomeAway: while the home of a set is away, all else goes on, and the set is back with it; clients may begin at the home that is left.
func TestSets_OneHomeAway(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, us *kfake.Cluster) {
		out := w.client([]int{0}, kgo.DefaultProduceTopic("orders"))
		defer out.Close()
		both := w.client([]int{0}, kgo.ConsumeTopics("orders", "payments-1"), kgo.FetchMaxWait(100*time.Millisecond))
		defer both.Close()
		send(t, out, "orders", 10)
		us.Close()
		time.Sleep(10 * time.Second)
		begun := time.Now()
		send(t, out, "orders", 10)
		fresh := w.client([]int{0}, kgo.DefaultProduceTopic("orders"))
		defer fresh.Close()
		send(t, fresh, "orders", 10)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("with the home of a set away, another took %v", took)
		}
		if n := w.records("127.0.0.1:9001", "orders"); n != 30 {
			t.Errorf("%d records", n)
		}
	})
}

// TestSets_WrongSlots: who writes or reads a topic of another set at the wrong slots, because it has not heard that it moved, is hung up on, and the
// home there never sees it. A group is sent to look for its coordinator.
func TestSets_WrongSlots(t *testing.T) {
	inTwoHomes(t, func(t *testing.T, w *world, _ *kfake.Cluster) {
		cl := w.client([]int{0}, kgo.RequestRetries(0))
		defer cl.Close()
		if err := cl.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		ask := func(req kmsg.Request) (kmsg.Response, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return cl.Broker(0).Request(ctx, req)
		}
		fetch := kmsg.NewPtrFetchRequest()
		fetch.Topics = []kmsg.FetchRequestTopic{{Topic: "payments-1", Partitions: []kmsg.FetchRequestTopicPartition{{CurrentLeaderEpoch: -1, PartitionMaxBytes: 1}}}}
		produce := kmsg.NewPtrProduceRequest()
		produce.Acks, produce.TimeoutMillis = -1, 1000
		produce.Topics = []kmsg.ProduceRequestTopic{{Topic: "payments-1", Partitions: []kmsg.ProduceRequestTopicPartition{{}}}}
		for _, req := range []kmsg.Request{fetch, produce} {
			if resp, err := ask(req); err == nil {
				t.Errorf("%s is answered: %+v", kmsg.NameForKey(req.Key()), resp)
			}
		}
		resp, err := ask(&kmsg.HeartbeatRequest{Group: "payments-audit"})
		if err != nil || !errors.Is(kerr.ErrorForCode(resp.(*kmsg.HeartbeatResponse).ErrorCode), kerr.NotCoordinator) {
			t.Errorf("%+v, %v", resp, err)
		}
		id := "payments-tx"
		begins, err := ask(&kmsg.InitProducerIDRequest{TransactionalID: &id, TransactionTimeoutMillis: 1000})
		if err != nil || !errors.Is(kerr.ErrorForCode(begins.(*kmsg.InitProducerIDResponse).ErrorCode), kerr.NotCoordinator) {
			t.Errorf("%+v, %v", begins, err)
		}
		if !w.said("the topic has another home") {
			t.Errorf("it is not said why:\n%s", w.logged())
		}
	})
}
