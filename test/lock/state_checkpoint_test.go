package lock

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// sourceNext reads the source position out of a checkpoint: version, topic id with its length, leader epoch, position.
func sourceNext(value []byte) (int64, bool) {
	if len(value) < 19 || value[0] != 1 {
		return 0, false
	}
	rest := value[1+1+16:]
	_, n := binary.Varint(rest)
	if n <= 0 {
		return 0, false
	}
	next, n := binary.Varint(rest[n:])
	return next, n > 0
}

// TestCheckpoint_FirstIsDurableBeforeTheFirstBatch: a mirror that is killed before it wrote any progress leaves a beginning from which the next
// finds its place, also where a new beginning would be elsewhere (start = "latest").
func TestCheckpoint_FirstIsDurableBeforeTheFirstBatch(t *testing.T) {
	for _, start := range []string{"earliest", "latest"} {
		t.Run(start, func(t *testing.T) {
			s := newStage(t, stageOptions{settings: fmt.Sprintf("start = %q", start)})
			s.eu.write(t, s.topic, numbered("early", 3, 100)...)
			o := s.prepare()
			o.to.rule(func(c call) fate {
				if started := o.sees(); started && s.proposes(c) {
					return drop
				}
				return pass
			})
			o.start()
			o.is(30*time.Second, "runs", func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning })
			s.eu.write(t, s.topic, numbered("copied", 3, 100)...)
			s.arrives("copied-2")
			o.kill()
			s.eu.write(t, s.topic, numbered("after", 3, 100)...)

			heir := s.owner()
			heir.caughtUp()
			want := records(s.eu.readLog(t, s.topic, 0))
			if start == "latest" {
				want = want[3:]
			}
			if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), want); diff != "" {
				t.Errorf("the heir of a mirror without progress: %s", diff)
			}
		})
	}
}

// sees reports whether the owner has a pump: its beginning is durable.
func (o *owner) sees() bool {
	_, there := o.status(0)
	return there
}

// TestCheckpoint_OfAZombieDoesNotWin: a mirror that hangs writes its old checkpoint after a newer one of another mirror. What
// lies between the two is gone from both clusters by then, so that whoever believes the old one goes wrong.
func TestCheckpoint_OfAZombieDoesNotWin(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	s.eu.write(t, s.topic, numbered("first", 3, 100)...)
	zombie := s.owner()
	zombie.caughtUp()
	node.Until(t, 20*time.Second, "the first records are in a checkpoint", func(ctx context.Context) error { return s.checkpointed(ctx, 3) })
	held := zombie.to.trap(s.proposes)
	s.eu.write(t, s.topic, numbered("second", 3, 100)...)
	zombie.caughtUp()
	state := got(t, 20*time.Second, "the zombie writes its state", held)
	zombie.from.rule(func(call) fate { return drop }) // from now on it hears nothing of the source

	heir := s.owner()
	s.eu.write(t, s.topic, numbered("third", 3, 100)...)
	heir.caughtUp()
	heir.stop()
	if err := s.checkpointed(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	zombie.to.rule(nil)
	state.fate <- pass // the chunk of its map; the checkpoint follows
	release(held)
	node.Until(t, 30*time.Second, "the zombie's checkpoint is the last", func(ctx context.Context) error {
		all, err := s.checkpoints(ctx)
		if err == nil && (len(all) == 0 || all[len(all)-1].next != 6) {
			err = fmt.Errorf("the checkpoints are %v", all)
		}
		return err
	})
	zombie.kill()
	s.eu.deleteRecords(t, s.topic, 0, 9)
	s.us.deleteRecords(t, s.topic, 0, 9)

	s.eu.write(t, s.topic, numbered("fourth", 3, 100)...)
	last := s.owner()
	last.caughtUp()
	if diff := unlike(s.ours(s.us.readLog(t, s.topic, 0)), records(s.eu.readLog(t, s.topic, 0))); diff != "" {
		t.Errorf("the third mirror began elsewhere: %s", diff)
	}
	if lost := last.ledger(mirror.ReasonRetention); len(lost) > 0 {
		t.Errorf("the ledger says that records are lost which were copied: %+v", lost)
	}
	if e := s.us.readLog(t, s.topic, 0)[0].ProducerEpoch; e != 0 {
		t.Errorf("the third mirror went on in epoch %d: it took its id for stuck", e)
	}
}

// TestSplit_CrashBetweenTheParts: the target takes only small batches, so that a source batch goes in parts. A mirror that is killed between
// two parts leaves half of a batch; the next goes on inside it, and no checkpoint ever lies there.
func TestSplit_CrashBetweenTheParts(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{"max.message.bytes": "12000"}})
	s.eu.write(t, s.topic, numbered("before", 2, 100)...)
	o := s.owner()
	o.caughtUp()
	held := o.to.trap(func(c call) bool { return s.sends(c) })
	s.eu.write(t, s.topic, numbered("large", 8, 5000)...)
	for range 2 { // of the four parts
		got(t, 20*time.Second, "a part is sent", held).fate <- pass
	}
	got(t, 20*time.Second, "the third part is sent", held)
	node.Until(t, 20*time.Second, "the checkpoint is at the end of a source batch", func(ctx context.Context) error { return s.checkpointed(ctx, 2) })
	log := s.us.readLog(t, s.topic, 0)
	if n := len(records(log)); n <= 2 || n >= 10 {
		t.Fatalf("the target holds %d records, want some parts of the large batch and not all: %v", n, log)
	}
	o.kill()
	all, err := s.checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(c saved) bool { return c.next != 0 && c.next != 2 }) {
		t.Errorf("a checkpoint lies inside a source batch: %v", all)
	}
	s.eu.write(t, s.topic, numbered("after", 2, 100)...)
	heir := s.owner()
	heir.caughtUp()
	s.verdict()
}
