package brokers

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// TestBrokers runs everything on one pair of clusters.
func TestBrokers(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	for name, fn := range map[string]func(*testing.T, *lab){
		"unclean election at the source": sourceLosesEnd, "unclean election at the target": targetLosesEnd,
		"retention by hand and by time": retention, "source made anew": sourceMadeAnew, "target made anew": targetMadeAnew,
	} {
		t.Run(name, func(t *testing.T) { fn(t, l) })
	}
}

func sourceLosesEnd(t *testing.T, l *lab) {
	s := l.stage(t, l.three, l.one, "source-end", "")
	now := time.Now()
	s.write(s.topic, now, words("a", 5)...)
	s.holds(s.topic, words("a", 5)...)
	s.unclean(l.three, func() {
		s.write(s.topic, now, words("b", 3)...)
		s.holds(s.topic, append(words("a", 5), words("b", 3)...)...)
	})
	s.becomes(mirror.StateHalted, mirror.CauseSourceLost, "offsets 5 to 7", "3 records")
	s.cuts, s.life = append(s.cuts, checker.Truncation{Cluster: s.from.Name, Topic: s.topic, From: 5}), 1
	s.goesOn("n-0")
	s.write(s.topic, now, words("c", 4)...)
	s.ledger()
	s.policy(func(p *topology.Policy) { p.TruncatedSource = topology.KeepTruncated })
	all := slices.Concat(words("a", 5), words("b", 3), words("c", 4))
	s.holds(s.topic, all...)
	s.ledger("truncated-source 5-7 3 keep")
	s.again()
	s.write(s.topic, now, "d")
	s.holds(s.topic, append(all, "d")...)
	s.goesOn("n-1")
	s.judged()
	ready(t, l.three)
}

func targetLosesEnd(t *testing.T, l *lab) {
	s := l.stage(t, l.one, l.three, "target-end", "")
	now := time.Now()
	s.write(s.topic, now, words("a", 5)...)
	s.holds(s.topic, words("a", 5)...)
	s.unclean(l.three, func() {
		s.write(s.topic, now, words("b", 3)...)
		s.holds(s.topic, append(words("a", 5), words("b", 3)...)...)
	})
	s.write(s.topic, now, words("c", 4)...)
	all := slices.Concat(words("a", 5), words("b", 3), words("c", 4))
	s.holds(s.topic, all...)
	s.ledger("repeated 5-7 3")
	s.goesOn("n-0")
	s.again()
	s.write(s.topic, now, "d")
	s.holds(s.topic, append(all, "d")...)
	s.judged()
	ready(t, l.three)
}

func retention(t *testing.T, l *lab) {
	s := l.stage(t, l.one, l.three, "retention", "")
	pause := func(on bool) {
		s.set.SetPauses(func(_, topic string, _ int32) (string, bool) { return "for a test", on && topic == s.topic })
		s.set.Reconsider()
	}
	old := time.Now().Add(-3 * time.Hour)
	s.write(s.topic, old, words("a", 5)...)
	s.holds(s.topic, words("a", 5)...)
	pause(true)
	s.becomes(mirror.StatePaused, mirror.CauseManual)
	s.write(s.topic, old, words("b", 5)...)
	cut := make(kadm.Offsets)
	cut.Add(kadm.Offset{Topic: s.topic, At: 8})
	if _, err := s.from.Admin.DeleteRecords(s.context(), cut); err != nil {
		t.Fatal(err)
	}
	pause(false)
	s.holds(s.topic, append(words("a", 5), "b-3", "b-4")...)
	s.ledger("behind-retention 5-7 3")
	pause(true)
	s.becomes(mirror.StatePaused, mirror.CauseManual)
	s.from.Alter(t, s.topic, "segment.ms", "1000")
	s.write(s.topic, old, words("c", 5)...)
	s.from.Alter(t, s.topic, "retention.ms", "3600000")
	node.Until(t, 40*time.Second, "retention has deleted what is old", func(ctx context.Context) error {
		starts, err := s.from.Admin.ListStartOffsets(ctx, s.topic)
		if err != nil {
			return err
		}
		if at, _ := starts.Lookup(s.topic, 0); at.Offset < 15 {
			return fmt.Errorf("the log starts at %d", at.Offset)
		}
		return nil
	})
	s.write(s.topic, time.Now(), "d")
	pause(false)
	s.holds(s.topic, append(words("a", 5), "b-3", "b-4", "d")...)
	s.ledger("behind-retention 5-7 3", "behind-retention 10-14 5")
	s.goesOn("n-0")
	s.judged()
}

func sourceMadeAnew(t *testing.T, l *lab) {
	s := l.stage(t, l.one, l.three, "source-anew", "")
	now := time.Now()
	s.write(s.topic, now, words("a", 5)...)
	s.holds(s.topic, words("a", 5)...)
	s.recreate(s.from, []int32{1})
	s.life = 1
	s.write(s.topic, now, words("b", 7)...)
	s.becomes(mirror.StateHalted, mirror.CauseRecreated, "on one")
	s.goesOn("n-0")
	s.policy(func(p *topology.Policy) { p.Recreated = topology.NewIncarnation })
	all := append(words("a", 5), words("b", 7)...)
	s.holds(s.topic, all...)
	s.ledger("recreated 5-5 0 new-incarnation")
	s.again()
	s.write(s.topic, now, "c")
	s.holds(s.topic, append(all, "c")...)
	s.judged()
}

func targetMadeAnew(t *testing.T, l *lab) {
	s := l.stage(t, l.one, l.three, "target-anew", "recreated = \"new-incarnation\"")
	now := time.Now()
	s.write(s.topic, now, words("a", 5)...)
	s.holds(s.topic, words("a", 5)...)
	s.recreate(s.to, []int32{1, 2})
	s.holds(s.topic, words("a", 5)...)
	s.ledger("recreated 0-4 0 new-incarnation", "repeated 0-4 5 new-incarnation")
	s.again()
	s.write(s.topic, now, "b")
	s.holds(s.topic, append(words("a", 5), "b")...)
	s.goesOn("n-0")
	s.judged()
}

// recreate makes another topic of the same name in the place of the one that a cluster has.
func (s *stage) recreate(at *node.Site, replicas []int32) {
	s.t.Helper()
	if _, err := at.Admin.DeleteTopics(s.context(), s.topic); err != nil {
		s.t.Fatal(err)
	}
	node.Until(s.t, 30*time.Second, "the topic is gone", func(ctx context.Context) error {
		all, err := at.Admin.ListTopics(ctx)
		if err == nil && all.Has(s.topic) {
			err = fmt.Errorf("it is still there")
		}
		return err
	})
	s.create(at, s.topic, replicas)
}

// ready waits until a cluster is whole again.
func ready(t *testing.T, at *node.Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := at.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}
