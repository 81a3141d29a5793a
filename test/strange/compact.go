package strange

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/node"
)

// cleaned are settings with which every chunk of compacting is a segment of its own, and is cleaned at once.
var cleaned = []string{"cleanup.policy=compact", "segment.ms=1000", "min.cleanable.dirty.ratio=0.001"}

// chunk is how far the times of two segments are apart: more than segment.ms, which is measured in the records' own time.
const chunk = 10 * time.Second

// compacting writes keys again and again, keys that stay, tombstones, and transactions, each chunk into a segment of its own. Producers
// end with a batch that loses all its records but stays, because it holds the producer's last sequence. In the first round the cleaner
// has done its work before the mirror starts; later it works while the mirror does.
func compacting(g *ground, round int) {
	start := time.Now().Add(-2*time.Hour + time.Duration(round)*time.Minute)
	for c := range 5 {
		at := start.Add(time.Duration(c) * chunk)
		opts := []kgo.Opt{kgo.ProducerBatchCompression(compression[codecs[c]])}
		rec := func(key string, value []byte) *kgo.Record {
			at = at.Add(time.Millisecond)
			return &kgo.Record{Key: []byte(key), Value: value, Timestamp: at, Headers: []kgo.RecordHeader{{Key: "uid", Value: []byte(g.uid())}}}
		}
		var lost, mixed []*kgo.Record
		for i := range 5 {
			lost = append(lost, rec(fmt.Sprintf("key-%d", i), []byte("soon another")))
		}
		for i := range 30 {
			key := fmt.Sprintf("key-%d", i%7)
			if i%3 == 0 {
				key = fmt.Sprintf("stays-%d-%d-%d", round, c, i)
			}
			mixed = append(mixed, rec(key, []byte("value")))
		}
		g.put(opts, lost...)
		g.put(opts, mixed...)
		g.put(opts, rec(fmt.Sprintf("stays-%d-%d-0", round, c), nil), rec("key-0", nil), rec(fmt.Sprintf("never-%d", c), nil))
		for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
			g.transaction(fmt.Sprintf("%s-%d", g.topic, i), end, rec("key-1", []byte("in a transaction")), rec(fmt.Sprintf("txn-%d-%d", c, i), []byte("in a transaction")))
		}
	}
	if round == roundBefore {
		node.Until(g, time.Minute, "the cleaner has been there", func(context.Context) error {
			if s := g.shapeOf(g.eu); s.holes == 0 || s.empty == 0 {
				return fmt.Errorf("the log at eu has %+v", s)
			}
			return nil
		})
	}
}

// transaction writes one transaction and ends it.
func (g *ground) transaction(id string, end kgo.TransactionEndTry, records ...*kgo.Record) {
	g.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.eu.Bootstrap()...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		g.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		g.Fatal(err)
	}
	for _, r := range records {
		r.Topic = g.topic
	}
	if err := cl.ProduceSync(g.Context(), records...).FirstErr(); err != nil {
		g.Fatal(err)
	}
	if err := cl.EndTransaction(g.Context(), end); err != nil {
		g.Fatal(err)
	}
	outcome := checker.Acked
	if end == kgo.TryAbort {
		outcome = checker.Aborted
	}
	for _, r := range records {
		g.log.Add(client(g.eu), r, outcome)
	}
}

// noHorizons: the cleaner's marks of the source are not copied. With them the target's cleaner would delete a tombstone at its first
// pass, before readers saw it.
func noHorizons(g *ground, _ *life) {
	from, to := g.shapeOf(g.eu), g.shapeOf(g.us)
	if from.holes == 0 || from.empty == 0 || from.horizons == 0 {
		g.Errorf("the log at eu has %+v: it was not compacted as the test wants it", from)
	}
	if to.horizons+to.transactional+to.control+to.appendTime+to.empty+to.holes > 0 {
		g.Errorf("the log at us has %+v, want nothing but records", to)
	}
	g.Logf("eu %+v; us %+v", from, to)
}

// sameTable: where both sides are compacted a reader of the whole log ends with the same table.
func sameTable(g *ground, _ *life) {
	table := func(s *node.Site) map[string]string {
		m, seen := make(map[string]string), make(map[string]bool)
		err := each(g.Context(), s, g.topic, func(r *kgo.Record) {
			uid, _ := identify(r)
			if m[string(r.Key)] = uid; seen[uid] {
				g.Errorf("%s is at %s again, at offset %d", uid, s.Name, r.Offset)
			}
			seen[uid] = true
			if r.Value == nil {
				delete(m, string(r.Key))
			}
		})
		if err != nil {
			g.Fatal(err)
		}
		return m
	}
	want, got := table(g.eu), table(g.us)
	if !maps.Equal(want, got) {
		g.Errorf("the table at us is %v, want %v", got, want)
	}
	from, to := g.shapeOf(g.eu), g.shapeOf(g.us)
	if to.holes+to.empty == 0 || from.holes == 0 || len(want) == 0 {
		g.Errorf("eu has %+v, us has %+v: not both were compacted", from, to)
	}
	g.Logf("%d keys; eu %+v; us %+v", len(want), from, to)
}
