package mirror

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestMayResume_ByWhatIsKnown(t *testing.T) {
	well := known{led: true, source: true, target: true, scout: true}
	with := func(change func(*known)) known {
		k := well
		change(&k)
		return k
	}
	for _, tc := range []struct {
		name  string
		cause Cause
		known known
		want  bool
	}{
		{"nothing in the way", CauseTarget, well, true},
		{"paused by hand", CauseManual, well, false},
		{"in trouble, and paused by hand", CauseTarget, with(func(k *known) { k.paused = true }), false},
		{"no leader", CauseLeader, with(func(k *known) { k.led = false }), false},
		{"the target's broker is away", CauseTarget, with(func(k *known) { k.target = false }), false},
		{"the source's broker is away", CauseSource, with(func(k *known) { k.source = false }), false},
		{"halted, and the target's broker is away", CauseUnanchored, with(func(k *known) { k.target = false }), false},
		{"halted", CauseUnanchored, well, true},
		{"made anew", CauseRecreated, with(func(k *known) { k.renewed = true }), false},
		{"made anew, and the policy goes on", CauseRecreated, with(func(k *known) { k.renewed, k.follow = true, true }), true},
		{"the old topic again", CauseRecreated, well, true},
		{"no right, and another one tries", CauseRights, with(func(k *known) { k.scout = false }), false},
		{"no right, and nobody else tries", CauseRights, well, true},
		{"another cause, and another one tries for rights", CauseTarget, with(func(k *known) { k.scout = false }), true},
	} {
		if got := mayResume(tc.cause, tc.known); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// The waits double from try to try, up to a bound that suits what is wrong: a broker that comes back is written to within ten seconds,
// whatever the dice say.
func TestWaits_DoubleToTheirBound(t *testing.T) {
	for c := range map[Cause]bool{CauseTarget: true, CauseSource: true, CauseLeader: true, CauseRights: true, CauseTopic: true} {
		w := waitsFor(c)
		last := w.first
		for n := 1; n < 40; n++ {
			got := w.after(n)
			if got != min(w.most, w.first<<min(n-1, 16)) || got < last {
				t.Fatalf("%s: %v after %d tries, %v before", c, got, n, last)
			}
			last = got
		}
		if last != w.most {
			t.Errorf("%s: never as long as %v", c, w.most)
		}
	}
	if longest := usualWaits.most * 3 / 2; longest >= 10*time.Second {
		t.Errorf("a pump may sleep for %v after its broker is back", longest)
	}
}

// What waits for a broker that is away asks nobody, however often its time comes, and goes on as soon as somebody is connected.
func TestPump_TriesNothingWhileItsBrokerIsAway(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	b.offer(1, 0, 1)
	o := b.next()
	b.pump.window.open.Store(false)
	b.pump.window.down.Store(true)
	b.pump.result(o, resultOf(errors.New("connection refused")), b.now)
	for range 100 {
		if _, ok := b.pump.beginSearch(b.now); ok {
			t.Fatal("a search at a broker that is known to be away")
		}
		b.now = b.now.Add(time.Minute)
	}
	if b.state(StateRetrying); b.pump.cause != CauseTarget || !b.pump.window.warmed {
		t.Fatalf("cause %s, a connection is wanted: %v; want that of the target, and one for all", b.pump.cause, b.pump.window.warmed)
	}
	b.pump.laterLocked(time.Minute, b.now)
	if !b.pump.window.up() {
		t.Fatal("the window did not know that its broker was away")
	}
	b.link.resume(b.pump.window, nil)
	b.find(nil)
	b.state(StateRunning)
	if b.pump.futile {
		t.Error("a pump that runs is still held")
	}
}

// A pump that backs off since its target broker did not answer goes on when anybody is connected to that, not when its own time comes.
func TestPump_GoesOnWithItsBrokerWhateverItsBackoff(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	b.offer(1, 0, 1)
	o := b.next()
	b.pump.result(o, resultOf(errors.New("connection refused")), b.now)
	b.pump.becomeLocked(StateRetrying, CauseTarget, "a test", b.now)
	for _, c := range []struct {
		window *window
		due    bool
	}{{&window{}, false}, {b.pump.window, true}} {
		b.pump.laterLocked(time.Minute, b.now)
		b.link.resume(c.window, nil)
		if due := b.pump.waitLocked(b.now) == 0; due != c.due || b.pump.futile {
			t.Errorf("due: %v, want %v; held: %v", due, c.due, b.pump.futile)
		}
	}
}

func TestSetRetry_TriesNow(t *testing.T) {
	b := newBench(t)
	s := &Set{shared: b.link.shared, links: []*running{{Link: b.link}}}
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	name := b.link.name
	if _, err := s.Retry("nowhere", "", nil); !errors.Is(err, ErrNoLink) {
		t.Errorf("a link that is not there: %v", err)
	}
	if _, err := s.Retry(name, "~(", nil); err == nil {
		t.Error("a pattern that cannot be read")
	}
	b.pump.haltLocked("unanchored", "for a test", b.now)
	for _, tc := range []struct {
		topic      string
		partitions []int32
		want       int
	}{{"payments", nil, 0}, {"orders", []int32{9}, 0}, {"ord*", []int32{3}, 1}, {"orders", []int32{0}, 1}, {"", nil, 4}} {
		if n, err := s.Retry(name, tc.topic, tc.partitions); n != tc.want || err != nil {
			t.Errorf("%q %v: %d partitions, %v; want %d", tc.topic, tc.partitions, n, err, tc.want)
		}
	}
	if b.pump.nextTry.After(b.now) {
		t.Error("it still waits")
	}
	b.find(nil)
	b.state(StateRunning)
	if n, _ := s.Retry(name, "orders", []int32{3}); n != 0 {
		t.Error("a partition that runs was told to try")
	}
	b.pump.direct("", "ops: for a test", b.now)
	if n, _ := s.Retry(name, "orders", []int32{3}); n != 0 || b.pump.state != StatePaused {
		t.Errorf("a paused partition was told to try; it is %s", b.pump.state)
	}
}

// One partition of a topic tries whether a right is there, the others wait for it.
func TestFlow_OneTriesForARightThatAllLack(t *testing.T) {
	b := newBench(t)
	f := b.pump.flow
	f.grow(4)
	f.put(b.pump)
	id := b.pump.id
	id.Partition = 2
	other := b.link.newPump(f, Checkpoint{Pump: id, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
	other.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
	f.put(other)
	b.deny(kerr.TopicAuthorizationFailed)
	other.becomeLocked(StateRetrying, CauseRights, "for a test", b.now)
	b.now = b.now.Add(time.Hour)
	s, ok := b.pump.beginSearch(b.now)
	if !ok {
		t.Fatal("nobody tries")
	}
	if _, ok := other.beginSearch(b.now); ok {
		t.Error("two try for one right")
	}
	b.end(s, nil, nil)
	f.freeScout(b.now)
	if f.scout != b.pump {
		t.Error("a place that was found is taken for a right to write")
	}
	b.now = b.now.Add(scoutRuns + time.Second)
	f.freeScout(b.now)
	if _, ok := other.beginSearch(b.now); !ok {
		t.Error("the right is there, and the other one does not try")
	}
}
