package mirror

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Our own work is no stop: a request that took long to gather is written, as long as the pulse goes on.
func TestPulse_OutdatedRequests(t *testing.T) {
	beat := func(u *pulse, from, to time.Time) {
		for at := from; !at.After(to); at = at.Add(pulseEvery) {
			u.tick(at)
		}
	}
	for _, tc := range []struct {
		name            string
		took            time.Duration // from the first batch to the write
		stopped         bool          // the process, for all of it
		rival, doubtful bool
		want            bool
	}{
		{name: "at once"},
		{name: "compressing for long", took: 2 * time.Second},
		{name: "compressing for long, alone with a doubtful batch", took: 2 * time.Second, doubtful: true},
		{name: "compressing for long, beside another owner", took: 2 * time.Second, rival: true},
		{name: "a doubtful batch beside another owner", took: sendWithin, rival: true, doubtful: true},
		{name: "that, and too late", took: sendWithin + 1, rival: true, doubtful: true, want: true},
		{name: "stopped", took: stoppedFor + pulseEvery, stopped: true, want: true},
		{name: "stopped for less than another owner waits", took: stoppedFor - pulseEvery, stopped: true},
	} {
		for _, woke := range []bool{false, true} { // the pulse beats before the request is written
			var u pulse
			began := time.UnixMilli(1_700_000_000_000)
			now := began.Add(tc.took)
			beat(&u, began.Add(-time.Second), began)
			if tc.rival {
				u.met(began)
			}
			if !tc.stopped {
				beat(&u, began, now)
			}
			if woke {
				u.tick(now)
			}
			if got := u.outdated(began, now, tc.doubtful); got != tc.want {
				t.Errorf("%s: outdated %v after %v, woke before that %v; want %v", tc.name, got, tc.took, woke, tc.want)
			}
		}
	}
}

// What goes alone is what the broker might take from anybody.
func TestWindow_GatherTellsDoubtfulBatches(t *testing.T) {
	b := newBench(t)
	b.offer(1, 0, 2, 2, 2)
	request, _, doubtful := b.pump.window.gather()
	if len(request) != 1 || !doubtful {
		t.Fatalf("%d batches, doubtful %v; want the first after a look at the place, doubtful", len(request), doubtful)
	}
	b.ack(request[0].Token.(*outBatch), 0)
	if request, _, doubtful = b.pump.window.gather(); len(request) != 1 || doubtful {
		t.Errorf("%d batches, doubtful %v; want one that follows an acknowledged one", len(request), doubtful)
	}
}

// Merging may take longer than a doubtful batch may be old beside another owner, and takes as long each time. So it is done before the place is
// looked at for the last time, and what was merged stays so.
func TestWindow_SlowMergesStopNobody(t *testing.T) {
	b := newBench(t)
	p, w := b.pump, b.pump.window
	b.value = 10
	b.link.pulse.met(b.now)
	began := b.now
	b.link.now = func() time.Time { // a merge takes twice the time
		if len(p.out.queue) == 1 {
			return began.Add(2 * sendWithin)
		}
		return began
	}
	b.offer(1, 0, 2, 2, 2)
	if request, _, _ := w.gather(); len(request) != 0 || p.state != StateFinding {
		t.Fatalf("%d batches on an old proof, %s", len(request), p.state)
	}
	b.now = b.link.now()
	b.find(nil)
	request, began, doubtful := w.gather()
	if len(request) != 1 || !doubtful || request[0].Token.(*outBatch).records != 6 {
		t.Fatalf("%d batches, doubtful %v; want what was merged before", len(request), doubtful)
	}
	if b.link.pulse.outdated(began, b.link.now(), doubtful) {
		t.Error("what was merged for long counts as old")
	}
}

// A pump that leaves a window and comes back before that gathers is listed there once: of two batches of a partition in one request the
// broker takes one, or none.
func TestWindow_GatherTakesOneBatchOfAPump(t *testing.T) {
	b := newBench(t)
	b.prove()
	p, home := b.pump, b.pump.window
	away := home.on(trackLate)
	stay := func(w *window) {
		p.mu.Lock()
		p.window = w
		w.ready(p)
		p.mu.Unlock()
	}
	b.offer(1, 1, 1, 1, 1)
	for range 3 {
		stay(away)
		stay(home)
	}
	request, _, _ := home.gather()
	if len(request) != 1 {
		t.Fatalf("%d batches of one partition in a request, want 1", len(request))
	}
	if got, _, _ := away.gather(); len(got) != 0 {
		t.Errorf("%d batches in a window that the pump has left, want none", len(got))
	}
	if request, _, _ = home.gather(); len(request) != 1 {
		t.Errorf("%d batches in the next request, want the pump's next one", len(request))
	}
	home.mu.Lock()
	defer home.mu.Unlock()
	if len(home.listed) > 1 {
		t.Errorf("the pump is listed %d times, want once", len(home.listed))
	}
}

// Of topics that are one on the target a request has one batch for each partition, also where one of them has that name already.
func TestWindow_GatherTakesOneBatchOfTopicsThatAreOne(t *testing.T) {
	for _, kept := range []string{"first", "last"} {
		one := newBench(t)
		one.prove()
		other := &bench{t: t, now: one.now, value: one.value, link: one.link}
		f := newFlow(one.link, "orders-2")
		f.lim.Store(&limits{partitions: 1})
		other.pump = one.link.newPump(f, Checkpoint{Pump: f.pumpID(somePump.Partition), SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
		other.pump.id.As = "orders"
		other.pump.led(one.pump.fetcher, one.pump.window, 0, 0, 0, one.now)
		other.find(nil)
		for _, b := range []*bench{one, other} {
			if (b == one) != (kept == "first") {
				b.offer(1, b.pump.fetchAt, 1)
			}
		}
		for _, b := range []*bench{one, other} {
			if (b == one) == (kept == "first") {
				b.offer(1, b.pump.fetchAt, 1)
			}
		}
		var targets []string
		for range 2 {
			request, _, _ := one.pump.window.gather()
			if len(request) != 1 {
				t.Fatalf("%s: %d batches of one partition in a request, want 1", kept, len(request))
			}
			targets = append(targets, request[0].Topic)
		}
		if targets[0] != "orders" || targets[1] != "orders" {
			t.Errorf("%s: batches for %v", kept, targets)
		}
	}
}

// A window that finds no connection sends only those to look for their places that wait for it now.
func TestWindow_WithoutConnectionFailsOnlyItsOwn(t *testing.T) {
	b := newBench(t)
	b.prove()
	p, home := b.pump, b.pump.window
	b.offer(1, 1, 1)
	p.mu.Lock()
	p.window = home.on(trackLate)
	p.window.ready(p)
	p.mu.Unlock()
	home.failReady(errors.New("refused"))
	if p.state != StateRunning {
		t.Errorf("%s (%s), want it to run: it has left for another window", p.state, p.reason)
	}
	if got, _, _ := p.window.gather(); len(got) != 1 {
		t.Errorf("%d batches where the pump is now, want 1", len(got))
	}
}

// What we end ourselves is not the target's trouble, although the answers in flight go with it.
func TestWindow_OwnEndsAreNoTrouble(t *testing.T) {
	broken := errors.New("broken pipe")
	for name, tc := range map[string]struct {
		send, recv error
		up         bool
	}{
		"stopped":           {fmt.Errorf("send: %w", errStopped), nil, true},
		"with answers due":  {fmt.Errorf("send: %w", errStopped), errors.New("use of closed connection"), true},
		"moved":             {fmt.Errorf("broker 1 %w", errMoved), errors.New("use of closed connection"), true},
		"broken":            {broken, broken, false},
		"broken on reading": {errors.New("context canceled"), broken, false},
		"broken on writing": {broken, nil, false},
	} {
		b := newBench(t)
		b.offer(1, 0, 2)
		err := endOf(tc.send, tc.recv)
		b.pump.window.failed(err)
		if up, what, _ := b.link.health(); up != tc.up || !up && what != "us: "+broken.Error() {
			t.Errorf("%s: up %v (%s), want %v", name, up, what, tc.up)
		}
		if b.pump.state != StateFinding {
			t.Errorf("%s: the pump that waited for the connection is %s", name, b.pump.state)
		}
	}
}
