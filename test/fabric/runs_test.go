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
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// several writes records of their own to the first partition of a topic.
func several(t *testing.T, f *Fabric, cluster, topic, prefix string, n int) {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s-%d", prefix, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if i%7 == 6 {
			if err := cl.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// endOf is the end of the first partition.
func endOf(t *testing.T, f *Fabric, cluster, topic string) (end int64) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		ends, err := a.ListEndOffsets(ctx, topic)
		o, _ := ends.Lookup(topic, 0)
		end = o.Offset
		return err
	})
	return end
}

// valuesOf are the records of the first partition by their offsets.
func valuesOf(t *testing.T, f *Fabric, cluster, topic string) map[int64]string {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	out := make(map[int64]string)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		all := cl.PollFetches(ctx)
		cancel()
		if all.NumRecords() == 0 {
			return out
		}
		all.EachRecord(func(r *kgo.Record) { out[r.Offset] = string(r.Value) })
	}
}

// sameRuns sees that the runs of a node are what both logs have.
func sameRuns(t *testing.T, f *Fabric, n *Node, from, at string) {
	t.Helper()
	got, err := n.Set.Look().Runs(t.Context(), from, at, "orders", 0)
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	here, there := valuesOf(t, f, from, "orders"), valuesOf(t, f, at, "orders")
	found, next := make(map[string]bool), int64(0)
	for _, r := range got {
		if r.Source < next {
			t.Fatalf("%s: not in order: %v", n.Name, got)
		}
		next = r.Source + r.Records
		for i := range r.Records {
			a, b := here[r.Source+i], there[r.Target+i]
			if a == "" || a != b {
				t.Fatalf("%s: %d of %s is %q, and %d of %s is %q: %v", n.Name, r.Source+i, from, a, r.Target+i, at, b, got)
			}
			found[a] = true
		}
	}
	for _, v := range here {
		for _, o := range there {
			if v == o && !found[v] {
				t.Fatalf("%s: %q is at %s and %s, and is not in the runs: %v", n.Name, v, from, at, got)
			}
		}
	}
}

// reached waits until a node knows that a link has all.
func reached(t *testing.T, f *Fabric, n *Node, from, to string) {
	t.Helper()
	end := endOf(t, f, from, "orders")
	eventually(t, 20*time.Second, fmt.Sprintf("%s knows that %s→%s has all before %d", n.Name, from, to, end), func() bool {
		next, err := n.Set.Look().Reached(t.Context(), from, to, "orders", 0)
		return err == nil && next >= end
	})
}

// Both clusters are written to. Each node copies one way, and knows of both; what is paused stands still for both.
func TestRuns_OfBothWaysOnAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap", "us>ap"}, Topics: []string{"orders"}, Partitions: 1, Seed: 1, Verbose: testing.Verbose()})
		defer f.Close()
		several(t, f, "us", "orders", "before", 30)
		team := f.Share(func(p mirror.PumpID) string { return map[string]string{"eu": "n1", "us": "n2"}[p.From] }, "n1", "n2")
		defer team.Stop()
		several(t, f, "eu", "orders", "eu", 100)
		several(t, f, "us", "orders", "us", 80)
		transactions(t, f, "eu", "orders", 12)
		several(t, f, "eu", "orders", "behind", 20)
		both := []*Node{team.Node("n1"), team.Node("n2")}
		all := func() {
			t.Helper()
			for _, n := range both {
				for range 2 { // what is copied one way is read on the other
					reached(t, f, n, "eu", "us")
					reached(t, f, n, "us", "eu")
				}
				reached(t, f, n, "eu", "ap")
				reached(t, f, n, "us", "ap")
				for _, w := range []string{"eu>us", "us>eu", "eu>ap", "ap>us"} {
					from, at, _ := strings.Cut(w, ">")
					sameRuns(t, f, n, from, at)
				}
			}
		}
		all()
		p := &paused{all: make(map[string]func(int32) bool)}
		p.set(team, "orders", everyPartition)
		time.Sleep(3 * time.Second)
		was, err := both[0].Set.Look().Reached(t.Context(), "eu", "us", "orders", 0)
		if err != nil {
			t.Fatal(err)
		}
		several(t, f, "eu", "orders", "later", 40)
		time.Sleep(3 * time.Second)
		for _, n := range both {
			if now, err := n.Set.Look().Reached(t.Context(), "eu", "us", "orders", 0); err != nil || now != was || now >= endOf(t, f, "eu", "orders") {
				t.Errorf("%s: paused at %d, and it has reached %d, %v", n.Name, was, now, err)
			}
			sameRuns(t, f, n, "eu", "us")
		}
		p.lift(team, "orders")
		all()
		if _, err := both[0].Set.Look().Runs(t.Context(), "eu", "eu", "orders", 0); !errors.Is(err, mirror.ErrNoLink) {
			t.Errorf("a cluster at itself: %v", err)
		}
		if _, err := both[0].Set.Look().Reached(t.Context(), "ap", "us", "orders", 0); !errors.Is(err, mirror.ErrNoLink) {
			t.Errorf("no link: %v", err)
		}
		if _, err := both[0].Set.Look().Runs(t.Context(), "eu", "us", "orders", -1); !errors.Is(err, mirror.ErrUnknownPump) {
			t.Errorf("partition -1: %v", err)
		}
		if next, err := both[0].Set.Look().Reached(t.Context(), "eu", "us", "orders", 7); err != nil || next != 0 {
			t.Errorf("a partition that nobody copied: %d, %v", next, err)
		}
	})
}

// What another node copies is known as soon as that node writes its progress down, which it can be told to.
func TestRuns_OfAnotherNodeAtOnce(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Mirror: mirror.Config{CheckpointEvery: time.Hour}}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		team := f.Share(Only("n1"), "n1", "n2")
		defer team.Stop()
		several(t, f, "eu", "orders", "eu", 50)
		end := endOf(t, f, "eu", "orders")
		eventually(t, 10*time.Second, "the owner has all", func() bool {
			next, err := team.Node("n1").Set.Look().Reached(t.Context(), "eu", "us", "orders", 0)
			return err == nil && next == end
		})
		other := team.Node("n2")
		if next, err := other.Set.Look().Reached(t.Context(), "eu", "us", "orders", 0); err != nil || next >= end {
			t.Errorf("nothing is durable yet, and it has reached %d, %v", next, err)
		}
		sameRunsUpTo(t, other, 0)
		team.Node("n1").Set.Flush()
		eventually(t, 200*time.Millisecond, "the other knows", func() bool {
			next, err := other.Set.Look().Reached(t.Context(), "eu", "us", "orders", 0)
			return err == nil && next == end
		})
		sameRuns(t, f, other, "eu", "us")
		sameRunsUpTo(t, other, end)
	})
}

// A node that never reached the source knows by what is durable at the target, as it has to when the source is lost.
func TestRuns_OfASourceThatIsAway(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		first := f.Start("n1")
		several(t, f, "eu", "orders", "eu", 50)
		if err := CaughtUp(time.Minute, first); err != nil {
			t.Fatal(err)
		}
		first.Stop()
		n := f.Run("n2", func(d *mirror.SetDeps) {
			open := d.Open
			d.Open = func(c topology.Cluster) (*broker.Cluster, error) {
				if c.Name == "eu" {
					c.Bootstrap = []string{"127.0.0.1:1"}
				}
				return open(c)
			}
		})
		defer n.Stop()
		if next, err := n.Set.Look().Reached(t.Context(), "eu", "us", "orders", 0); err != nil || next != 50 {
			t.Errorf("it has reached %d, %v", next, err)
		}
		sameRuns(t, f, n, "eu", "us")
		sameRunsUpTo(t, n, 50)
		if runs, err := n.Set.Look().Runs(t.Context(), "eu", "us", "orders", 1); err != nil || len(runs) > 0 {
			t.Errorf("a partition that nobody copied: %v, %v", runs, err)
		}
	})
}

// sameRunsUpTo sees how many records the runs of a node have.
func sameRunsUpTo(t *testing.T, n *Node, want int64) {
	t.Helper()
	runs, err := n.Set.Look().Runs(t.Context(), "eu", "us", "orders", 0)
	have := int64(0)
	for _, r := range runs {
		have += r.Records
	}
	if err != nil || have != want {
		t.Errorf("%s knows of %d records, %v, want %d", n.Name, have, err, want)
	}
}

// A topic that a link calls otherwise has no runs.
func TestRuns_NeedOneName(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Settings: "naming = \"prefix\"\n"}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		n := f.Start("n1")
		defer n.Stop()
		if _, err := n.Set.Look().Runs(t.Context(), "eu", "us", "orders", 0); err == nil || !strings.Contains(err.Error(), "eu.orders") {
			t.Errorf("%v", err)
		}
	})
}

// What a link has copied is durable for all nodes soon after somebody asks for that, and one look asks once.
func TestRuns_Durable(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Mirror: mirror.Config{CheckpointEvery: time.Hour}}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		several(t, f, "eu", "orders", "eu", 100)
		n := f.Start("n1")
		defer n.Stop()
		reached(t, f, n, "eu", "us")
		several(t, f, "eu", "orders", "later", 50)
		reached(t, f, n, "eu", "us")
		end := endOf(t, f, "eu", "orders")
		before := n.Set.Look()
		if at, err := before.Durable(t.Context(), "eu", "us", "orders", 0); err != nil || at >= end {
			t.Errorf("before it is asked for all before %d of %d is durable, %v", at, end, err)
		}
		n.Set.Flush()
		eventually(t, time.Second, "it is durable", func() bool {
			at, err := n.Set.Look().Durable(t.Context(), "eu", "us", "orders", 0)
			return err == nil && at == end
		})
		if _, err := before.Durable(t.Context(), "us", "ap", "orders", 0); !errors.Is(err, mirror.ErrNoLink) {
			t.Errorf("no link: %v", err)
		}
	})
}
