package router

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// lab is a door to a kfake cluster of three brokers, in one bubble.
type lab struct {
	*Door
	cluster *kfake.Cluster
}

func bubble(t *testing.T, fn func(t *testing.T, l lab), opts ...kfake.Opt) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		c, err := kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(network.Listen), kfake.Ports(9001, 9002, 9003), kfake.NumBrokers(3),
			kfake.ClusterID("real-cluster"), kfake.SeedTopics(6, "orders")}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d := Open(t, Network{network.Listen, network.DialContext}, []Broker{{0, "127.0.0.1:9001"}, {1, "127.0.0.1:9002"}, {2, "127.0.0.1:9003"}},
			[]string{"127.0.0.1:9301", "127.0.0.1:9302", "127.0.0.1:9303"})
		defer d.Close()
		fn(t, lab{d, c})
	})
}

// produce writes records from to to-1, and says what was acknowledged.
func produce(t *testing.T, cl *kgo.Client, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r := &kgo.Record{Topic: "orders", Key: []byte(strconv.Itoa(i % 50)), Value: []byte(strconv.Itoa(i))}
		cl.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// consume reads until n records have come and a second more, and checks that each of 0 to n-1 came once, in order per key.
func consume(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	seen, last := make(map[int]int), make(map[string]int)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for more := false; ; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			i, err := strconv.Atoi(string(r.Value))
			if before, ok := last[string(r.Key)]; err != nil || ok && i <= before {
				t.Errorf("record %q of key %s after %d", r.Value, r.Key, before)
			}
			seen[i]++
			last[string(r.Key)] = i
		})
		if len(seen) >= n && !more {
			more = true
			time.AfterFunc(time.Second, cancel)
		}
	}
	for i := range n {
		if seen[i] != 1 {
			t.Fatalf("record %d came %d times, %d of %d records came", i, seen[i], len(seen), n)
		}
	}
}

// TestDoor_ProduceAndConsume: what goes in through the door is in the cluster, and comes out through it.
func TestDoor_ProduceAndConsume(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"idempotent": nil,
		"acks 1":     {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())},
		"acks 0":     {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())},
		"as of 2.4":  {kgo.MaxVersions(kversion.V2_4_0())},
		"as of 0.11": {kgo.MaxVersions(kversion.V0_11_0())},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d lab) {
				cl := d.Client(append(opts, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond))...)
				defer cl.Close()
				produce(t, cl, 0, 2000)
				time.Sleep(time.Second)
				for _, open := range []func(...kgo.Opt) *kgo.Client{d.Client, d.Direct} {
					in := open(kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
					consume(t, in, 2000)
					in.Close()
				}
			})
		})
	}
}

// TestDoor_Groups: members share the partitions, commit, and go on where they were; the cluster's own tools see the commits.
func TestDoor_Groups(t *testing.T) {
	bubble(t, func(t *testing.T, d lab) {
		out := d.Client()
		defer out.Close()
		produce(t, out, 0, 600)
		group := func() *kgo.Client {
			return d.Client(kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("billing"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.FetchMaxWait(100*time.Millisecond), kgo.Balancers(kgo.CooperativeStickyBalancer()))
		}
		in := group()
		consume(t, in, 600)
		if err := in.CommitUncommittedOffsets(t.Context()); err != nil {
			t.Fatal(err)
		}
		in.Close()
		direct := d.Direct()
		defer direct.Close()
		committed, err := kadm.NewClient(direct).FetchOffsets(t.Context(), "billing")
		total := int64(0)
		committed.Each(func(o kadm.OffsetResponse) {
			total += o.At
			if o.LeaderEpoch != -1 {
				t.Errorf("partition %d is committed with epoch %d", o.Partition, o.LeaderEpoch)
			}
		})
		if err != nil || total != 600 {
			t.Errorf("committed are %d records, %v", total, err)
		}
		one, two := group(), group()
		defer one.Close()
		defer two.Close()
		produce(t, out, 600, 700)
		got := 0
		for end := time.Now().Add(time.Minute); got < 100 && time.Now().Before(end); {
			for _, cl := range []*kgo.Client{one, two} {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				got += cl.PollFetches(ctx).NumRecords()
				cancel()
			}
		}
		if got != 100 {
			t.Errorf("%d records came after the commit, want 100", got)
		}
	})
}

// TestDoor_Transactions: what was committed is read, what was aborted is not.
func TestDoor_Transactions(t *testing.T) {
	bubble(t, func(t *testing.T, d lab) {
		out := d.Client(kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		defer out.Close()
		for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
			if err := out.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			from := map[int]int{0: 0, 1: 9000, 2: 100}[i]
			produce(t, out, from, from+100)
			if err := out.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
		}
		in := d.Client(kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
		defer in.Close()
		consume(t, in, 200)
	})
}

// TestDoor_LeadersMoveAndConnectionsEnd: clients follow leaders from slot to slot and never past the door, and what a broker's restart
// does to connections does not cost or double a record.
func TestDoor_LeadersMoveAndConnectionsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, d lab) {
		out := d.Client(kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond))
		defer out.Close()
		in := d.Client(kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond))
		defer in.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			consume(t, in, 2000)
		}()
		for round := range 10 {
			produce(t, out, round*200, round*200+200)
			for p := range int32(6) {
				if err := d.cluster.MoveTopicPartition("orders", p, int32(round)%3); err != nil {
					t.Fatal(err)
				}
			}
			if round%3 == 2 {
				d.Cut()
			}
			time.Sleep(500 * time.Millisecond)
		}
		<-done
	})
}

// TestDoor_Admin: tools see the virtual cluster, and reach the brokers that they mean.
func TestDoor_Admin(t *testing.T) {
	bubble(t, func(t *testing.T, d lab) {
		cl := d.Client()
		defer cl.Close()
		adm := kadm.NewClient(cl)
		m, err := adm.Metadata(t.Context())
		if err != nil || m.Cluster != ClusterID || len(m.Brokers) != 3 || m.Controller < FirstID {
			t.Errorf("%+v, %v", m, err)
		}
		for _, b := range m.Brokers {
			if b.NodeID < FirstID || d.Slots[b.NodeID-FirstID] != fmt.Sprintf("%s:%d", b.Host, b.Port) {
				t.Errorf("broker %+v", b)
			}
		}
		for _, p := range m.Topics["orders"].Partitions {
			if p.Leader < FirstID || len(p.Replicas) == 0 || p.Replicas[0] < FirstID || p.LeaderEpoch != -1 {
				t.Errorf("partition %+v", p)
			}
		}
		if created, err := adm.CreateTopic(t.Context(), 3, -1, nil, "payments"); err != nil || created.Err != nil {
			t.Errorf("create: %v, %v", err, created.Err)
		}
		configs, err := adm.DescribeBrokerConfigs(t.Context(), FirstID, FirstID+2)
		if err != nil || len(configs) != 2 {
			t.Errorf("%d brokers' configs, %v", len(configs), err)
		}
		for _, c := range configs {
			if c.Err != nil || c.Name != "101" && c.Name != "103" {
				t.Errorf("configs of broker %q: %v", c.Name, c.Err)
			}
		}
		if _, err := adm.DeleteTopics(t.Context(), "payments"); err != nil {
			t.Error(err)
		}
		ends, err := adm.ListEndOffsets(t.Context(), "orders")
		if err != nil || ends.Error() != nil || len(ends["orders"]) != 6 {
			t.Errorf("%v, %v", ends, err)
		}
	})
}

// TestDoor_SASL: a client logs in at the cluster as itself, by each mechanism; a wrong password ends as it does there.
func TestDoor_SASL(t *testing.T) {
	bubble(t, func(t *testing.T, d lab) {
		for name, good := range map[string]kgo.Opt{
			"plain": kgo.SASL(plain.Auth{User: "shop", Pass: "secret"}.AsMechanism()),
			"scram": kgo.SASL(scram.Auth{User: "shop2", Pass: "secret"}.AsSha256Mechanism()),
		} {
			cl := d.Client(good)
			if err := cl.Ping(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			cl.Close()
		}
		wrong := kgo.SASL(plain.Auth{User: "shop", Pass: "wrong"}.AsMechanism())
		door, direct := d.Client(wrong), d.Direct(wrong)
		defer door.Close()
		defer direct.Close()
		if got, want := door.Ping(t.Context()), direct.Ping(t.Context()); got == nil || got.Error() != want.Error() {
			t.Errorf("a wrong password: %v, at the cluster %v", got, want)
		}
	}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "shop", "secret"), kfake.Superuser("SCRAM-SHA-256", "shop2", "secret"))
}
