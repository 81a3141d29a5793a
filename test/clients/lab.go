package clients

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/clients/program"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/process"
	"github.com/isthmus-project/isthmus/topology"
)

const (
	// partitions each topic has.
	partitions = 3
	// door is the listener that the router knows.
	door = "DOOR"
)

// Lab is a cluster of three brokers and a router in front of it.
type Lab struct {
	// Cluster is the home.
	Cluster *kafka.Cluster
	// Direct and Routed are where clients bootstrap.
	Direct, Routed string
	admin          *kadm.Client
	client         *kgo.Client
	ids            atomic.Int64
}

// Open starts a lab on a release of Kafka, empty for the usual one. It ends with the test.
func Open(t testing.TB, version string) *Lab {
	t.Helper()
	nowhere := func(i int) string { return fmt.Sprintf("broker%d.invalid:1", i+1) }
	c := kafka.Start(t, kafka.Options{Name: "home", Brokers: 3, HeapMB: 320, Version: version, Listeners: map[string]string{door: "PLAINTEXT"},
		Advertised: map[string][]string{door: {nowhere(0), nowhere(1), nowhere(2)}},
		Properties: map[string]string{
			"group.coordinator.rebalance.protocols": "classic,consumer",
			"authorizer.class.name":                 "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
			"super.users":                           "User:ANONYMOUS",
			"group.consumer.heartbeat.interval.ms":  "500", "group.consumer.min.heartbeat.interval.ms": "500",
		}})
	l := &Lab{Cluster: c, Direct: strings.Join(c.Bootstrap(), ",")}
	var err error
	if l.client, err = kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.MetadataMinAge(200*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	l.admin = kadm.NewClient(l.client)
	l.route(t, nowhere)
	if err := l.warm(t.Context()); err != nil {
		t.Fatalf("the coordinators are not ready: %v", err)
	}
	return l
}

// warm waits until the coordinators of all groups and transactions have loaded what they know: until then they tell clients to come again, and not
// every client does so in silence.
func (l *Lab) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.Create(ctx, "warm"); err != nil {
		return err
	}
	for i := range 32 { // names enough to meet each of the few partitions
		name := fmt.Sprint("warm-", i)
		if err := until(ctx, func() error {
			o := make(kadm.Offsets)
			o.AddOffset("warm", 0, 0, -1)
			return l.admin.CommitAllOffsets(ctx, name, o)
		}); err != nil {
			return err
		}
		if err := until(ctx, func() error {
			cl, err := kgo.NewClient(kgo.SeedBrokers(l.Cluster.Bootstrap()...), kgo.TransactionalID(name))
			if err != nil {
				return err
			}
			defer cl.Close()
			_, _, err = cl.ProducerID(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// until tries something until it succeeds; the error is the last, if ctx ends before.
func until(ctx context.Context, try func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// route starts the router.
func (l *Lab) route(t testing.TB, nowhere func(int) string) {
	t.Helper()
	at := make(map[string]string) // where what nobody can reach is
	for i, address := range l.Cluster.Addresses(door) {
		at[nowhere(i)] = address
	}
	var dialer net.Dialer
	home, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{nowhere(0), nowhere(1), nowhere(2)},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, at[address])
		}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(home.Close)
	first, locks, err := process.ReserveRange(4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.CloseAll(locks); err != nil {
			t.Errorf("release ports: %v", err)
		}
	})
	l.Routed = net.JoinHostPort("127.0.0.1", strconv.Itoa(first))
	r, err := router.New(router.Config{Router: topology.Router{Name: "shop", Node: "eu-1", Listen: l.Routed, Advertise: "127.0.0.1", Home: "eu",
		Slots: topology.Ports{First: uint16(first + 1), Last: uint16(first + 3)}, Auth: topology.PassThrough}},
		router.Deps{Home: home, Unique: func() string { return fmt.Sprint("proposal-", l.ids.Add(1)) }, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			ProducerID: func(counter uint32) int64 { return 1<<62 + int64(counter) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the router ended: %v", err)
		}
	})
	if err := l.ready(t.Context()); err != nil {
		t.Fatalf("the router is not ready: %v", err)
	}
}

// ready waits until the router takes clients.
func (l *Lab) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.Routed))
	if err != nil {
		return err
	}
	defer cl.Close()
	return until(ctx, func() error {
		_, err := kadm.NewClient(cl).BrokerMetadata(ctx)
		return err
	})
}

// Create makes a topic, past the router, and returns when every broker knows it: kafka-python, among others, looks once and then not for minutes.
func (l *Lab) Create(ctx context.Context, topic string) error {
	if _, err := l.admin.CreateTopic(ctx, partitions, 3, nil, topic); err != nil {
		return err
	}
	for broker := range 3 {
		if err := until(ctx, func() error {
			req := kmsg.NewPtrMetadataRequest()
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(topic)
			req.Topics = append(req.Topics, t)
			resp, err := l.client.Broker(broker+1).Request(ctx, req)
			if err != nil {
				return err
			}
			found := resp.(*kmsg.MetadataResponse).Topics[0]
			for _, p := range found.Partitions {
				if err = kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
			return kerr.ErrorForCode(found.ErrorCode)
		}); err != nil {
			return fmt.Errorf("wait for topic %s at broker %d: %w", topic, broker+1, err)
		}
	}
	return nil
}

// Fill writes the ids first to first+n−1 past the router, and tells the history.
func (l *Lab) Fill(ctx context.Context, h *program.History, topic string, first, n int64) error {
	h.Add(oracle.Event{Run: "filler", Kind: oracle.Sending, ID: first, To: first + n - 1})
	var records []*kgo.Record
	for id := first; id < first+n; id++ {
		text := []byte(strconv.FormatInt(id, 10))
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(id % partitions), Key: text, Value: text})
	}
	if err := l.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("fill %s: %w", topic, err)
	}
	for i, r := range records {
		h.Add(oracle.Event{Run: "filler", Kind: oracle.Acked, ID: first + int64(i), Partition: r.Partition, Offset: r.Offset})
	}
	return nil
}

// Quiet waits until no transaction is open in a topic: that one is committed is answered before the brokers of its partitions know. The error says which
// partition still waits when ctx ends.
func (l *Lab) Quiet(ctx context.Context, topic string) error {
	return until(ctx, func() error {
		ends, err := l.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		committed, err := l.admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		for p, end := range ends[topic] {
			if c, ok := committed.Lookup(topic, p); !ok || c.Offset != end.Offset {
				return fmt.Errorf("partition %d of %s ends at %d, and a transaction is open at %d", p, topic, end.Offset, c.Offset)
			}
		}
		return nil
	})
}

// Stored reads all committed records of a topic, past the router.
func (l *Lab) Stored(ctx context.Context, topic string) (oracle.Log, error) {
	ends, err := l.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	log, left := make(oracle.Log), make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		log[o.Partition] = nil
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.Cluster.Bootstrap()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for len(left) > 0 {
		got := cl.PollFetches(ctx)
		if err := got.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		got.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				id, err := strconv.ParseInt(string(r.Key), 10, 64)
				if err != nil {
					id = -1 // nobody sent that
				}
				log[r.Partition] = append(log[r.Partition], oracle.Record{Offset: r.Offset, ID: id})
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return log, nil
}
