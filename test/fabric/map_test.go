package fabric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// transactions writes records of a transaction each: a marker behind every one of them.
func transactions(t *testing.T, f *Fabric, cluster, topic string, n int) {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.TransactionalID("t"), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
}

// chunks is how many chunks the offset maps have in a cluster's state topic.
func chunks(t *testing.T, f *Fabric, cluster string) int { return len(chunkRecords(t, f, cluster)) }

// chunkRecords are the records that hold them.
func chunkRecords(t *testing.T, f *Fabric, cluster string) map[string]*kgo.Record {
	t.Helper()
	live := make(map[string]*kgo.Record)
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		ends, err := a.ListEndOffsets(ctx, "__isthmus.map")
		if err != nil {
			return err
		}
		c := f.Client(cluster)
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.ConsumeTopics("__isthmus.map"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			return err
		}
		defer cl.Close()
		left := int64(0)
		ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
		for left > 0 {
			all := cl.PollFetches(ctx)
			if err := all.Err(); err != nil {
				return err
			}
			all.EachRecord(func(r *kgo.Record) {
				left--
				live[string(r.Key)] = r
			})
		}
		return nil
	})
	maps.DeleteFunc(live, func(_ string, r *kgo.Record) bool { return r.Value == nil })
	return live
}

func deleteBefore(t *testing.T, f *Fabric, cluster, topic string, offset int64) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		var to kadm.Offsets
		to.AddOffset(topic, 0, offset, -1)
		res, err := a.DeleteRecords(ctx, to)
		if err == nil {
			err = res.Error()
		}
		return err
	})
}

func runs(n *Node) int { return n.Set.Status()[0].Flows[0].Pumps[0].Runs }

func translates(t *testing.T, n *Node, offset int64, reverse bool, want int64, exact bool) {
	t.Helper()
	got, err := n.Set.Translate(t.Context(), n.Set.Status()[0].Name, "orders", 0, offset, reverse)
	if err != nil || got.Result != want || got.Exact != exact {
		t.Errorf("%d (reverse %t) is %d, exact %t, %v, want %d, exact %t", offset, reverse, got.Result, got.Exact, err, want, exact)
	}
}

// What neither end keeps goes from the map, in memory and in the state topic; what one of them keeps stays.
func TestMap_ForgetsWhatNeitherEndKeeps(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		const all, gone = 2600, 2000
		n := f.Start("n1")
		transactions(t, f, "eu", "orders", all)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // a checkpoint
		was := chunks(t, f, "us")
		if runs(n) != all || was < 5 {
			t.Fatalf("%d runs in %d chunks, want %d in at least 5", runs(n), was, all)
		}
		deleteBefore(t, f, "eu", "orders", 2*gone)
		time.Sleep(25 * time.Minute)
		if now := chunks(t, f, "us"); runs(n) != all || now != was {
			t.Errorf("the target keeps the records: %d runs in %d chunks, want %d in %d", runs(n), now, all, was)
		}
		translates(t, n, 2*gone-2, false, gone-1, true)
		translates(t, n, gone-1, true, 2*gone-2, true)
		deleteBefore(t, f, "us", "orders", gone)
		time.Sleep(25 * time.Minute)
		now := chunks(t, f, "us")
		t.Logf("%d runs in %d chunks, were %d in %d", runs(n), now, all, was)
		if runs(n) != all-gone || now != was-3 {
			t.Errorf("neither end keeps the records: %d runs in %d chunks, want %d in %d", runs(n), now, all-gone, was-3)
		}
		check := func() {
			t.Helper()
			for _, at := range []int64{0, 2*gone - 2, 2*gone - 1} { // below both logs' starts, and the marker before what is kept
				translates(t, n, at, false, gone, false)
			}
			translates(t, n, 2*gone, false, gone, true)
			translates(t, n, 2*all, false, all, false)
			translates(t, n, 0, true, 2*gone, false)
			translates(t, n, gone, true, 2*gone, true)
			translates(t, n, all, true, 2*all, false)
		}
		check()
		n.Stop()
		n = f.Start("n2")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		check()
		if runs(n) != all-gone {
			t.Errorf("another process has %d runs, want %d", runs(n), all-gone)
		}
	})
}

// A long stream's map is few records of the state topic, and says the same before and after they are merged, and to who comes next.
func TestMap_ChunksAreMerged(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		const all = 9 * 600
		n := f.Start("n1")
		most := 0
		for range 9 {
			transactions(t, f, "eu", "orders", all/9)
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			most = max(most, chunks(t, f, "us"))
		}
		time.Sleep(2 * time.Minute)
		now := chunks(t, f, "us")
		t.Logf("%d chunks, were %d", now, most)
		if now > 4 || now >= most {
			t.Errorf("%d chunks, were %d", now, most)
		}
		for range 2 {
			if runs(n) != all {
				t.Errorf("%d runs, want %d", runs(n), all)
			}
			for at := int64(0); at < all; at += 97 {
				translates(t, n, 2*at, false, at, true)
				translates(t, n, 2*at+1, false, at+1, false)
				translates(t, n, at, true, 2*at, true)
			}
			n.Stop()
			n = f.Start("n2")
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
		}
		n.Stop()
	})
}

// A chunk of the map that cannot be read is said of its partition, which is copied on but not translated; the others know nothing of it.
func TestMap_DamagedChunkIsItsPartitionsTrouble(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 2}, func(t *testing.T, f *Fabric, log *judge.Log) {
		load := judge.Load{Topic: "orders", Partitions: 2, Records: 200, Rate: 200, Size: 100, Seed: 1}
		n := f.Start("n1")
		write(t, f, log, "eu", load)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		n.Stop()
		c := f.Client("us")
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, r := range chunkRecords(t, f, "us") {
			bad := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value[:len(r.Value)-1]}
			if err := cl.ProduceSync(t.Context(), bad).FirstErr(); err != nil {
				t.Fatal(err)
			}
			break
		}
		n = f.Start("n2")
		defer n.Stop()
		load.Seed = 2
		write(t, f, log, "eu", load)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		damaged := 0
		for _, p := range n.Set.Status()[0].Flows[0].Pumps {
			named := strings.Contains(p.Reason, mirror.ErrMap.Error())
			_, err := n.Set.Translate(t.Context(), n.Set.Status()[0].Name, "orders", p.Partition, 5, false)
			if errors.Is(err, mirror.ErrMap) != named || err != nil && !named {
				t.Errorf("partition %d is %s %q and translates with %v", p.Partition, p.State, p.Reason, err)
			}
			if named {
				damaged++
			}
		}
		if damaged != 1 {
			t.Errorf("%d partitions say that their map cannot be read, want 1", damaged)
		}
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log, Ways: []judge.Way{}})
	})
}
