package resume

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/node"
)

// cleaning is how long a broker may take until it has cleaned a topic.
const cleaning = time.Minute

// deleteRecords moves the starts of partitions.
func deleteRecords(t *testing.T, s *node.Site, topic string, starts map[int32]int64) {
	t.Helper()
	var o kadm.Offsets
	for p, at := range starts {
		o.AddOffset(topic, p, at, -1)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.Admin.DeleteRecords(ctx, o)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatalf("delete records of %s on %s before %v: %v", topic, s.Name, starts, err)
	}
}

// spot is one record of a log as far as compaction looks at it.
type spot struct {
	offset int64
	key    string
}

// readAll reads the records of one partition from its start to its end as of now.
func readAll(ctx context.Context, s *node.Site, topic string, partition int32) ([]spot, error) {
	ends, err := s.Ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	starts, err := s.Admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	start, _ := starts.Lookup(topic, partition)
	end := ends[topic][partition]
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(start.Offset)}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []spot
	for at := start.Offset; at < end; {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if !r.Attrs.IsControl() {
				out = append(out, spot{r.Offset, string(r.Key)})
			}
		})
	}
	return out, nil
}

// compact has the broker compact a topic until no record before the given offsets has a later one of its key before them.
// The active segment is never cleaned, so something must have been written since.
func compact(t *testing.T, s *node.Site, topic string, before map[int32]int64) {
	t.Helper()
	s.Alter(t, topic, "min.compaction.lag.ms", "0")
	for p, limit := range before {
		node.Until(t, cleaning, fmt.Sprintf("%s:%d of %s is compacted up to offset %d", topic, p, s.Name, limit), func(ctx context.Context) error {
			log, err := readAll(ctx, s, topic, p)
			if err != nil {
				return err
			}
			last := make(map[string]int64)
			for _, r := range log {
				if r.offset >= limit {
					break
				}
				if old, twice := last[r.key]; twice {
					return fmt.Errorf("key %q is at offsets %d and %d", r.key, old, r.offset)
				}
				last[r.key] = r.offset
			}
			return nil
		})
	}
	s.Alter(t, topic, "min.compaction.lag.ms", "3600000")
}

// retain has the broker delete segments until every partition begins behind the given offsets.
func retain(t *testing.T, s *node.Site, topic string, behind map[int32]int64) {
	t.Helper()
	s.Alter(t, topic, "retention.ms", "1")
	node.Until(t, cleaning, fmt.Sprintf("segments of %s are deleted on %s", topic, s.Name), func(ctx context.Context) error {
		starts, err := s.Admin.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		for p, at := range behind {
			if start, _ := starts.Lookup(topic, p); start.Offset <= at {
				return fmt.Errorf("partition %d begins at %d, not behind %d", p, start.Offset, at)
			}
		}
		return nil
	})
	s.Alter(t, topic, "retention.ms", "-1")
}
