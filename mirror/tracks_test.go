package mirror

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

func TestTrack_Next(t *testing.T) {
	const answer = 1 << 20
	for _, tc := range []struct {
		name         string
		from         track
		unread, held int64
		lag          time.Duration
		want         track
	}{
		{"nothing to read", trackLive, 0, 0, 0, trackLive},
		{"a few answers in time", trackLive, liveAnswers * answer, answer, time.Second, trackLive},
		{"too many", trackLive, liveAnswers*answer + 1, 0, 0, trackLate},
		{"too old", trackLive, answer, 0, liveLag + 1, trackLate},
		{"old, but a little", trackLive, answer / 8, answer / 8, time.Hour, trackLive},
		{"a little once more", trackLate, answer / 8, answer / 8, time.Hour, trackLive},
		{"queued, and old", trackLate, 0, answer, liveLag, trackLate},
		{"almost there", trackLate, answer, 4 * answer, liveLag / 2, trackLive},
		{"not yet", trackLate, answer + 1, 0, 0, trackLate},
		{"in between it stays late", trackLate, 2 * answer, 0, liveLag, trackLate},
		{"in between it stays live", trackLive, 2 * answer, 0, liveLag, trackLive},
	} {
		if got := tc.from.next(backlog{unread: tc.unread, held: tc.held, lag: tc.lag, answer: answer}); got != tc.want {
			t.Errorf("%s: from %d to %d, want %d", tc.name, tc.from, got, tc.want)
		}
	}
}

// What was written over one connection is answered before the other one is used: nothing keeps the two in order.
func TestTrack_ChangesWhenNothingIsOnTheWire(t *testing.T) {
	b := newBench(t)
	b.link.cfg.FetchPartitionBytes = 8 * mergeBelow // so that a batch or two are a backlog
	b.prove()
	live, fetcher := b.pump.window, b.pump.fetcher
	b.offer(1, 1, 1, 1)
	first := b.next()
	b.pump.mu.Lock()
	b.pump.sight.highWatermark = 1_000_000
	b.pump.sight.stable = 1_000_000
	b.pump.retrackLocked(b.now)
	b.pump.mu.Unlock()
	if b.pump.window != live.on(trackLate) || b.pump.fetcher != fetcher.on(trackLate) {
		t.Fatal("a pump that is far behind is where those are that follow")
	}
	if _, ok := b.pump.want(fetcher); ok {
		t.Error("it is still asked for where it was")
	}
	if _, ok := b.pump.want(b.pump.fetcher); !ok {
		t.Error("it is not asked for where it is")
	}
	if b.next() != nil || b.pump.next(live, b.now) != nil {
		t.Error("a batch goes out while one is on its way over the other connection")
	}
	b.ack(first, 1)
	if b.pump.state != StateRunning {
		t.Fatalf("%s (%s), want it to run", b.pump.state, b.pump.reason)
	}
	if b.next() == nil {
		t.Error("no batch goes out although the other connection is done")
	}
	p := b.pump
	p.led(fetcher, live, 0, 0, 0, b.now)
	if p.state != StateRunning || p.window != live.on(trackLate) {
		t.Errorf("%s after the metadata was read again, on its track: %v; want it to go on there", p.state, p.window == live.on(trackLate))
	}
}

// A pump of which something else than its records stands between it and the head follows.
func TestTrack_WhatCannotBeReadIsNoBacklog(t *testing.T) {
	b := newBench(t)
	b.pump.offer(&broker.Fetched{HighWatermark: 1 << 30, LastStableOffset: 0, DivergingEnd: -1}, 0, nil, b.now)
	if b.pump.track != trackLive {
		t.Error("a pump that waits for the end of a transaction is late")
	}
	b.pump.offer(&broker.Fetched{HighWatermark: 1 << 30, LastStableOffset: 1 << 29, DivergingEnd: -1}, 0, nil, b.now)
	if b.pump.track != trackLate {
		t.Error("a pump of which the answer tells that it is far behind follows")
	}
}

// Who waits goes before who comes later, and those that follow before those that catch up.
func TestBudget_TakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(800, nil)
		if err := b.take(t.Context(), trackLive, 500); err != nil {
			t.Fatal(err)
		}
		if err := b.take(t.Context(), trackLate, 200); err != nil {
			t.Fatal(err)
		}
		got := make(chan track, 9)
		want := func(of track, n int64) {
			go func() {
				if b.take(t.Context(), of, n) == nil {
					got <- of
				}
			}()
			synctest.Wait()
		}
		want(trackLive, 300)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b.take(short, trackLive, 10) == nil {
			t.Error("who comes later goes before who waits")
		}
		want(trackLate, 200)
		b.put(trackLive, 300)
		synctest.Wait()
		if len(got) != 1 || <-got != trackLive {
			t.Error("a pump that follows does not get what has come back")
		}
		b.put(trackLive, 500)
		synctest.Wait()
		if len(got) != 1 || <-got != trackLate {
			t.Error("a pump that catches up does not get what is left")
		}
	})
}

// What one track takes leaves the other its part, of the link's budget and the node's.
func TestBudget_KeepsAPartForEachTrack(t *testing.T) {
	for _, tc := range []struct{ taker, other track }{{trackLate, trackLive}, {trackLive, trackLate}} {
		b := newBudget(800, newBudget(800, nil))
		took := 0
		for b.fitsLocked(tc.taker, 10) {
			b.held[tc.taker] += 10
			b.parent.held[tc.taker] += 10
			took += 10
		}
		if kept := 800 - took; kept < 100 || kept > 200 || !b.fitsLocked(tc.other, int64(kept)) || !b.parent.fitsLocked(tc.other, int64(kept)) {
			t.Errorf("track %d takes all but %d of 800; want an eighth or a quarter of it for the other one", tc.taker, kept)
		}
	}
}
