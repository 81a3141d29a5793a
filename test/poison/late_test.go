package poison

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// TestPoison_LateWordOfAnotherOwner: an owner whose entry of the ledger comes late, when another one has copied the records after all, does not
// have them left out: the ledger is honest in the end, both owners count the same, and the copy goes on.
func TestPoison_LateWordOfAnotherOwner(t *testing.T) {
	for _, policy := range []string{"skip", "dead-letter"} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, fabric.Options{Settings: fmt.Sprintf("poison = %q", policy)}, nil, small)
				defer s.stop()
				bad := batchOf(0, 10)
				bad[4].Value = noise(30_000)
				s.produce(0, bad)
				late := s.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "__isthmus.ledger", Err: kerr.NotEnoughReplicas, Count: -1})
				s.start()
				time.Sleep(10 * time.Second)
				if late.Hits() == 0 {
					t.Fatal("nobody writes to the ledger")
				}
				s.alter("us", "max.message.bytes", "100000")
				other := s.run()
				s.until("another owner copies all", 30*time.Second, func() bool { return len(s.read("us", topic, 0)) == 10 })
				late.Remove()
				time.Sleep(time.Minute)
				s.produce(0, batchOf(1010, 10))
				s.until("going on", time.Minute, func() bool { return len(s.read("us", topic, 0)) == 20 })
				other.kill()
				s.kill()
				s.start()
				s.produce(0, batchOf(1020, 10))
				s.until("going on after a restart", time.Minute, func() bool { return len(s.read("us", topic, 0)) == 30 })
				if all := s.ledger(); slices.ContainsFunc(all, func(e mirror.LedgerEntry) bool {
					return e.Reason == mirror.ReasonSkipped || e.Reason == mirror.ReasonDeadLetter
				}) {
					t.Errorf("the ledger says that records were left out which are on the target: %+v", all)
				}
			})
		})
	}
}
