package mirror

import (
	"testing"
	"time"
)

// TestPump_AnswerReadAfterAStop: a process that was frozen with a batch on its way reads an old answer when it goes on. Another owner has
// had the time to take over; recent or old, it looks before it writes.
func TestPump_AnswerReadAfterAStop(t *testing.T) {
	b := newBench(t)
	b.link.pulse.tick(b.now)
	b.prove()
	b.offer(1, 1, 2, 2, 2, 2, 2, 2)
	sent := b.next()
	if sent == nil {
		t.Fatal("nothing to send")
	}
	b.now = b.now.Add(time.Second) // longer than a pulse may take, shorter than what counts as idle
	b.ack(sent, b.pump.acked.TargetFrom)
	if b.next() != nil {
		t.Error("it writes before its pulse beats again")
	}
	b.state(StateFinding)
	b.find(nil)
	if b.next() == nil {
		t.Errorf("it does not go on after the look, and before the next beat: %s (%s)", b.pump.state, b.pump.reason)
	}
}

// TestPump_AnswerReadAfterTheNextBeat is the same where the pulse was first.
func TestPump_AnswerReadAfterTheNextBeat(t *testing.T) {
	b := newBench(t)
	b.link.pulse.tick(b.now)
	b.prove()
	b.offer(1, 1, 2, 2, 2, 2, 2, 2)
	sent := b.next()
	b.now = b.now.Add(time.Second)
	b.link.pulse.tick(b.now)
	b.ack(sent, b.pump.acked.TargetFrom)
	if b.next() != nil {
		t.Error("it writes although it was stopped after it had sent what was acknowledged")
	}
}

// TestPump_ClockSetBack: how long nobody looked is not known when the clock is set back; so it looks before it writes, once.
func TestPump_ClockSetBack(t *testing.T) {
	b := newBench(t)
	b.link.pulse.tick(b.now)
	b.prove()
	b.offer(1, 1, 2, 2)
	b.now = b.now.Add(-time.Hour)
	b.link.pulse.tick(b.now)
	if b.next() != nil {
		t.Fatal("it writes although it cannot know for how long nobody looked")
	}
	b.find(nil)
	if b.next() == nil {
		t.Errorf("it does not go on after the look: %s (%s)", b.pump.state, b.pump.reason)
	}
}

// TestPump_ClockSetBackAfterAStop is the same where the last stop is in the future now: no look would ever be young enough.
func TestPump_ClockSetBackAfterAStop(t *testing.T) {
	b := newBench(t)
	b.link.pulse.tick(b.now)
	b.prove()
	b.offer(1, 1, 2, 2)
	b.now = b.now.Add(time.Hour)
	if b.next() != nil {
		t.Fatal("it writes although it was stopped")
	}
	b.find(nil)
	b.now = b.now.Add(-time.Hour)
	if b.next() != nil {
		t.Fatal("it writes although it cannot know for how long nobody looked")
	}
	b.find(nil)
	if b.next() == nil {
		t.Errorf("it does not go on after the look, and before the next beat: %s (%s)", b.pump.state, b.pump.reason)
	}
}

// TestPump_WaitsUnderAClockSetBack: what was to wait for a moment does not wait for as long as the clock was set back.
func TestPump_WaitsUnderAClockSetBack(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.pump.mu.Lock()
	b.pump.yieldLocked("another owner", b.now)
	b.pump.mu.Unlock()
	if _, ok := b.pump.beginSearch(b.now); ok {
		t.Fatal("it does not wait at all")
	}
	if _, ok := b.pump.beginSearch(b.now.Add(-time.Hour)); !ok {
		t.Error("it waits for an hour, because the clock was set back by one")
	}
}

// TestPump_IdleLookMeetsAnotherOwner: what is new on the target when nothing of ours was on its way is another owner's: it is left to it.
func TestPump_IdleLookMeetsAnotherOwner(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.offer(1, 1, 2, 2)
	b.now = b.now.Add(staleAfter + 1)
	if b.next() != nil {
		t.Fatal("an idle owner writes before it looks")
	}
	b.find(func(f *found) {
		f.advanced = true
		f.place.setLane(Lane{Origin: "eu", Count: 3})
		f.place.SourceNext = 3
	})
	b.state(StateYielded)
}

// TestPump_DoubtfulBatches: while the broker may have forgotten the id, a batch is not sent on an old proof if there may be another owner;
// an owner alone loses no time.
func TestPump_DoubtfulBatches(t *testing.T) {
	for name, rival := range map[string]bool{"alone": false, "beside another owner": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.prove()
			b.pump.out.solo, b.pump.out.old = true, true
			b.offer(1, 1, 2, 2, 2)
			if rival {
				b.link.pulse.met(b.now)
			}
			b.now = b.now.Add(doubtAfter + 1)
			if sent := b.next() != nil; sent == rival {
				t.Fatalf("sent: %v", sent)
			}
			if !rival {
				return
			}
			for looks := range 2 {
				b.find(nil)
				b.now = b.now.Add(doubtAfter + 1)
				if sent := b.next() != nil; sent != (looks == 1) {
					t.Fatalf("sent after look %d: %v", looks+1, sent)
				}
			}
		})
	}
}

// TestPump_GapBeforeADoubtfulAnswer: the queue stays if the gap is others' work; if it is another owner's, the place is that of before the gap.
func TestPump_GapBeforeADoubtfulAnswer(t *testing.T) {
	for name, other := range map[string]bool{"clients wrote": false, "another owner wrote": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.offer(1, 0, 2, 2)
			first := b.next()
			b.ack(first, 7)
			b.state(StateFinding)
			s, ok := b.pump.beginSearch(b.now)
			if !ok || s.examineFrom != 0 || s.examineTo != 7 || s.before.SourceNext != 0 || s.base.SourceNext != 2 {
				t.Fatalf("search %+v", s)
			}
			if b.pump.dirty {
				t.Error("a checkpoint would be written before the gap was looked into")
			}
			b.end(s, func(f *found) { f.rewound, f.advanced = other, other }, nil)
			if other {
				b.state(StateYielded)
				return
			}
			b.state(StateRunning)
			if !b.pump.dirty || b.pump.safe.SourceNext != 2 || len(b.pump.out.queue) != 1 {
				t.Errorf("safe %d, %d queued; want 2 and 1", b.pump.safe.SourceNext, len(b.pump.out.queue))
			}
		})
	}
}

// TestPulse_ClockThatIsSetBack: a clock that went ahead for a while and is set back does not make every later look an old one; and it hides for how
// long nothing beat.
func TestPulse_ClockThatIsSetBack(t *testing.T) {
	var u pulse
	now := time.UnixMilli(1_700_000_000_000)
	u.tick(now)
	before := now
	u.tick(now.Add(time.Hour))
	now = now.Add(time.Second)
	u.tick(now)
	if !u.stoppedSince(before, now) {
		t.Error("a look of before the clock was set back counts as new")
	}
	for range 100 {
		asked := now
		now = now.Add(pulseEvery)
		u.tick(now)
		if u.stoppedSince(asked, now) {
			t.Fatalf("a look of %v ago counts as one of before a stop", now.Sub(asked))
		}
	}
}
