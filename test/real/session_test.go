package real

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// session: a broker first adds what a request asks for and then removes what it forgets (KIP-227), so a partition that is in
// both lists is gone from the session, and nobody would ever hear of it.
func session(t *testing.T, eu *node.Site) {
	const topic = "session"
	eu.Create(t, topic, 2)
	c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: eu.Bootstrap(), ClientID: "test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node.Until(t, 30*time.Second, "both partitions have a leader that knows of it", func(ctx context.Context) error {
		_, err := eu.Ends(ctx, topic)
		return err
	})
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	part := func(p int32) broker.FetchPartition {
		return broker.FetchPartition{Topic: topic, TopicID: m.Topics[topic].ID, Partition: p, LeaderEpoch: -1, LastFetchedEpoch: -1, LogStart: -1, MaxBytes: 1 << 20}
	}
	for i, kept := range [][]int32{{0, 1}, {1}} { // with a neighbour in the session, and alone
		t.Run(fmt.Sprintf("%d partitions", len(kept)), func(t *testing.T) {
			s, err := c.FetchSession(ctx, m.Brokers[m.Topics[topic].Partitions[0].Leader])
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			seen := make(map[int32]bool)
			fetch := func() {
				frame, err := s.Fetch(ctx, broker.FetchOptions{MaxWait: 100 * time.Millisecond, MinBytes: 1, ReadCommitted: true})
				if err != nil {
					t.Fatal(err)
				}
				defer frame.Release()
				for _, p := range frame.Partitions {
					if p.Err != nil {
						t.Fatal(p.Err)
					}
					seen[p.Partition] = seen[p.Partition] || len(p.Batches) > 0
				}
			}
			for _, p := range kept {
				s.Set(part(p))
			}
			fetch()
			s.Forget(topic, part(1).TopicID, 1)
			s.Set(part(1))
			fetch()
			clear(seen)
			load := judge.Load{Topic: topic, Partitions: 2, Records: 100, Size: 80, Seed: uint64(i)}
			if err := judge.Write(ctx, eu.Client(), load, judge.NewLog()); err != nil {
				t.Fatal(err)
			}
			for try := 0; try < 20 && !seen[1]; try++ {
				fetch()
			}
			if !seen[1] {
				t.Errorf("partition 1 was forgotten and set again between two requests; its records never came (others: %v)", seen)
			}
		})
	}
}
