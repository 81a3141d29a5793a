package lock

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
)

// proposes picks the requests by which an owner writes to a state topic about this stage's topic.
func (s *stage) proposes(c call) bool {
	return c.key == int16(kmsg.Produce) && !c.answer && len(c.batches(s.id)) == 0 && bytes.Contains(c.frame, []byte(s.topic))
}

// losesProgress has the owner, when it runs, write no progress that becomes durable: only its beginning is.
func (o *owner) losesProgress() {
	o.s.t.Helper()
	o.is(20*time.Second, "runs", func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning })
	o.to.rule(func(c call) fate {
		if o.s.proposes(c) {
			return drop
		}
		return pass
	})
}

// TestElection_BesideRecordsOfOthers: others write to the target, too. A mirror whose durable progress is still the beginning that another one
// proposed finds that one's records by the broker's memory of the id: they were written behind the beginning, and nothing is lost of what is before it.
func TestElection_BesideRecordsOfOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		deleted int64 // what the target deletes meanwhile
		want    string
	}{
		"all are there":                {0, "x y a b z c"},
		"the target deleted the first": {3, "b z c"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, stageOptions{target: map[string]string{}})
			s.us.write(t, s.topic, recs("x", "y")...)
			o := s.owner()
			o.losesProgress()
			s.eu.write(t, s.topic, rec("a"))
			s.eu.write(t, s.topic, rec("b"))
			s.arrives("b")
			o.kill()
			s.us.deleteRecords(t, s.topic, 0, tc.deleted)
			s.us.write(t, s.topic, rec("z"))
			s.eu.write(t, s.topic, rec("c"))

			heir := s.owner()
			heir.caughtUp()
			there := slices.DeleteFunc(records(s.us.readLog(t, s.topic, 0)), func(r batch.Record) bool { return r.Offset < tc.deleted }) // a batch may have both
			if got := words(there); got != tc.want {
				t.Errorf("the target holds %q, want %q: each record once", got, tc.want)
			}
		})
	}
}

// TestElection_LostWithItsTopic: the durable state of a mirror is gone, and its records are on the target before the place where a new mirror would begin: it says
// so and copies nothing twice.
func TestElection_LostWithItsTopic(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	s.us.write(t, s.topic, recs("x", "y")...)
	s.eu.write(t, s.topic, recs("a", "b")...)
	o := s.owner()
	o.caughtUp()
	o.stop()
	s.us.loses(t, s.topic)
	s.us.write(t, s.topic, numbered("z", 20_500, 0)...) // further back than anybody looks: the broker's memory tells

	heir := s.owner()
	heir.state(20*time.Second, mirror.StateHalted, "unanchored")
	if got := words(s.ours(s.us.readLog(t, s.topic, 0))); got != "a b" {
		t.Errorf("the mirrors copied %q, want each record once", got)
	}
}

// TestElection_FirstCheckpoint: two nodes begin a topic at its end, which moves between them. The one whose beginning is stored first wins,
// also for the one that looked first.
func TestElection_FirstCheckpoint(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}, settings: `start = "latest"`})
	s.eu.write(t, s.topic, rec("before"))
	early, late := s.prepare(), s.prepare()
	proposals := early.to.trap(s.proposes)
	early.start()
	held := got(t, 20*time.Second, "the early node proposes to begin at offset 1", proposals)
	s.eu.write(t, s.topic, recs("between-1", "between-2")...)
	late.start()
	late.is(20*time.Second, "begins at offset 3", func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning && p.SourceNext == 3 })
	early.to.rule(nil)
	held.fate <- pass
	early.is(20*time.Second, "begins where the other does", func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning })
	if p, _ := early.status(0); p.SourceNext != 3 {
		t.Errorf("the early node begins at source offset %d, want 3, which was stored first", p.SourceNext)
	}
	late.kill()
	after := recs("after-1", "after-2", "after-3")
	s.eu.write(t, s.topic, after...)
	early.caughtUp()
	early.stop()
	third := s.owner()
	third.is(20*time.Second, "runs", func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning })
	s.eu.write(t, s.topic, rec("last"))
	third.caughtUp()
	want := records(s.eu.readLog(t, s.topic, 0))[3:]
	if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), want); diff != "" {
		t.Errorf("the target does not begin where the election said: %s", diff)
	}
}
