package lock

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// copied has an owner copy n records of 2017, one a batch, and the broker forget the id.
func (s *stage) copied(n int) *owner {
	s.t.Helper()
	for _, r := range old(numbered("old", n, 5000)...) {
		s.eu.write(s.t, s.topic, r)
	}
	o := s.owner()
	o.caughtUp()
	s.us.forgets(s.t, s.topic, 0, s.id)
	return o
}

// repeats fails the test unless the ledger names exactly these source offsets as repeated.
func repeats(t *testing.T, o *owner, want ...int64) {
	t.Helper()
	have := make(map[int64]bool)
	for _, e := range o.ledger(mirror.ReasonRepeated) {
		for at := e.First; at <= e.Last; at++ {
			have[at] = true
		}
	}
	for _, at := range want {
		if !have[at] {
			t.Errorf("the ledger does not say that source offset %d is repeated: %+v", at, o.ledger())
		}
		delete(have, at)
	}
	if len(have) > 0 {
		t.Errorf("the ledger says of offsets %v that they are repeated, which they are not", have)
	}
}

// TestProducers_BehindTheLog: the broker has forgotten the id and takes from a lagging owner what is there already. What it remembers then
// lies behind the log, and it refuses the right sequence for ever: the next epoch is the way out, at once. What was written
// twice is in the ledger.
func TestProducers_BehindTheLog(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	o := s.copied(5)
	source := records(s.eu.readLog(t, s.topic, 0))
	for i := range 2 { // of now, so that the broker remembers it
		r := source[1+i]
		r.Timestamp = time.Now().UnixMilli()
		if res := s.us.produce(t, s.topic, 0, s.stamp(0, int64(1+i)), r); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	if p, known, err := s.us.knows(t.Context(), s.topic, 0, s.id); !known || p.LastSequence != 2 || err != nil {
		t.Fatalf("the broker remembers %+v, %v, want sequence 2", p, err)
	}
	late := numbered("late", 3, 5000)
	for _, r := range late {
		s.eu.write(t, s.topic, r)
	}
	o.caughtUp()
	log := s.us.readLog(t, s.topic, 0)
	if last := log[len(log)-1]; last.ProducerEpoch != 1 {
		t.Errorf("the last batch has epoch %d, want 1", last.ProducerEpoch)
	}
	have := records(log)
	have = append(have[:5:5], have[7:]...) // without what was written twice
	if diff := unlike(have, append(source, late...)); diff != "" {
		t.Errorf("beside what was written twice the target is not the source: %s", diff)
	}
	repeats(t, o, 1, 2)
}

// TestProducers_AheadOfTheLog: what the broker remembers of the id is newer than the headers that an owner has just read, because another one
// writes, or because it is not replicated yet. The place is behind it: the headers are read on, and nothing is sent before.
func TestProducers_AheadOfTheLog(t *testing.T) {
	s := newStage(t, stageOptions{target: map[string]string{}})
	all := numbered("r", 5, 5000)
	for _, r := range all {
		s.eu.write(t, s.topic, r)
	}
	first := s.prepare()
	sent := first.to.trap(s.sends)
	first.start()
	got(t, 20*time.Second, "the first owner has begun", sent)
	first.kill()
	for i := range 2 {
		if r := s.us.produce(t, s.topic, 0, s.stamp(0, int64(i)), all[i]); r.Err != nil {
			t.Fatal(r.Err)
		}
	}

	second := s.prepare()
	asked := make(chan caught, 10)
	sends := make(chan int32, 10)
	second.to.rule(func(c call) fate {
		if s.sends(c) {
			sends <- c.batches(s.id)[0].BaseSequence
		}
		if c.key != int16(kmsg.DescribeProducers) || c.answer || !bytes.Contains(c.frame, []byte(s.topic)) {
			return pass
		}
		decided := make(chan fate, 1)
		asked <- caught{c, decided}
		return <-decided
	})
	second.start()
	// The target was empty when the pump began, so that nobody asks whether it really has no history: the question comes after the headers were read.
	held := got(t, 20*time.Second, "it asks what the broker remembers beyond the headers", asked)
	if r := s.us.produce(t, s.topic, 0, s.stamp(0, 2), all[2]); r.Err != nil {
		t.Fatal(r.Err)
	}
	held.fate <- pass
	go func() {
		for c := range asked {
			c.fate <- pass
		}
	}()
	second.caughtUp()
	if n := got(t, time.Second, "it sends", sends); n != 3 {
		t.Errorf("the first batch it sends has sequence %d, want 3: what the broker knew was not in what it had read", n)
	}
	s.verdict()
}

// TestForgotten_GapBeforeAnAcknowledgement: others write to the target too, so that the place of an acknowledgement says nothing. Once the id
// was forgotten, the gap before it is looked into: another owner's batches there mean that what was acknowledged is a repeat.
func TestForgotten_GapBeforeAnAcknowledgement(t *testing.T) {
	for name, rival := range map[string]bool{"clients wrote": false, "another owner wrote": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, stageOptions{target: map[string]string{}})
			o := s.copied(3)
			sent := o.to.trap(s.sends)
			more := old(numbered("more", 3, 5000)...)
			for _, r := range more {
				s.eu.write(t, s.topic, r)
			}
			held := got(t, 20*time.Second, "a batch is sent", sent)
			s.us.write(t, s.topic, numbered("local", 2, 100)...)
			want := []int64{}
			if rival { // what is on its way, and one more
				for i := range 2 {
					if r := s.us.produce(t, s.topic, 0, s.stamp(0, int64(3+i)), more[i]); r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				s.us.forgets(t, s.topic, 0, s.id)
				want = append(want, 3)
			}
			o.to.rule(nil)
			held.fate <- pass
			o.caughtUp()
			s.onceEach(t, len(want))
			repeats(t, o, want...)
			if p, _ := o.status(0); rival && p.Fenced == 0 {
				t.Error("it does not say that another owner writes")
			}
			s.eu.write(t, s.topic, rec("after"))
			o.caughtUp()
			s.onceEach(t, len(want))
		})
	}
}

// onceEach fails the test unless the link's records are the source's, in order, but for so many that are there once more.
func (s *stage) onceEach(t *testing.T, repeated int) {
	t.Helper()
	want := records(s.eu.readLog(t, s.topic, 0))
	seen := make(map[string]bool)
	var first []batch.Record
	again := 0
	for _, r := range s.ours(s.us.readLog(t, s.topic, 0)) {
		if seen[word(r)] {
			again++
			continue
		}
		seen[word(r)] = true
		first = append(first, r)
	}
	if diff := unlike(first, want); diff != "" || again != repeated {
		t.Errorf("%d records are there again, want %d; the first ones: %s\ntarget: %v", again, repeated, diff, s.us.readLog(t, s.topic, 0))
	}
}

// TestForgotten_OverARestart: a broker that was killed knows the last batch of an id only, and of an id whose records are old nothing at
// all. An owner whose answers were lost with the connection must not send the batches again.
func TestForgotten_OverARestart(t *testing.T) {
	type one struct {
		s    *stage
		o    *owner
		lost caught
	}
	var all []one
	for _, dated := range []func(...batch.Record) []batch.Record{func(r ...batch.Record) []batch.Record { return r }, old} {
		s := newStage(t, stageOptions{target: map[string]string{}})
		for _, r := range dated(numbered("first", 2, 5000)...) {
			s.eu.write(t, s.topic, r)
		}
		o := s.owner()
		o.caughtUp()
		answers := o.to.trap(func(c call) bool { return c.answer && len(c.batches(s.id)) > 0 })
		for _, r := range dated(numbered("more", 6, 5000)...) {
			s.eu.write(t, s.topic, r)
		}
		all = append(all, one{s, o, got(t, 20*time.Second, "the first answer is there", answers)})
	}
	node.Until(t, 20*time.Second, "several batches of now are written and not answered", func(ctx context.Context) error {
		log, err := all[0].s.us.tryLog(ctx, all[0].s.topic, 0)
		if err == nil && len(log) < 4 {
			err = fmt.Errorf("the target has %d batches", len(log))
		}
		return err
	})
	all[0].s.us.Kill(0)
	for _, a := range all {
		a.o.to.rule(nil)
		a.lost.fate <- cut
	}
	all[0].s.us.Start(0)
	all[0].s.us.ready(t)
	for _, a := range all {
		a.o.caughtUp()
		a.s.verdict()
		if l := a.o.ledger(); len(l) > 0 {
			t.Errorf("the ledger has %+v, want nothing", l)
		}
		// The epoch of the target is another one now. What was written since must not look as if it were gone.
		a.s.eu.write(t, a.s.topic, rec("after"))
		a.o.caughtUp()
		a.o.state(10*time.Second, mirror.StateRunning, "")
		a.s.verdict()
	}
}
