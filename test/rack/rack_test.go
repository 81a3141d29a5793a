package rack

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const partitions = 6

// TestRack_ReadsFromTheNearestReplica has a node in the rack of the second broker, and kills that one and others under load.
func TestRack_ReadsFromTheNearestReplica(t *testing.T) {
	kafka.Require(t)
	sites := node.StartSitesWith(t,
		kafka.Options{Name: "eu", Brokers: 3, HeapMB: 320, Properties: map[string]string{
			"broker.rack": "rack-{id}", "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}},
		kafka.Options{Name: "us", HeapMB: 320})
	eu, us := sites["eu"], sites["us"]
	topics := []string{"orders"}
	eu.Create(t, "orders", partitions)
	s := node.NewSetup(t, "rack", []*node.Site{eu, us}, []string{"eu>us"}, topics, []string{"n1@rack-2"})
	n := s.Node("n1")
	n.Start()
	log := judge.NewLog()
	w := node.Write(t, eu.Client(), log, node.Mix{Topic: "orders", Partitions: partitions, Rate: 2000})

	near := func(broker int32, want int) func(context.Context) error {
		return func(ctx context.Context) error {
			reads, err := readers(ctx, n)
			if err == nil && reads[broker] != want {
				err = fmt.Errorf("partitions by the broker that is read from: %v; want %d from broker %d", reads, want, broker)
			}
			return err
		}
	}
	node.Until(t, time.Minute, "every partition is read from the broker in the node's rack", near(2, partitions))
	for _, i := range node.Pick([]int{1, 0}, []int{1, 0, 2}) {
		eu.Kill(i)
		if i == 1 {
			node.Until(t, time.Minute, "other brokers are read from", near(2, 0))
		}
		var goals []node.Position
		node.Until(t, time.Minute, "the rest of the cluster leads every partition", func(ctx context.Context) (err error) {
			goals, err = s.Goals(ctx, topics)
			return err
		})
		node.Until(t, time.Minute, "what it holds now is copied", func(ctx context.Context) error { return node.Reached(ctx, goals, n) })
		eu.Start(i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := eu.WaitReady(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Stop(t)
	s.CaughtUp(time.Minute, topics, n)
	s.Judged(log, topics, "us")
}

// readers counts the partitions that are read from each broker.
func readers(ctx context.Context, n *node.Node) (map[int32]int, error) {
	st, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	reads := make(map[int32]int)
	for _, p := range node.Flow(st, "eu-us", "orders").GetPartitions() {
		reads[p.GetReadsFrom()]++
	}
	return reads, nil
}
