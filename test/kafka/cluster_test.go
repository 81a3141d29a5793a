package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCluster_KeepsDataOverKill is what every fault suite relies on: acknowledged records survive kill -9, and a broker
// that comes back has its address, its cluster id and its data.
func TestCluster_KeepsDataOverKill(t *testing.T) {
	c := Start(t, Options{Name: "one"})
	ctx := deadline(t)
	cl := client(t, c)
	create(ctx, t, cl, "orders", 4, 1)
	before := clusterIDOf(ctx, t, cl)

	produce(ctx, t, cl, "orders", 0, 500)
	c.Kill(0)
	c.Start(0)
	ready(ctx, t, c)
	produce(ctx, t, cl, "orders", 500, 500)
	c.Stop(0)
	c.Start(0)
	ready(ctx, t, c)

	consume(ctx, t, c, "orders", 1000)
	if after := clusterIDOf(ctx, t, cl); after != before {
		t.Errorf("cluster id is %s after the restarts, was %s", after, before)
	}
}

// TestCluster_PausedBrokerAnswersAfterContinue checks that a paused broker keeps its connections and says nothing.
func TestCluster_PausedBrokerAnswersAfterContinue(t *testing.T) {
	c := Start(t, Options{Name: "one"})
	ctx := deadline(t)
	cl := client(t, c)
	create(ctx, t, cl, "orders", 1, 1)
	produce(ctx, t, cl, "orders", 0, 1)

	c.Pause(0)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := kadm.NewClient(cl).ListBrokers(short); err == nil {
		t.Error("a paused broker answered")
	}
	c.Continue(0)
	produce(ctx, t, cl, "orders", 1, 10)
	consume(ctx, t, c, "orders", 11)
}

// TestCluster_ThreeBrokersSurviveOne checks that the three nodes are one cluster: with one killed, acks=all still succeeds.
func TestCluster_ThreeBrokersSurviveOne(t *testing.T) {
	c := Start(t, Options{Name: "three", Brokers: 3})
	ctx := deadline(t)
	cl := client(t, c)
	create(ctx, t, cl, "orders", 6, -1)

	produce(ctx, t, cl, "orders", 0, 300)
	c.Kill(0)
	ready(ctx, t, c)
	produce(ctx, t, cl, "orders", 300, 300)
	c.Start(0)
	ready(ctx, t, c)
	consume(ctx, t, c, "orders", 600)
}

func TestJavaVersion(t *testing.T) {
	for out, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`: 17,
		`java version "21" 2023-09-19 LTS`:     21,
		`java version "1.8.0_402"`:             8,
		`The operation couldn't be completed`:  0,
	} {
		if got := javaVersion(out); got != want {
			t.Errorf("javaVersion(%q) = %d, want %d", out, got, want)
		}
	}
}

// deadline bounds a test's talk with Kafka, so that a hang names the step it is in.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ready(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, c *Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append(opts, kgo.SeedBrokers(c.Bootstrap()...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MetadataMinAge(100*time.Millisecond))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func clusterIDOf(ctx context.Context, t *testing.T, cl *kgo.Client) string {
	t.Helper()
	m, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m.Cluster
}

func create(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, partitions int32, replicas int16) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replicas, nil, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// produce writes n records with the values from, from+1, …
func produce(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, from, n int) {
	t.Helper()
	var recs []*kgo.Record
	for i := range n {
		v := fmt.Appendf(nil, "%d", from+i)
		recs = append(recs, &kgo.Record{Topic: topic, Key: v, Value: v})
	}
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", topic, err)
	}
}

// consume reads the topic from its start and wants each of the values 0 to n-1 once.
func consume(ctx context.Context, t *testing.T, c *Cluster, topic string, n int) {
	t.Helper()
	cl := client(t, c, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := map[string]int{}
	for total := 0; total < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("consume %s after %d of %d records: %v", topic, total, n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			seen[string(r.Value)]++
			total++
		})
	}
	for i := range n {
		if got := seen[fmt.Sprint(i)]; got != 1 {
			t.Errorf("record %d was read %d times", i, got)
		}
	}
}
