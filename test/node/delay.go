package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Delays are how long the records of a topic took from their producer's clock to a consumer of another cluster.
type Delays struct {
	mu     sync.Mutex
	seen   []delayed
	direct []delayed // records of the consumer's own cluster, which nobody copies: what they lose is the machine's
}

type delayed struct {
	partition     int32
	produced, got time.Time
}

// Follow reads a topic of a site from its end on, until the test ends; the records that were first written at another cluster, the
// origin, count as copied, the site's own as direct.
func Follow(t testing.TB, s *Site, topic, origin string) *Delays {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.FetchMaxWait(50*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	d, done := &Delays{}, make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); <-done; cl.Close() })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			now := time.Now()
			d.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) {
				switch from, _, _ := strings.Cut(string(r.Value), "/"); from {
				case origin:
					d.seen = append(d.seen, delayed{r.Partition, r.Timestamp, now})
				case s.Name:
					d.direct = append(d.direct, delayed{r.Partition, r.Timestamp, now})
				}
			})
			d.mu.Unlock()
		}
	}()
	return d
}

// Still is the longest time for which a partition stood: over all records that were produced between two moments, how long the
// slowest of them was on its way.
type Still struct {
	Longest   time.Duration
	Partition int32
	Records   int
	Direct    time.Duration // the slowest record that nobody copied
}

func (s Still) String() string {
	return fmt.Sprintf("partition %d stood for %v (%d records; direct ones took up to %v)", s.Partition, s.Longest.Round(time.Millisecond),
		s.Records, s.Direct.Round(time.Millisecond))
}

// Between looks at the records that were produced in that time. Those that are still on their way are not seen.
func (d *Delays) Between(from, to time.Time) (s Still) {
	d.mu.Lock()
	defer d.mu.Unlock()
	within := func(r delayed) bool { return !r.produced.Before(from) && !r.produced.After(to) }
	for _, r := range d.seen {
		if !within(r) {
			continue
		}
		s.Records++
		if took := r.got.Sub(r.produced); took > s.Longest {
			s.Longest, s.Partition = took, r.partition
		}
	}
	for _, r := range d.direct {
		if within(r) {
			s.Direct = max(s.Direct, r.got.Sub(r.produced))
		}
	}
	return s
}

// Passed is an error until every partition, but for some, has handed over a record that was produced after a moment.
func (d *Delays) Passed(after time.Time, partitions int32, but ...int32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	there := make(map[int32]bool)
	for _, p := range but {
		there[p] = true
	}
	for _, r := range d.seen {
		if r.produced.After(after) {
			there[r.partition] = true
		}
	}
	if len(there) < int(partitions) {
		return fmt.Errorf("%d of %d partitions flow again", len(there)-len(but), int(partitions)-len(but))
	}
	return nil
}

// Last is when the newest record of a partition came.
func (d *Delays) Last(partition int32) (last time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.seen {
		if r.partition == partition {
			last = r.got
		}
	}
	return last
}
