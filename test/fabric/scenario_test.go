package fabric

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// scenario runs a test in a bubble on two clusters, topics on eu only.
func scenario(t *testing.T, o Options, run func(t *testing.T, f *Fabric, log *judge.Log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Clusters, o.Verbose = []string{"eu", "us"}, testing.Verbose()
		if o.Links == nil {
			o.Links = []string{"eu>us"}
		}
		if o.On == nil {
			o.On = []string{"eu"}
		}
		f := New(t, o)
		defer f.Close()
		run(t, f, judge.NewLog())
	})
}

// admin runs calls of an ordinary admin client.
func admin(t *testing.T, f *Fabric, cluster string, call func(context.Context, *kadm.Client) error) {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := call(t.Context(), kadm.NewClient(cl)); err != nil {
		t.Fatalf("ask %s: %v", cluster, err)
	}
}

func createTopic(t *testing.T, f *Fabric, cluster, topic string, partitions int32, configs map[string]*string) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		_, err := a.CreateTopic(ctx, partitions, 1, configs, topic)
		return err
	})
}

func setPartitions(t *testing.T, f *Fabric, cluster, topic string, n int) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		r, err := a.UpdatePartitions(ctx, n, topic)
		return errors.Join(err, r.Error())
	})
}

// holds counts what an ordinary consumer reads from a topic.
func holds(t *testing.T, f *Fabric, cluster, topic string) (n int) {
	t.Helper()
	if err := judge.Read(t.Context(), f.Client(cluster), []string{topic}, func(checker.Record) error { n++; return nil }); err != nil {
		return -1 // the topic may not be there yet
	}
	return n
}

// arrives waits until so many records of a topic are on the target.
func arrives(t *testing.T, f *Fabric, topic string, n int, most time.Duration) {
	t.Helper()
	eventually(t, most, fmt.Sprintf("%d records of %s on us", n, topic), func() bool { return holds(t, f, "us", topic) == n })
}

func TestScenario_NewTopicAndPartitions(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		n := f.Start("n1")
		defer n.Stop()
		time.Sleep(7 * time.Second)
		createTopic(t, f, "eu", "late", 1, nil)
		write(t, f, log, "eu", judge.Load{Topic: "late", Partitions: 1, Records: 10, Size: 50, Seed: 1})
		arrives(t, f, "late", 10, 5*time.Second)
		setPartitions(t, f, "eu", "late", 8)
		write(t, f, log, "eu", judge.Load{Topic: "late", Partitions: 8, Records: 200, Size: 50, Seed: 2})
		arrives(t, f, "late", 210, 5*time.Second)
		verdict(t, f, judge.Case{Topics: []string{"late"}, Log: log})
	})
}

// Two nodes that begin at the end at different moments agree on one beginning.
func TestScenario_StartAtTheEnd(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: `start = "latest"`, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 300, Size: 50, Seed: 1})
		nodes := []*Node{f.Start("n1"), f.Start("n2")}
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 3000, Rate: 500, Size: 50, Seed: 2})
		nodes[1].Stop()
		defer nodes[0].Stop()
		if err := CaughtUp(time.Minute, nodes[0]); err != nil {
			t.Fatal(err)
		}
		// The end of a log is a suffix of it: nothing is missing behind the first copy.
		var source, target []string
		read := func(cluster string, into *[]string) {
			if err := judge.Read(t.Context(), f.Client(cluster), []string{"orders"}, func(r checker.Record) error {
				*into = append(*into, r.UID)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		read("eu", &source)
		read("us", &target)
		if len(target) > 3000 || len(target) < 2000 || strings.Join(source[len(source)-len(target):], " ") != strings.Join(target, " ") {
			t.Errorf("%d of %d records on the target, not the end of the source", len(target), len(source))
		}
		if l := nodes[0].Set.Status(); len(l) != 1 {
			t.Errorf("%d links", len(l))
		}
		if l, err := nodes[0].Set.Ledger(""); err != nil || len(l) > 0 {
			t.Errorf("ledger %+v, %v", l, err)
		}
	})
}

func TestScenario_KilledBeforeTheFirstCheckpoint(t *testing.T) {
	for after := 50 * time.Millisecond; after < 1200*time.Millisecond; after += 150 * time.Millisecond {
		scenario(t, Options{Topics: []string{"orders"}, Mirror: mirror.Config{CheckpointEvery: time.Hour}}, func(t *testing.T, f *Fabric, log *judge.Log) {
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 2000, Size: 50})
			n := f.Start("n1")
			time.Sleep(after)
			n.Kill()
			n = f.Start("n1")
			defer n.Stop()
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatalf("killed after %v: %v", after, err)
			}
			verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
		})
	}
}

func TestScenario_TwoNodesOfOneName(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		a, b := f.Start("n1"), f.Start("n1")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 4000, Rate: 800, Size: 50})
		a.Kill()
		defer b.Stop()
		if err := CaughtUp(time.Minute, b); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}

func TestScenario_FewerPartitionsOnTheTarget(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 3}, func(t *testing.T, f *Fabric, log *judge.Log) {
		createTopic(t, f, "us", "orders", 1, nil)
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 3, Records: 900, Size: 50})
		n := f.Start("n1")
		defer n.Stop()
		time.Sleep(15 * time.Second)
		ps := pumps(n, "orders")
		if len(ps) != 1 || ps[0].State != mirror.StateRunning || ps[0].LagRecords > 0 || ps[0].SourceEnd < 200 {
			t.Errorf("pumps %+v, want one that has caught up", ps)
		}
		if said := explain(n, "orders"); !strings.Contains(said, "fewer-partitions") {
			t.Errorf("status says %q", said)
		}
		setPartitions(t, f, "us", "orders", 3)
		arrives(t, f, "orders", 900, 5*time.Second)
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}

func TestScenario_OtherCleanupPolicyBlocksOneTopic(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "prices"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		compact := "compact"
		createTopic(t, f, "us", "prices", 2, map[string]*string{"cleanup.policy": &compact})
		for i, topic := range []string{"orders", "prices"} {
			write(t, f, log, "eu", judge.Load{Topic: topic, Partitions: 2, Records: 400, Size: 50, Seed: uint64(i)})
		}
		n := f.Start("n1")
		defer n.Stop()
		arrives(t, f, "orders", 400, 10*time.Second)
		time.Sleep(5 * time.Second)
		if got := holds(t, f, "us", "prices"); got > 0 {
			t.Errorf("%d records of the other policy were copied", got)
		}
		if said := explain(n, "prices"); !strings.Contains(said, "cleanup-policy") {
			t.Errorf("status says %q", said)
		}
		admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
			v := "delete"
			_, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &v}}, "prices")
			return err
		})
		arrives(t, f, "prices", 400, 10*time.Second)
	})
}

func TestScenario_RecreatedSourceHalts(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 400, Size: 50})
		n := f.Start("n1")
		defer n.Stop()
		arrives(t, f, "orders", 400, 10*time.Second)
		time.Sleep(3 * time.Second)
		admin(t, f, "eu", func(ctx context.Context, a *kadm.Client) error {
			_, err := a.DeleteTopic(ctx, "orders")
			return err
		})
		createTopic(t, f, "eu", "orders", 2, nil)
		write(t, f, judge.NewLog(), "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 1000, Size: 50, Seed: 9})
		eventually(t, 20*time.Second, "the pumps halt", func() bool {
			ps := pumps(n, "orders")
			return len(ps) == 2 && ps[0].State == mirror.StateHalted && ps[1].State == mirror.StateHalted
		})
		if said := explain(n, "orders"); strings.Count(said, "recreated") != 2 {
			t.Errorf("status says %q", said)
		}
		if got := holds(t, f, "us", "orders"); got != 400 {
			t.Errorf("%d records on the target, the new topic's among them", got)
		}
		for _, p := range pumps(n, "other") {
			if p.State != mirror.StateRunning {
				t.Errorf("the neighbour is %s: %s", p.State, p.Reason)
			}
		}
	})
}

// Where an epoch of the target ends before our last record, that record is read back. A broker that does not answer then has
// not said that it is gone.
func TestScenario_UnreadableTargetIsNotATruncatedOne(t *testing.T) {
	for answer, want := range map[*kerr.Error]struct {
		state  mirror.State
		reason string
	}{
		kerr.KafkaStorageError: {mirror.StateRetrying, "read back our last batch"},
		kerr.OffsetOutOfRange:  {mirror.StateHalted, "truncated-target"},
	} {
		scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
			n := f.Start("n1")
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 50})
			arrives(t, f, "orders", 100, 10*time.Second)
			n.Stop()
			us := f.Clusters["us"]
			epochEndsAt(us, "orders", 50)
			fault := us.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: answer, Count: -1})
			n = f.Start("n2")
			defer func() { n.Stop() }()
			eventually(t, 20*time.Second, "the pump looks in vain", func() bool {
				ps := pumps(n, "orders")
				return len(ps) == 1 && (ps[0].State == mirror.StateRetrying || ps[0].State == mirror.StateHalted)
			})
			if p := pumps(n, "orders")[0]; p.State != want.state || !strings.Contains(p.Reason, want.reason) {
				t.Errorf("the target answers %v: %s (%s), want %s (%s)", answer, p.State, p.Reason, want.state, want.reason)
			}
			fault.Remove()
			if err := CaughtUp(2*time.Minute, n); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScenario_UnansweredEpochIsNoProof: nothing is written before it is known whether either log is still the one of the checkpoint. What was written
// unseen could never be compared again.
func TestScenario_UnansweredEpochIsNoProof(t *testing.T) {
	for _, name := range []string{"eu", "us"} {
		scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, log *judge.Log) {
			n := f.Start("n1")
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 50})
			arrives(t, f, "orders", 100, 10*time.Second)
			n.Stop()
			fault := f.Clusters[name].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetForLeaderEpoch}, Topic: "orders", Err: kerr.KafkaStorageError, Count: -1})
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 50})
			n = f.Start("n2")
			defer func() { n.Stop() }()
			eventually(t, 20*time.Second, "the pump looks in vain", func() bool {
				ps := pumps(n, "orders")
				return len(ps) == 1 && ps[0].Attempts > 3
			})
			if p := pumps(n, "orders")[0]; p.SourceNext != 100 || !strings.Contains(p.Reason, "epoch") {
				t.Errorf("%s does not answer for its epochs: at %d, %s (%s); want to wait at 100 for an epoch", name, p.SourceNext, p.State, p.Reason)
			}
			fault.Remove()
			if err := CaughtUp(2*time.Minute, n); err != nil {
				t.Error(err)
			}
		})
	}
}

// epochEndsAt makes a cluster say that every leader epoch of a topic's first partition ends at the offset.
func epochEndsAt(c *kfake.Cluster, name string, end int64) {
	c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		part.LeaderEpoch, part.EndOffset = 0, end
		topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
		topic.Topic, topic.Partitions = name, append(topic.Partitions, part)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

// While the target cannot be reached the source deletes records that were not copied:
// the ledger has exactly those.
func TestScenario_RetentionOverrun(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Mirror: mirror.Config{PumpBytes: 4 << 10, FetchPartitionBytes: 2 << 10}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		n := f.Start("n1")
		defer n.Stop()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 300, Rate: 300, Size: 100, Seed: 1})
		arrives(t, f, "orders", 300, 5*time.Second)
		n.Paths["us"].Cut()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 700, Rate: 300, Size: 100, Seed: 2})
		admin(t, f, "eu", func(ctx context.Context, a *kadm.Client) error {
			var to kadm.Offsets
			to.AddOffset("orders", 0, 800, -1)
			_, err := a.DeleteRecords(ctx, to)
			return err
		})
		n.Paths["us"].Heal()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		entries, err := n.Set.Ledger("")
		if err != nil || len(entries) != 1 {
			t.Fatalf("ledger %+v, %v", entries, err)
		}
		e := entries[0]
		if e.Reason != mirror.ReasonRetention || e.First != 300 || e.Last != 799 || e.Records != 500 {
			t.Errorf("entry %+v, want records 300 to 799", e)
		}
		if got := holds(t, f, "us", "orders"); got != 500 {
			t.Errorf("%d records on the target, want 500", got)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Ledger: map[string][]checker.Range{
			"us": {{Cluster: "eu", Topic: "orders", First: e.First, Last: e.Last, Kind: checker.Missing}}}})
	})
}

// A client that writes under an id made like the fabric's own harms nobody: what it
// wrote is copied like any client's, and counted.
func TestScenario_ForgedID(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Links: []string{"eu>us", "us>eu"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		n := f.Start("n1")
		defer n.Stop()
		c := f.Client("eu")
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.MaxVersions(kversion.V3_0_0())) // topics by name
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for i, id := range []int64{f.Topology.MirrorID("eu", "eu"), f.Topology.MirrorID("eu", "us"), f.Topology.MirrorID("us", "eu")} {
			raw, err := batch.Encode(nil, []batch.Record{{Timestamp: time.Now().UnixMilli(), Value: fmt.Appendf(nil, "eu/forger/%d ", i)}}, batch.None,
				batch.Stamp{ProducerID: id})
			if err != nil {
				t.Fatal(err)
			}
			req := kmsg.NewPtrProduceRequest()
			req.Acks, req.TimeoutMillis = -1, 5000
			topic := kmsg.NewProduceRequestTopic()
			topic.Topic = "orders"
			part := kmsg.NewProduceRequestTopicPartition()
			part.Records = raw
			topic.Partitions = append(topic.Partitions, part)
			req.Topics = append(req.Topics, topic)
			resp, err := req.RequestWith(t.Context(), cl)
			if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("%+v, %v", resp, err)
			}
		}
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Rate: 100, Size: 50, Seed: 1})
		arrives(t, f, "orders", 103, 10*time.Second)
		time.Sleep(3 * time.Second)
		entries, err := n.Set.Ledger("")
		if err != nil || len(entries) == 0 || entries[0].Reason != mirror.ReasonForged || entries[0].Records != 3 {
			t.Errorf("ledger %+v, %v, want three forged records", entries, err)
		}
		if got := holds(t, f, "eu", "orders"); got != 103 {
			t.Errorf("%d records at the source: they went round", got)
		}
	})
}

func TestScenario_MemoryIsBoundedWhileTheTargetIsAway(t *testing.T) {
	const linkBytes, fetchBytes = 64 << 10, 16 << 10
	cfg := mirror.Config{LinkBytes: linkBytes, FetchBytes: fetchBytes, FetchPartitionBytes: 8 << 10}
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 6, Mirror: cfg}, func(t *testing.T, f *Fabric, log *judge.Log) {
		memory := mirror.NewMemory(1 << 30)
		n := f.Run("n1", func(d *mirror.SetDeps) { d.Memory = memory })
		defer n.Stop()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 6, Records: 60, Size: 50, Seed: 1})
		arrives(t, f, "orders", 60, 5*time.Second)
		n.Paths["us"].Deaf()
		written := make(chan error)
		go func() {
			written <- judge.Write(context.Background(), f.Client("eu"), judge.Load{Topic: "orders", Partitions: 6, Records: 6000, Rate: 1000, Size: 500, Seed: 2}, log)
		}()
		most := int64(0)
		for range 400 {
			time.Sleep(25 * time.Millisecond)
			most = max(most, memory.Used()) // what is on the wire holds none
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if most > linkBytes+fetchBytes {
			t.Errorf("%d bytes were held, the link may hold %d", most, linkBytes)
		}
		if most == 0 {
			t.Error("nothing was ever held: the test sees nothing")
		}
		n.Paths["us"].Heal()
		n.Paths["us"].Reset()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}

// TestScenario_SourceGrowsWhileTheNodeIsDown: the target had every partition once,
// which is durable; so the node that comes back grows it.
func TestScenario_SourceGrowsWhileTheNodeIsDown(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 2}, func(t *testing.T, f *Fabric, log *judge.Log) {
		n := f.Start("n1")
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 20, Size: 50, Seed: 1})
		arrives(t, f, "orders", 20, 10*time.Second)
		n.Stop()
		setPartitions(t, f, "eu", "orders", 6)
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 6, Records: 60, Size: 50, Seed: 2})
		n = f.Start("n1")
		defer n.Stop()
		arrives(t, f, "orders", 80, 10*time.Second)
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}

// TestScenario_IdleSourceIsHeard: answers that hold nothing new count as heard.
func TestScenario_IdleSourceIsHeard(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		n := f.Start("n1")
		defer n.Stop()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 20, Size: 50})
		arrives(t, f, "orders", 20, 10*time.Second)
		time.Sleep(time.Minute)
		for _, p := range pumps(n, "orders") {
			if p.SeenAgo < 0 || p.SeenAgo > 2*time.Second {
				t.Errorf("partition %d was heard %s ago although its source answers", p.Partition, p.SeenAgo)
			}
		}
	})
}

// TestScenario_SettingsOfManyTopicsAreAskedAtOnce: one round trip for all topics;
// asked one by one, the last of a few hundred topics over a WAN would wait.
func TestScenario_SettingsOfManyTopicsAreAskedAtOnce(t *testing.T) {
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("topic-%02d", i))
	}
	scenario(t, Options{Topics: many, Partitions: 1}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		asked := f.Clusters["eu"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Observe: true, Count: -1})
		n := f.Start("n1")
		defer n.Stop()
		eventually(t, 20*time.Second, "all topics have pumps", func() bool {
			st := n.Set.Status()
			running := 0
			for _, fl := range st[0].Flows {
				for _, p := range fl.Pumps {
					if p.State == mirror.StateRunning {
						running++
					}
				}
			}
			return running == len(many)
		})
		if n := asked.Hits(); n > len(many)/4 {
			t.Errorf("%d requests for the settings of %d topics", n, len(many))
		}
	})
}
