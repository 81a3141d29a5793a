package lock

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// sends picks the requests that carry batches of the stage's link.
func (s *stage) sends(c call) bool {
	return c.key == int16(kmsg.Produce) && !c.answer && len(c.batches(s.id)) > 0
}

// withoutFillers leaves out what rolls segments.
func withoutFillers(rs []batch.Record) (out []batch.Record) {
	for _, r := range rs {
		if string(r.Key) != "filler" {
			out = append(out, r)
		}
	}
	return out
}

// TestContent_EqualSequencesAfterACompaction: owner 1 sends a, b, c; owner 2 reads the source after a compaction took a, and
// sends b, c, d under the same sequences. The broker acknowledges both. d must not be lost.
func TestContent_EqualSequencesAfterACompaction(t *testing.T) {
	// The target keeps what it gets: its own cleaner would take a as well.
	s := newStage(t, stageOptions{source: cleaned(), target: map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"}})
	s.eu.write(t, s.topic, recs("a", "b", "c")...)
	first := s.prepare()
	sent := first.to.trap(s.sends)
	first.start()
	abc := got(t, 20*time.Second, "owner 1 sends", sent)
	if h := abc.batches(s.id)[0]; h.Records != 3 || h.BaseSequence != 0 {
		t.Fatalf("owner 1 sends %d records from sequence %d, want 3 from 0", h.Records, h.BaseSequence)
	}

	again := numbered("a-again", 1, 6000)
	again[0].Key = rec("a").Key
	s.eu.write(t, s.topic, recs("d")...)
	s.eu.write(t, s.topic, again...)
	s.eu.cleans(t, s.topic, "takes a", func(log []logged) bool { return !holds(log, "a") })
	second := s.prepare()
	sent = second.to.trap(s.sends)
	second.start()
	bcd := got(t, 20*time.Second, "owner 2 sends", sent)
	if h := bcd.batches(s.id)[0]; h.Records != 3 || h.BaseSequence != 0 {
		t.Fatalf("owner 2 sends %d records from sequence %d, want 3 from 0: else this tests nothing", h.Records, h.BaseSequence)
	}

	abc.fate <- pass
	s.arrives("c")
	first.kill()
	second.to.rule(nil)
	bcd.fate <- pass
	second.caughtUp()
	want := append(recs("a"), withoutFillers(records(s.eu.readLog(t, s.topic, 0)))...)
	have := withoutFillers(s.ours(s.us.readLog(t, s.topic, 0)))
	if len(have) > 0 {
		want[0].Timestamp = have[0].Timestamp // the source no longer has it
	}
	if diff := unlike(have, want); diff != "" {
		t.Errorf("the target is not a, then what is left of the source: %s\ntarget: %v", diff, s.us.readLog(t, s.topic, 0))
	}
}
