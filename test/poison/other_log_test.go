package poison

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// skipsOne has record 4 of ten left out.
func (s *site) skipsOne() {
	s.t.Helper()
	bad := batchOf(0, 10)
	bad[4].Value = noise(30_000)
	s.produce(0, bad)
	s.produce(1, batchOf(1000, 10))
	s.start()
	s.until("going on", time.Minute, s.copied(0, 10))
	s.check([]int64{4})
}

// deletes takes the topic from eu.
func (s *site) deletes() {
	s.t.Helper()
	s.admin("eu", func(ctx context.Context, a *kadm.Client) error {
		_, err := a.DeleteTopics(ctx, topic)
		return err
	})
}

var small = map[string]string{"max.message.bytes": "20000"}

// TestPoison_LeftOutOfOneLogOnly: what is left out of a log says nothing of the records that another one has at these offsets.
func TestPoison_LeftOutOfOneLogOnly(t *testing.T) {
	t.Run("recreated", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, fabric.Options{Settings: "poison = \"skip\"\nrecreated = \"new-incarnation\""}, nil, small)
			defer s.stop()
			s.skipsOne()
			s.deletes()
			s.create("eu", nil)
			s.produce(0, batchOf(2000, 10))
			s.until("the new log copied", time.Minute, func() bool {
				return len(s.read("us", topic, 0)) >= 19 || s.pump(0).State == mirror.StateRunning && s.pump(0).SourceNext == 10 && len(s.ledger()) > 1
			})
			s.kill()
			s.start()
			s.produce(0, batchOf(2010, 10))
			s.until("going on after a restart", time.Minute, s.copied(0, 20))
			if got := s.read("us", topic, 0); len(got) != 9+20 || string(got[9+4].Value) != "value-2004" {
				t.Errorf("%d records on the target, want 9 of the old log and 20 of the new one", len(got))
			}
		})
	})
	t.Run("deleted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, fabric.Options{Settings: "poison = \"skip\"\ndeleted = \"follow\"\ndeleted_after = \"5m\""}, nil, small)
			defer s.stop()
			s.skipsOne()
			s.deletes()
			s.until("deleted on the target", 10*time.Minute, func() bool { return s.Clusters["us"].TopicInfo(topic) == nil })
			s.create("eu", nil)
			s.produce(0, batchOf(2000, 10))
			s.until("the new log copied", time.Minute, s.copied(0, 10))
			s.check(nil)
			s.kill()
			s.start()
			s.produce(0, batchOf(2010, 10))
			s.until("going on after a restart", time.Minute, s.copied(0, 20))
			s.check(nil)
		})
	})
}
