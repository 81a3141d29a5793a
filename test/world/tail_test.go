package world

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/topology"
)

// cluster is one as a program beside the nodes sees it.
func (w *World) cluster(name string) *broker.Cluster {
	w.t.Helper()
	spec, _ := w.Topology.Cluster(name)
	p, err := broker.NewProfile(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	p.Dial = w.Dial
	c, err := broker.Open(p, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// directly is a client of a cluster beside the doors.
func (w *World) directly(name string, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c := w.Client(name)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

// TestWorld_TailOfALostHome: what a lost home had is what its nodes hear of it when they reach it again, by what was decided meanwhile. Nobody switches here; the decision is written.
func TestWorld_TailOfALostHome(t *testing.T) {
	for _, policy := range []topology.TailPolicy{topology.DeliverTail, topology.ListTail} {
		synctest.Test(t, func(t *testing.T) {
			tail := fmt.Sprintf("tail = %q\n", policy)
			w := New(t, fabric.Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap", "us>ap"}, Topics: []string{"orders"}, Partitions: 4, Brokers: 2, Seed: 1,
				More: entry("shop", "eu-1", 10100) + tail + entry("shop", "eu-2", 10200) + tail}, 1, "eu-1@frankfurt", "eu-2@frankfurt", "us-1@virginia")
			defer w.Close()
			w.StartAll()
			w.Until("both doors serve", 30*time.Second, func() error { return errors.Join(w.served("shop", 0), w.served("shop", 1)) })
			eu, us, ap := w.directly("eu"), w.directly("us", kgo.ConsumeTopics("orders")), w.directly("ap", kgo.ConsumeTopics("orders"))
			for _, cl := range []*kgo.Client{eu, us, ap} {
				defer cl.Close()
			}
			if _, _, err := eu.ProducerID(t.Context()); err != nil { // it asks under a mutex
				t.Fatal(err)
			}
			write(t, eu, 0, 40)
			read(t, us, 40)
			read(t, ap, 40)
			for _, n := range w.Nodes {
				n.Paths["eu"].Cut()
			}
			from, to := w.cluster("eu"), w.cluster("us")
			left, err := from.LogEnds(t.Context(), "orders")
			if err != nil {
				t.Fatal(err)
			}
			write(t, eu, 40, 60)
			real, err := to.LogEnds(t.Context(), "orders")
			if err != nil {
				t.Fatal(err)
			}
			w.decide(t, generation.CutTopic{Topic: "orders", Virtual: []int64{100, 100, 100, 100}, Real: real["orders"], Left: left["orders"]}, from, to, w.cluster("ap"))
			time.Sleep(15 * time.Second)
			for _, n := range w.Nodes {
				n.Paths["eu"].Heal()
			}
			listed, delivered := int64(0), int64(0)
			w.Until("the tail is in the ledger", time.Minute, func() error {
				listed, delivered = 0, 0
				sums := make(map[mirror.PumpID]mirror.TailSum) // each node knows what it has read
				for _, n := range w.Nodes {
					all, err := n.Set().Ledger("")
					if err != nil {
						return err
					}
					for _, e := range all {
						if e.Tail != nil {
							sums[e.Pump] = *e.Tail
						} else if e.Reason != mirror.ReasonTailListed || policy != topology.ListTail {
							return fmt.Errorf("%+v", e)
						}
					}
				}
				for _, s := range sums {
					listed, delivered = listed+s.Listed, delivered+s.Delivered
				}
				if n := listed + delivered; n != 2*20 {
					return fmt.Errorf("%d records of the tail are in the ledgers of two links, want 20 in each: %v", n, sums)
				}
				return nil
			})
			write(t, eu, 60, 70)
			first := 40
			if policy == topology.ListTail {
				if first = 60; listed != 40 {
					t.Errorf("%d are listed", listed)
				}
			}
			comes(t, us, first, 70)
			comes(t, ap, first, 70)
		})
	}
}

// comes wants the records from to to-1 next, in any order, each once.
func comes(t *testing.T, cl *kgo.Client, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(map[string]int)
	for n := 0; n < to-from; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came: %v", n, to-from, got)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Value)]++; n++ })
	}
	for i := from; i < to; i++ {
		if got[strconv.Itoa(i)] != 1 {
			t.Errorf("record %d came %d times: %v", i, got[strconv.Itoa(i)], got)
		}
	}
}

// decide has us be home in generation 1, as after a failover.
func (w *World) decide(t *testing.T, cut generation.CutTopic, controls ...*broker.Cluster) {
	t.Helper()
	store := generation.NewStore(controls, generation.Config{Router: "shop", Node: "a test", Unique: rand.Text, Now: generation.Clock()})
	defer store.Close()
	p, err := store.Prepare(t.Context(), "")
	var ref generation.CutRef
	if err == nil {
		ref, err = store.WriteCut(t.Context(), "", []generation.CutTopic{cut})
	}
	if err == nil {
		err = store.Propose(t.Context(), p, generation.Value{Kind: generation.Unplanned, Generation: 1, Home: "us", From: "eu", Switch: "s1", Proposed: time.Now().UnixMilli(), Cut: ref})
	}
	if err != nil {
		t.Fatal(err)
	}
}
