package lock

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestTombstones_OutliveTheTargetsCleaner: the source's cleaner marks a batch of tombstones with a delete horizon (attribute bit 6) and keeps it whole,
// so that it is copied as it is. With the mark on it the target's cleaner would take the source's horizon, which is over, for its
// own, and delete the tombstones at its first pass, before anybody reads them.
func TestTombstones_OutliveTheTargetsCleaner(t *testing.T) {
	source, target := cleaned(), cleaned()
	source["delete.retention.ms"], target["delete.retention.ms"] = "1", "3600000"
	s := newStage(t, stageOptions{source: source, target: target})
	large := []batch.RecordHeader{{Key: "why", Value: make([]byte, 5000)}} // so that it is not merged, which makes a new batch
	dead := batch.Record{Timestamp: time.Now().Add(-2 * time.Hour).UnixMilli(), Key: []byte("dead"), Headers: large}
	died := batch.Record{Timestamp: dead.Timestamp, Key: []byte("died")}
	s.eu.write(t, s.topic, dead, died)
	s.eu.cleans(t, s.topic, "marks the tombstones", func(log []logged) bool {
		return len(log) > 0 && log[0].DeleteHorizon() && log[0].Dense() && len(log[0].records) == 2
	})
	s.us.write(t, s.topic, rec("worn"))
	o := s.owner()
	o.caughtUp()
	s.arrives("dead=null")
	fresh := rec("fresh")
	fresh.Key = rec("worn").Key
	s.us.write(t, s.topic, fresh)
	s.us.cleans(t, s.topic, "has passed", func(log []logged) bool { return !holds(log, "worn") })
	if log := s.us.readLog(t, s.topic, 0); !holds(log, "dead=null") || !holds(log, "died=null") {
		t.Errorf("the target's cleaner took the tombstones at its first pass: %v", log)
	}
}

// TestUnanchored_CompactedTargetAndForgottenID: what was copied after the checkpoint was overwritten by clients of the target and cleaned away, and
// the broker has forgotten the id, so that nothing there tells of it. Copying it again would put the old values behind the newer ones.
func TestUnanchored_CompactedTargetAndForgottenID(t *testing.T) {
	s := newStage(t, stageOptions{source: map[string]string{"cleanup.policy": "compact"}, target: cleaned()})
	o := s.owner()
	o.losesProgress()
	stale := old(recs("a", "b")...)
	s.eu.write(t, s.topic, stale...)
	s.arrives("b")
	o.kill()
	for _, r := range stale {
		r.Value, r.Timestamp = append([]byte("newer-"), r.Value...), time.Now().UnixMilli()
		s.us.write(t, s.topic, r)
	}
	s.us.forgets(t, s.topic, 0, s.id)
	s.us.cleans(t, s.topic, "takes what was copied", func(log []logged) bool { return len(s.ours(log)) == 0 })

	heir := s.owner()
	heir.state(20*time.Second, mirror.StateHalted, "unanchored")
	if again := s.ours(s.us.readLog(t, s.topic, 0)); len(again) > 0 {
		t.Errorf("old values came behind newer ones: %s", words(again))
	}
}

// TestUnanchored_NotWhereTheIDIsKnown: the same, but the broker knows the id, and so its cleaner keeps the last batch: what was copied is
// found, and nothing halts.
func TestUnanchored_NotWhereTheIDIsKnown(t *testing.T) {
	s := newStage(t, stageOptions{source: map[string]string{"cleanup.policy": "compact"}, target: cleaned()})
	o := s.owner()
	o.losesProgress()
	stale := recs("a", "b", "c")
	for _, r := range stale {
		s.eu.write(t, s.topic, r)
	}
	s.arrives("c")
	o.kill()
	for _, r := range stale {
		r.Value = append([]byte("newer-"), r.Value...)
		s.us.write(t, s.topic, r)
	}
	s.us.cleans(t, s.topic, "takes what was copied", func(log []logged) bool { return len(s.ours(log)) == 0 })
	s.eu.write(t, s.topic, old(rec("d"))...)

	heir := s.owner()
	heir.caughtUp()
	s.arrives("d")
	if again := s.ours(s.us.readLog(t, s.topic, 0)); words(again) != "d" {
		t.Errorf("the heir copied %q, want d alone: old values came behind newer ones", words(again))
	}
}

// TestUnanchored_NotWhereNothingOldIsLeft: the same as the first, but what was copied is in the checkpoint, and what comes next is young: had it been copied
// too, the broker would remember it. So a link that was idle for long goes on after a restart.
func TestUnanchored_NotWhereNothingOldIsLeft(t *testing.T) {
	s := newStage(t, stageOptions{source: map[string]string{"cleanup.policy": "compact"}, target: cleaned()})
	stale := old(recs("a", "b")...)
	s.eu.write(t, s.topic, stale...)
	o := s.owner()
	o.caughtUp()
	node.Until(t, 20*time.Second, "the checkpoint covers everything", func(ctx context.Context) error { return s.checkpointed(ctx, 2) })
	o.kill()
	for _, age := range []string{"newer-", "newest-"} {
		for _, r := range stale {
			r.Value, r.Timestamp = append([]byte(age), r.Value...), time.Now().UnixMilli()
			s.us.write(t, s.topic, r)
		}
	}
	s.us.forgets(t, s.topic, 0, s.id)
	s.us.cleans(t, s.topic, "takes what was copied, and leaves holes behind the checkpoint", func(log []logged) bool {
		return len(s.ours(log)) == 0 && slices.ContainsFunc(log, func(l logged) bool { return l.BaseOffset >= 2 }) && !slices.ContainsFunc(records(log), func(r batch.Record) bool {
			return strings.HasPrefix(string(r.Value), "newer-")
		})
	})
	s.eu.write(t, s.topic, rec("c"))

	heir := s.owner()
	heir.caughtUp()
	if again := words(s.ours(s.us.readLog(t, s.topic, 0))); again != "c" {
		t.Errorf("the heir copied %q, want c alone", again)
	}
}

// TestOvertaken_TargetDeletedWhatWasCopied: everything that was copied after the checkpoint is deleted on the target, whose broker still knows the
// id. It is not copied again, and the mirror does not wait for ever for batches that will not come.
func TestOvertaken_TargetDeletedWhatWasCopied(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	o := s.owner()
	o.losesProgress()
	s.eu.write(t, s.topic, recs("a", "b", "c")...)
	s.arrives("c")
	o.kill()
	s.us.deleteRecords(t, s.topic, 0, 3)
	s.eu.write(t, s.topic, rec("d"))

	heir := s.owner()
	heir.is(time.Minute, "copies d", func(p mirror.PumpStatus) bool { return p.SourceNext == 4 })
	if got := words(s.ours(s.us.readLog(t, s.topic, 0))); got != "d" {
		t.Errorf("the target holds %q, want d alone", got)
	}
}

// TestOvertaken_TargetDeletedWhatCameAfter: the target's retention has passed the checkpoint, and took what others wrote behind it too.
func TestOvertaken_TargetDeletedWhatCameAfter(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	o := s.owner()
	s.eu.write(t, s.topic, recs("a", "b", "c")...)
	o.caughtUp()
	node.Until(t, 20*time.Second, "the checkpoint covers everything", func(ctx context.Context) error { return s.checkpointed(ctx, 3) })
	o.kill()
	s.us.write(t, s.topic, recs("x", "y")...)
	s.us.deleteRecords(t, s.topic, 0, 5)
	s.us.write(t, s.topic, rec("z"))
	s.eu.write(t, s.topic, rec("d"))

	heir := s.owner()
	heir.is(time.Minute, "copies d", func(p mirror.PumpStatus) bool { return p.SourceNext == 4 })
	if got := words(records(s.us.readLog(t, s.topic, 0))); got != "z d" {
		t.Errorf("the target holds %q, want z and d", got)
	}
}
