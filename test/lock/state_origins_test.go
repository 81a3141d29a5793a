package lock

import (
	"context"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestOrigins_TargetLosesOneAndTakesTheOther: two origins in a partition are two sequences. The target loses the end of one (as in an unclean
// election), and a late batch of the other, whose sequence still fits, comes in. Nothing may be lost for good, and what is there
// twice or late has to be in the ledger.
func TestOrigins_TargetLosesOneAndTakesTheOther(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}, links: []string{"ap>eu", "eu>us"}})
	relayed := batch.Stamp{ProducerID: s.topo.MirrorID("ap", "ap")}
	o := s.owner()
	s.eu.write(t, s.topic, numbered("x", 2, 5000)...)
	if r := s.eu.produce(t, s.topic, 0, relayed, numbered("y", 2, 5000)...); r.Err != nil {
		t.Fatal(r.Err)
	}
	o.caughtUp()
	node.Until(t, 20*time.Second, "the first four are in a checkpoint", func(ctx context.Context) error { return s.checkpointed(ctx, 4) })
	o.to.rule(func(c call) fate { // from now on its progress is not durable
		if s.proposes(c) {
			return drop
		}
		return pass
	})
	lost, kept := numbered("lost", 2, 5000), numbered("kept", 2, 5000)
	s.eu.write(t, s.topic, lost...)
	o.caughtUp()
	o.kill()
	s.us.losesEnd(t, s.topic, 4)
	relayed.Sequence = 2
	if r := s.eu.produce(t, s.topic, 0, relayed, kept...); r.Err != nil {
		t.Fatal(r.Err)
	}
	late := batch.Stamp{ProducerID: s.topo.MirrorID("ap", "eu"), Sequence: 2}
	if r := s.us.produce(t, s.topic, 0, late, kept...); r.Err != nil {
		t.Fatalf("the broker does not take what follows in the other origin's sequence: %v", r.Err)
	}
	s.eu.write(t, s.topic, numbered("after", 2, 5000)...)

	heir := s.owner()
	heir.caughtUp()
	source := records(s.eu.readLog(t, s.topic, 0)) // x x y y lost lost kept kept after after
	want := append(append(source[:4:4], kept...), source[4:]...)
	if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), want); diff != "" {
		t.Errorf("after the repair: %s", diff)
	}
	broken := heir.ledger(mirror.ReasonOrderBreak)
	if len(broken) != 1 || broken[0].First != 4 || broken[0].Last != 7 {
		t.Errorf("the ledger has %+v, want one order-break from source offset 4 to 7", broken)
	}
	heir.stop()
	again := s.owner() // whoever comes later repairs nothing once more
	s.eu.write(t, s.topic, rec("last"))
	again.caughtUp()
	want = append(want, records(s.eu.readLog(t, s.topic, 0))[10])
	if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), want); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
}
