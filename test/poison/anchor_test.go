package poison

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// TestPoison_AnchorIsAWayOut: whatever a partition is halted before, an anchor behind it has it go on.
func TestPoison_AnchorIsAWayOut(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := k.begin(t, "halt")
				defer s.stop()
				s.until("halted", 15*time.Second, func() bool { p := s.pump(0); return p.State == mirror.StateHalted && p.Cause == k.cause })
				next := s.pump(0).SourceNext
				for _, dry := range []bool{true, false} {
					plan, err := s.node.Set.Anchor(t.Context(), mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: 30, Why: "not wanted", DryRun: dry})
					if err != nil {
						t.Fatalf("dry run %v: %v", dry, err)
					}
					if want := 30 - next; plan.Before != next || plan.After != 30 || plan.Lost != want && plan.Lost != -1 {
						t.Errorf("dry run %v: from %d to %d, %d lost; want from %d to 30, %d or unknown lost", dry, plan.Before, plan.After, plan.Lost, next, want)
					}
				}
				s.until("going on", time.Minute, s.copied(0, 40))
				var out []int64
				for at := next; at < 30; at++ {
					out = append(out, at)
				}
				s.check(out)
			})
		})
	}
}

// TestAnchor_OverAnOpenTransaction: how many records are left out is not known before the transaction has ended.
func TestAnchor_OverAnOpenTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, fabric.Options{}, nil, nil)
		defer s.stop()
		s.produce(0, batchOf(0, 10))
		s.start()
		s.until("copied", time.Minute, s.copied(0, 10))
		_, end := s.hang()
		s.produce(0, batchOf(10, 10))
		plan, err := s.node.Set.Anchor(t.Context(), mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: mirror.AnchorEnd, Why: "not wanted"})
		if err != nil || plan.Lost != -1 || plan.After != 21 {
			t.Errorf("%+v, %v; want an unknown number lost up to offset 21", plan, err)
		}
		end()
		s.produce(0, batchOf(20, 10))
		s.until("going on", time.Minute, func() bool { return len(s.read("us", topic, 0)) == 20 })
		if l := s.ledger(); len(l) != 1 || l[0].First != 10 || l[0].Last != 20 || l[0].Records != -1 {
			t.Errorf("the ledger has %+v, want offsets 10 to 20 and an unknown number", l)
		}
	})
}
