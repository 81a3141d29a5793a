package resume

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

const partitions = 2

// nowhere is a position that a partition is beyond as soon as something of it was copied.
var nowhere = map[int32]int64{0: 0, 1: 0}

// source is one topic and what becomes of it while the mirror is down.
type source struct {
	topic     string
	settings  []string
	target    []string // settings of the topic on the target, made before the mirror starts; nil = the mirror makes it
	plain     bool     // without transactions
	compacted bool
	loses     bool // some of its records are deleted before they can be copied
	// strike cleans the source. copied is a position that was certainly copied, at which or before which the last
	// checkpoint is; end is that of the log.
	strike func(t *testing.T, s *node.Site, topic string, copied, end map[int32]int64, rng *rand.Rand)
	log    *judge.Log
}

// slack are settings with which a topic rolls its segments often, so that there is something to clean, and keeps all until told otherwise.
var slack = []string{"segment.ms=200", "retention.ms=-1"}

// lazy are those of a compacted topic. Its cleaner waits until it is told.
var lazy = []string{"cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.001", "min.compaction.lag.ms=3600000"}

// both are lazy's of a topic whose records may be deleted too.
var both = append([]string{"cleanup.policy=compact,delete", "retention.ms=-1"}, lazy[1:]...)

func sources() []*source {
	return []*source{
		{topic: "compacted", settings: lazy, target: lazy, plain: true, compacted: true,
			strike: func(t *testing.T, s *node.Site, topic string, _, end map[int32]int64, _ *rand.Rand) {
				compact(t, s, topic, end)
			}},
		{topic: "deleted", settings: slack, plain: true, loses: true,
			strike: func(t *testing.T, s *node.Site, topic string, copied, end map[int32]int64, rng *rand.Rand) {
				deleteRecords(t, s, topic, somewhere(copied, end, rng))
			}},
		{topic: "transactions", settings: both, target: both, compacted: true, loses: true,
			strike: func(t *testing.T, s *node.Site, topic string, copied, end map[int32]int64, rng *rand.Rand) {
				compact(t, s, topic, end)
				deleteRecords(t, s, topic, somewhere(copied, end, rng))
			}},
		{topic: "retained", settings: slack, plain: true, loses: true,
			strike: func(t *testing.T, s *node.Site, topic string, copied, _ map[int32]int64, _ *rand.Rand) {
				retain(t, s, topic, copied)
			}},
	}
}

// somewhere is a new start for each partition: past the last checkpoint, but before what was copied last, or past that too. Of the first partition
// it always is past that, so that something is lost.
func somewhere(copied, end map[int32]int64, rng *rand.Rand) map[int32]int64 {
	out := make(map[int32]int64)
	for p := range int32(len(copied)) {
		at := copied[p]
		more := end[p] - at
		out[p] = at + rng.Int64N(more+1)
		switch {
		case p == 0:
			out[p] = end[p] - rng.Int64N(more/4+1)
		case rng.IntN(3) == 0:
			out[p] = at
		}
	}
	return out
}

// TestResume_AfterKillsAndCleaning: kill -9 of the mirror while it copies, cleaning of the source past the checkpoint, restart;
// over and over, on four topics at once.
func TestResume_AfterKillsAndCleaning(t *testing.T) {
	kafka.Require(t)
	seed := node.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 4))
	kills, rate := node.Pick(2, 20), 1000
	busy := map[string]string{"log.cleaner.backoff.ms": "100", "log.retention.check.interval.ms": "300", "log.initial.task.delay.ms": "300"}
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Properties: busy}, kafka.Options{Name: "us"})
	eu, us := sites["eu"], sites["us"]
	all := sources()
	var topics []string
	var loads []*node.Writing
	for i, s := range all {
		s.log = judge.NewLog()
		topics = append(topics, s.topic)
		eu.Create(t, s.topic, partitions, s.settings...)
		if s.target != nil {
			us.Create(t, s.topic, partitions, s.target...)
		}
		loads = append(loads, node.Write(t, eu.Client(), s.log, node.Mix{Topic: s.topic, Partitions: partitions, Rate: rate,
			Seed: uint64(100 * i), Keys: 40, Plain: s.plain}))
	}
	s := node.NewSetup(t, "resume", []*node.Site{eu, us}, []string{"eu>us"}, topics, []string{"n1"})
	n := s.Node("n1")
	n.Start()
	node.Until(t, time.Minute, "every partition is copied", func(ctx context.Context) error {
		return goesOn(ctx, n, map[string]map[int32]int64{"compacted": nowhere, "deleted": nowhere, "transactions": nowhere, "retained": nowhere})
	})
	for kill := range kills {
		flows(t, all, n, rate/2+rng.IntN(2*rate))
		copied := positions(t, n)
		n.Kill()
		flows(t, all, nil, 3*rate/5) // meanwhile the source goes on, and rolls its segments
		for _, s := range all {
			ends, err := eu.Ends(t.Context(), s.topic)
			if err != nil {
				t.Fatal(err)
			}
			if s.compacted {
				flows(t, []*source{s}, nil, 3*rate/5) // the cleaner leaves the last segment alone
			}
			s.strike(t, eu, s.topic, copied[s.topic], ends[s.topic], rng)
		}
		n.Start()
		t.Logf("kill %d at %v", kill, copied)
		node.Until(t, time.Minute, "all partitions go on", func(ctx context.Context) error { return goesOn(ctx, n, copied) })
	}
	for _, l := range loads {
		l.Stop(t)
	}
	s.CaughtUp(time.Minute, topics, n)
	ledger := s.Ranges(n)
	for _, src := range all {
		t.Run(src.topic, func(t *testing.T) {
			c := s.In(t).Case(src.log, []string{src.topic}, "us")
			c.Ledger, c.Compacted = ledger, src.compacted
			s.In(t).JudgedAs(c)
			named := slices.ContainsFunc(ledger["us"], func(r checker.Range) bool { return r.Topic == src.topic })
			if src.loses && !named {
				t.Error("the ledger names nothing; was the source never cleaned past what was copied?")
			} else if named && !src.loses {
				t.Errorf("compaction loses nothing, and the ledger is %v", ledger)
			}
		})
	}
}

// flows waits until so many records more of each topic are acknowledged at the source.
func flows(t *testing.T, all []*source, n *node.Node, more int) {
	t.Helper()
	for _, s := range all {
		goal := s.log.Acked("eu") + more
		node.Until(t, time.Minute, fmt.Sprintf("%s has %d records", s.topic, goal), func(context.Context) error {
			if acked := s.log.Acked("eu"); acked < goal {
				return fmt.Errorf("it has %d", acked)
			}
			if n != nil {
				return n.Alive()
			}
			return nil
		})
	}
}

// positions is how far every partition is copied for certain.
func positions(t *testing.T, n *node.Node) map[string]map[int32]int64 {
	t.Helper()
	st, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]map[int32]int64)
	for _, f := range st.GetLinks()[0].GetFlows() {
		out[f.GetTopic()] = make(map[int32]int64)
		for _, p := range f.GetPartitions() {
			out[f.GetTopic()][p.GetPartition()] = p.GetSourceNext()
		}
	}
	return out
}

// goesOn is an error while a partition is not beyond a position.
func goesOn(ctx context.Context, n *node.Node, beyond map[string]map[int32]int64) error {
	var goals []node.Position
	for topic, partitions := range beyond {
		for p, at := range partitions {
			goals = append(goals, node.Position{Link: "eu-us", Topic: topic, Partition: p, Offset: at + 1})
		}
	}
	return node.Reached(ctx, goals, n)
}
