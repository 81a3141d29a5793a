package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker"
)

// old limits kfake to what a release of Kafka spoke.
func old(v *kversion.Versions) kfake.Opt { return kfake.MaxVersions(v) }

func TestFetchSession_FollowsPartitions(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{
		"newest":           nil,
		"3.0 without ids":  {old(kversion.V3_0_0())},
		"2.2 not flexible": {old(kversion.V2_2_0())},
		"1.0 no sessions":  {old(kversion.V1_0_0())},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t, append(opts, kfake.SeedTopics(4, "a", "b"))...)
				c := v.open(t)
				followPartitions(t, c)
			})
		})
	}
}

func followPartitions(t *testing.T, c *broker.Cluster) {
	b, _ := leader(t, c, "a", 0)
	s, err := c.FetchSession(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := map[string]int{}
	for _, topic := range []string{"a", "b"} {
		for p := range int32(4) {
			pb, mt := leader(t, c, topic, p)
			if pb.ID != b.ID {
				continue
			}
			fill(t, c, topic, p, 3)
			want[topic] += 3
			s.Set(broker.FetchPartition{Topic: topic, TopicID: mt.ID, Partition: p, LeaderEpoch: -1, LastFetchedEpoch: -1, LogStart: -1, MaxBytes: 1 << 20})
		}
	}
	ctx := within(t, time.Minute)
	got := map[string]int{}
	for range 20 {
		f, err := s.Fetch(ctx, broker.FetchOptions{MaxWait: 100 * time.Millisecond, MinBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Partitions {
			if p.Err != nil {
				t.Fatal(p.Err)
			}
			if len(p.Batches) == 0 {
				continue
			}
			n, next := count(t, p.Batches)
			got[p.Topic] += n
			if p.HighWatermark != 3 {
				t.Errorf("high watermark %d", p.HighWatermark)
			}
			s.Set(broker.FetchPartition{Topic: p.Topic, TopicID: p.TopicID, Partition: p.Partition, Offset: next, LeaderEpoch: -1, LastFetchedEpoch: -1, LogStart: -1, MaxBytes: 1 << 20})
		}
		f.Release()
	}
	if len(want) == 0 || got["a"] != want["a"] || got["b"] != want["b"] {
		t.Errorf("fetched %v, want %v", got, want)
	}
}

func TestFetchSession_PartitionErrorsAreKerr(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"))
		c := v.open(t)
		b, mt := leader(t, c, "a", 0)
		s, err := c.FetchSession(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Set(broker.FetchPartition{Topic: "a", TopicID: mt.ID, Offset: 99, LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 20})
		f, err := s.Fetch(t.Context(), broker.FetchOptions{MaxWait: time.Second, MinBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Release()
		if len(f.Partitions) != 1 || !errors.Is(f.Partitions[0].Err, kerr.OffsetOutOfRange) {
			t.Fatalf("%+v", f.Partitions)
		}
		if broker.Classify(f.Partitions[0].Err) != broker.Refind {
			t.Error(f.Partitions[0].Err)
		}
		if got := f.Partitions[0].Err.Error(); got != "a:0 of cluster fake: "+kerr.OffsetOutOfRange.Error() {
			t.Error(got)
		}
	})
}
