package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// virtual is a kfake cluster on a network of its own, for use inside a synctest bubble.
type virtual struct {
	net  *kfake.VirtualNetwork
	fake *kfake.Cluster
}

// startVirtual starts kfake; it ends with the test.
func startVirtual(t *testing.T, opts ...kfake.Opt) virtual {
	t.Helper()
	v := virtual{net: &kfake.VirtualNetwork{}}
	fake, err := kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(v.net.Listen), kfake.Ports(9092, 9093), kfake.NumBrokers(2)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	v.fake = fake
	t.Cleanup(fake.Close)
	return v
}

// profile reaches the cluster.
func (v virtual) profile() broker.Profile {
	return broker.Profile{Name: "fake", Bootstrap: []string{"127.0.0.1:9092"}, Dial: v.net.DialContext}
}

// open opens the cluster by its profile.
func (v virtual) open(t *testing.T) *broker.Cluster {
	t.Helper()
	return openProfile(t, v.profile())
}

func openProfile(t *testing.T, p broker.Profile) *broker.Cluster {
	t.Helper()
	c, err := broker.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// leader looks up a partition.
func leader(t *testing.T, c *broker.Cluster, topic string, partition int32) (broker.Broker, broker.Topic) {
	t.Helper()
	m, err := c.Metadata(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	mt := m.Topics[topic]
	if mt.Err != nil || int(partition) >= len(mt.Partitions) {
		t.Fatalf("topic %s: %+v", topic, mt)
	}
	return m.Brokers[mt.Partitions[partition].Leader], mt
}

// fill produces n records to a partition, one batch each.
func fill(t *testing.T, c *broker.Cluster, topic string, partition int32, n int) {
	t.Helper()
	p, err := c.Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range n {
		rec := broker.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i), Timestamp: 1_000_000 + int64(i)}
		if _, err := p.Produce(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
}

// encode makes a batch of n records.
func encode(t testing.TB, n int, s batch.Stamp) []byte {
	t.Helper()
	recs := make([]batch.Record, n)
	for i := range recs {
		recs[i] = batch.Record{Timestamp: 1_000_000 + int64(i), Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)}
	}
	b, err := batch.Encode(nil, recs, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// count walks batches and counts records and the offset after the last one.
func count(t *testing.T, raw []byte) (records int, next int64) {
	t.Helper()
	for len(raw) > 0 {
		h, _, rest, err := batch.Next(raw)
		if err != nil {
			t.Fatal(err)
		}
		records += int(h.Records)
		next, raw = h.NextOffset(), rest
	}
	return records, next
}

// within bounds a test's own waiting.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
