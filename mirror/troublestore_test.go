package mirror

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// noteAll has a link's notes written to nowhere, and counts them.
func noteAll(l *Link, now time.Time) (written, cleared int) {
	for _, n := range l.notesDue(false, now) {
		n.pump.noted(n, nil, now)
		if n.due == noteClear {
			cleared++
		} else {
			written++
		}
	}
	return written, cleared
}

// A thousand partitions that fail every second cost a few notes each a minute, a bounded number a second, and are all noted; when they run again
// each note is taken away.
func TestNotes_OfAThousandAreBounded(t *testing.T) {
	const partitions, minutes = 1000, 5
	b, pumps := poisonedBench(t, partitions)
	most, total := 0, 0
	for range minutes * 60 {
		b.now = b.now.Add(time.Second)
		for _, p := range pumps {
			p.attempts++
		}
		n, cleared := noteAll(b.link, b.now)
		most, total = max(most, n), total+n
		if cleared > 0 {
			t.Fatal("a note was taken away of a partition that stands still")
		}
	}
	if most > noteMost || total > partitions*minutes*4 || total < partitions {
		t.Errorf("%d notes in %d minutes, at most %d a second", total, minutes, most)
	}
	for _, p := range pumps {
		if p.ill.noted == nil {
			t.Fatalf("%s is not noted", p.id)
		}
		p.becomeLocked(StateRunning, "", "", b.now)
	}
	gone := 0
	for range 60 {
		b.now = b.now.Add(time.Second)
		n, cleared := noteAll(b.link, b.now)
		if gone += cleared; n > 0 || cleared > noteMost {
			t.Fatalf("%d notes of partitions that run, %d taken away in a second", n, cleared)
		}
	}
	if gone != partitions {
		t.Errorf("%d notes are taken away, want %d", gone, partitions)
	}
}

// What stands still and is tried no more writes nothing more.
func TestNotes_OfWhatStandsStillAreWrittenOnce(t *testing.T) {
	b, _ := poisonedBench(t, 3)
	total := 0
	for range 3600 {
		b.now = b.now.Add(time.Second)
		n, _ := noteAll(b.link, b.now)
		total += n
	}
	if total != 3 {
		t.Errorf("%d notes in an hour, want 3", total)
	}
}

// A blip leaves no trace; what lasts is noted, and since when it lasts does not change while the pump runs for moments in between.
func TestNotes_AreOfWhatLasts(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	since := b.now
	for range 30 {
		b.deny(kerr.TopicAuthorizationFailed)
		if st := b.pump.status(b.now); !st.Since.Equal(since) {
			t.Fatalf("in trouble since %v, want since %v", st.Since, since)
		}
		n, cleared := noteAll(b.link, b.now)
		if early := b.now.Sub(since) < noteAfter; cleared > 0 || early && n > 0 {
			t.Fatalf("%d notes, %d taken away, %v after it began", n, cleared, b.now.Sub(since))
		}
		b.now = b.now.Add(time.Second)
		b.pump.dueLocked(b.now)
		s, ok := b.pump.beginSearch(b.now)
		if !ok {
			t.Fatalf("no search in state %s", b.pump.state)
		}
		s.desks.leave(b.link.agenda)
		b.end(s, nil, nil)
	}
	if n := b.pump.ill.noted; n == nil || n.cause != CauseRights || !n.since.Equal(since) || n.attempts == 0 {
		t.Fatalf("noted is %+v", n)
	}
	b.prove()
	b.now = b.now.Add(wellAfter + noteEvery)
	if _, cleared := noteAll(b.link, b.now); cleared != 1 || b.pump.attempts != 0 || !b.pump.ill.began.IsZero() {
		t.Errorf("it runs: %d notes are taken away, %d attempts", cleared, b.pump.attempts)
	}
}

// A note that may or may not be written is neither believed nor left there.
func TestNotes_ThatFailAreWrittenAgain(t *testing.T) {
	b, pumps := poisonedBench(t, 1)
	fail := func() {
		for _, n := range b.link.notesDue(false, b.now) {
			n.pump.noted(n, errors.New("no answer"), b.now)
		}
		b.now = b.now.Add(noteEvery)
	}
	fail()
	if n, _ := noteAll(b.link, b.now); n != 1 {
		t.Errorf("%d notes after one that failed", n)
	}
	pumps[0].becomeLocked(StateRunning, "", "", b.now)
	b.now = b.now.Add(noteEvery)
	fail()
	if _, n := noteAll(b.link, b.now); n != 1 {
		t.Errorf("%d notes taken away after that failed once", n)
	}
}

// heir is the pump of the next owner, whose clock is another one.
func (b *bench) heir(n troubleNote, now time.Time) *pump {
	b.now = now
	p := b.link.newPump(b.pump.flow, b.pump.acked.clone())
	p.inherit(&n, now)
	p.led(b.pump.fetcher, b.pump.window, 0, 0, 0, now)
	return p
}

// Whoever takes over goes on where the owner before was, whatever the two clocks say.
func TestInherited_TroubleGoesOn(t *testing.T) {
	for _, shift := range []time.Duration{-time.Hour, 0, time.Hour} {
		for _, c := range []Cause{CausePoison, CauseOrder, CauseRights} {
			b := newBench(t)
			began := b.now
			n := troubleNote{halted: c != CauseRights, cause: c, what: "for a test", since: began, attempts: 7, next: began.Add(20 * time.Second), writer: "before"}
			now := began.Add(10 * time.Second).Add(shift)
			p := b.heir(n, now)
			st := p.status(now)
			if st.Cause != c || st.Attempts != 7 || st.Since.After(now) || shift >= 0 && !st.Since.Equal(began) || st.Since.After(began) {
				t.Errorf("%s, clock %v: %+v", c, shift, st)
			}
			switch wait := p.waitLocked(now); {
			case shift > 0 && p.state == StateFinding: // its time is over by this clock
			case shift == 0 && wait != 10*time.Second, wait <= 0, wait > haltWaits.most*3/2:
				t.Errorf("%s, clock %v: it waits for %v in state %s", c, shift, wait, p.state)
			}
			if _, ok := p.beginSearch(now); ok != (shift > 0) {
				t.Errorf("%s, clock %v: tried at once: %v", c, shift, ok)
			}
			if _, ok := p.beginSearch(now.Add(time.Minute)); ok == (shift > 0) {
				t.Errorf("%s, clock %v: not tried when its time has come", c, shift)
			}
		}
	}
}

// What is between one node and a cluster is tried at once by another one; since when it lasts is kept.
func TestInherited_PathsAreTriedAtOnce(t *testing.T) {
	for _, c := range []Cause{CauseSource, CauseTarget, CauseLeader, CauseTopic} {
		b := newBench(t)
		began := b.now
		p := b.heir(troubleNote{cause: c, what: "for a test", since: began, attempts: 7, next: began.Add(time.Hour)}, began.Add(time.Second))
		s, ok := p.beginSearch(b.now)
		if !ok || s.attempts != 0 {
			t.Fatalf("%s: searched %v, with the patience of one that tried %d times", c, ok, s.attempts)
		}
		p.endSearch(s, found{}, errors.New("connection refused"), b.now)
		if st := p.status(b.now); st.Attempts != 8 || !st.Since.Equal(began) {
			t.Errorf("%s: %d attempts since %v, want 8 since %v", c, st.Attempts, st.Since, began)
		}
	}
}

// Somebody's pause ends a trouble, and its note.
func TestNotes_PauseEndsThem(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	b.pump.haltLocked("order-break", "for a test", b.now)
	if n, _ := noteAll(b.link, b.now); n != 1 {
		t.Fatalf("%d notes of a pump that halted", n)
	}
	b.pump.direct("", "ops: for a test", b.now)
	b.now = b.now.Add(noteEvery)
	if _, n := noteAll(b.link, b.now); n != 1 || b.pump.status(b.now).Cause != CauseManual {
		t.Errorf("%d notes taken away of a pump that is paused", n)
	}
}

// A pump that has begun to run since the look at all of them began is not taken for one that runs again for long.
func TestNotes_LookThatBeganBeforeThePumpRan(t *testing.T) {
	b := newBench(t)
	began := b.now
	b.pump.haltLocked("order-break", "for a test", began)
	b.pump.becomeLocked(StateRunning, "", "", began.Add(time.Millisecond))
	b.pump.noteLocked(false, began)
	if !b.pump.ill.began.Equal(began) {
		t.Error("its trouble is over at once")
	}
}
