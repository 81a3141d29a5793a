package lock

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
)

// breakOrder has an owner copy three records of 2017, has the broker forget it, and writes six records of now to the source, of which
// the target then has the last before the others: what a pipeline over a forgotten id would leave behind.
func breakOrder(s *stage, first *owner) {
	s.t.Helper()
	s.us.forgets(s.t, s.topic, 0, s.id)
	late := numbered("late", 6, 5000)
	for _, r := range late {
		s.eu.write(s.t, s.topic, r)
	}
	if r := s.us.produce(s.t, s.topic, 0, s.stamp(0, 8), late[5]); r.Err != nil {
		s.t.Fatalf("the broker has forgotten the id and does not take sequence 8: %v", r.Err)
	}
}

// TestZombie_IsFencedByTheNextEpoch: an owner that is frozen with a batch on its way must not get it in after another one has begun a new
// incarnation: that is the next epoch of the same producer id.
func TestZombie_IsFencedByTheNextEpoch(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	for _, r := range old(numbered("old", 3, 5000)...) {
		s.eu.write(t, s.topic, r)
	}
	zombie := s.owner()
	zombie.caughtUp()
	sent := zombie.to.trap(s.sends)
	breakOrder(s, zombie)
	held := got(t, 20*time.Second, "the zombie's batch is on its way", sent)
	if h := held.batches(s.id)[0]; h.ProducerEpoch != 0 || h.BaseSequence != 3 {
		t.Fatalf("the zombie sends sequence %d of epoch %d, want 3 of 0", h.BaseSequence, h.ProducerEpoch)
	}

	heir := s.owner()
	heir.caughtUp()
	log := s.us.readLog(t, s.topic, 0)
	if e := log[len(log)-1].ProducerEpoch; e != 1 {
		t.Fatalf("the heir went on in epoch %d, want 1: %v", e, log)
	}
	if len(heir.ledger(mirror.ReasonOrderBreak)) == 0 {
		t.Error("the ledger has no order-break")
	}
	zombie.to.rule(nil)
	held.fate <- pass
	zombie.is(20*time.Second, "sees that another owner went on", func(p mirror.PumpStatus) bool { return p.Fenced > 0 })
	heir.kill()
	s.eu.write(t, s.topic, rec("after"))
	zombie.caughtUp()

	source := records(s.eu.readLog(t, s.topic, 0))
	want := append(append(source[:3:3], source[8]), source[3:]...) // the intruder's, then all of it in order
	if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), want); diff != "" {
		t.Errorf("the zombie got in: %s\ntarget: %v", diff, s.us.readLog(t, s.topic, 0))
	}
}
