package judge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/checker"
)

// Case is a finished run that is to be judged.
type Case struct {
	Clusters []Client
	Topics   []string
	Log      *Log
	// Carries says whether a topic of an origin is brought to a target; nil = yes.
	Carries func(target, origin, topic string) bool
	// Ledger holds what mirrors say they lost, by target.
	Ledger map[string][]checker.Range
	// Targets names the clusters that are judged; nil = all.
	Targets []string
	// Compacted says that sources are compacted: see [checker.Config].
	Compacted bool
	// Ways are between which clusters positions are translated.
	Ways []Way
	// Positions are those of groups at a target, by its name.
	Positions map[string][]checker.Position
	// Class says which topics of different names are one: a name for all of them, by a record of any. nil = the topic's own. Of a position's topic it is
	// asked with no more than the topic.
	Class func(cluster string, r checker.Record) string
}

// of gives a record of a cluster the name under which its topic is judged.
func (c Case) of(cluster string, r checker.Record) checker.Record {
	if c.Class != nil {
		r.Topic = c.Class(cluster, r)
	}
	return r
}

// Verdict is the outcome of a case, by target cluster.
type Verdict struct {
	Reports map[string]checker.Report
	// Records counts what an ordinary consumer reads from each cluster.
	Records map[string]int
}

// OK reports whether every target is right.
func (v Verdict) OK() bool {
	for _, r := range v.Reports {
		if !r.OK() {
			return false
		}
	}
	return len(v.Reports) > 0
}

// String lists what is wrong, or the numbers.
func (v Verdict) String() string {
	out := ""
	for name, r := range v.Reports {
		out += fmt.Sprintf("%s (%d records read): %s\n", name, v.Records[name], r.String())
	}
	return out
}

// Check reads every cluster with an ordinary read_committed consumer and judges
// every target.
func (c Case) Check(ctx context.Context) (Verdict, error) {
	v := Verdict{Reports: make(map[string]checker.Report), Records: make(map[string]int)}
	src := checker.NewSources()
	for _, cl := range c.Clusters {
		err := Read(ctx, cl, c.Topics, func(r checker.Record) error {
			v.Records[cl.Name]++
			if r.Origin != cl.Name {
				return nil
			}
			return src.Add(cl.Name, c.of(cl.Name, r))
		})
		if err != nil {
			return v, err
		}
	}
	if c.Log != nil {
		if err := c.Log.tell(src, c.of); err != nil {
			return v, err
		}
	}
	for _, cl := range c.Clusters {
		if c.Targets != nil && !slices.Contains(c.Targets, cl.Name) {
			continue
		}
		t := src.Target(checker.Config{Cluster: cl.Name, Mode: checker.ExactlyOnce, Complete: true, Compacted: c.Compacted,
			Carries: func(origin, topic string) bool { return c.Carries == nil || c.Carries(cl.Name, origin, topic) }})
		for _, r := range c.Ledger[cl.Name] {
			if err := t.Ledger(r); err != nil {
				return v, err
			}
		}
		if err := c.ask(ctx, cl, t); err != nil {
			return v, err
		}
		if err := Read(ctx, cl, c.Topics, func(r checker.Record) error { return t.Add(c.of(cl.Name, r)) }); err != nil {
			return v, err
		}
		v.Reports[cl.Name] = t.Report()
	}
	return v, nil
}

// Read hands every committed record of the topics to fn, partition by partition.
// Topics that the cluster does not have are empty.
func Read(ctx context.Context, c Client, topics []string, fn func(checker.Record) error) error {
	cl, err := kgo.NewClient(c.options()...)
	if err != nil {
		return fmt.Errorf("make a reader for %s: %w", c.Name, err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("list the ends of %s: %w", c.Name, err)
	}
	starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("list the starts of %s: %w", c.Name, err)
	}
	var failed error
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if failed == nil && end.Err == nil && end.Offset > start.Offset {
			failed = ReadPartition(ctx, c, end.Topic, end.Partition, start.Offset, end.Offset, fn)
		}
	})
	return failed
}

// ReadPartition hands the committed records of a partition at the offsets from up to to, without that, to fn.
func ReadPartition(ctx context.Context, c Client, topic string, partition int32, from, to int64, fn func(checker.Record) error) error {
	cl, err := kgo.NewClient(c.options(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(250*time.Millisecond),
		kgo.FetchMaxPartitionBytes(8<<20))...)
	if err != nil {
		return fmt.Errorf("make a reader for %s: %w", c.Name, err)
	}
	defer cl.Close()
	quiet := 0
	for at := from; at < to; {
		poll, cancel := context.WithTimeout(ctx, 2*time.Second)
		fetches := cl.PollFetches(poll)
		cancel()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s:%d of %s at %d: %w", topic, partition, c.Name, at, err)
		}
		before := at
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			at = max(at, r.Offset+1)
			if bad == nil && !r.Attrs.IsControl() && r.Offset < to {
				bad = fn(toChecker(c, r))
			}
		})
		if bad != nil {
			return bad
		}
		if at > before {
			quiet = 0
		} else if quiet++; quiet > 5 {
			return nil // aborted records at the end: nothing more will come
		}
	}
	return nil
}
