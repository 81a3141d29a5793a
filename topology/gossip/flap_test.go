package gossip_test

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

func TestFlap_FallsAtOnceAndRisesLate(t *testing.T) {
	var f gossip.Flap
	now := time.Unix(1000, 0)
	// rise observes good probes every second until the flag is up.
	rise := func() time.Duration {
		start := now
		for !f.Set(true, now) {
			if now = now.Add(time.Second); now.Sub(start) > time.Hour {
				t.Fatal("the flag never rises")
			}
		}
		return now.Sub(start)
	}
	if f.Up() || rise() != 0 {
		t.Error("the first good observation does not raise the flag")
	}
	var waits []time.Duration
	for range 6 {
		now = now.Add(time.Minute)
		if f.Set(false, now) || f.Up() {
			t.Fatal("a bad observation leaves the flag up")
		}
		now = now.Add(time.Second)
		waits = append(waits, rise()/time.Second)
	}
	if want := []time.Duration{10, 20, 40, 80, 120, 120}; !slices.Equal(waits, want) {
		t.Errorf("the flag rose after %v seconds, want %v", waits, want)
	}
	now = now.Add(11 * time.Minute)
	f.Set(false, now)
	if wait := rise(); wait != 10*time.Second {
		t.Errorf("after a quiet time the flag rose after %v, want 10s", wait)
	}
}

// Good observations count only in a row, and bad ones while the flag is down do not make it worse.
func TestFlap_GoodOnesCountInARow(t *testing.T) {
	var f gossip.Flap
	now := time.Unix(1000, 0)
	for range 20 {
		now = now.Add(4 * time.Second)
		f.Set(false, now)
		now = now.Add(4 * time.Second)
		if f.Set(true, now) {
			t.Fatal("every other observation is bad, and the flag rose")
		}
	}
	if f.Set(true, now.Add(9*time.Second)) || !f.Set(true, now.Add(10*time.Second)) {
		t.Error("want the flag up after ten seconds, not before")
	}
}

func TestRTTClass_HasHysteresis(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct{ before, rtt, want time.Duration }{
		{0, 0, 5 * ms}, {0, 5 * ms, 5 * ms}, {0, 6 * ms, 8 * ms}, {0, 150 * ms, 200 * ms}, {0, time.Hour, 2 * time.Second},
		{5 * ms, 5800 * time.Microsecond, 5 * ms}, {5 * ms, 6 * ms, 8 * ms},
		{200 * ms, 115 * ms, 200 * ms}, {200 * ms, 110 * ms, 135 * ms}, {200 * ms, 230 * ms, 200 * ms}, {200 * ms, 240 * ms, 300 * ms},
		{2 * time.Second, time.Hour, 2 * time.Second}, {7 * ms, 150 * ms, 200 * ms},
	} {
		if got := gossip.RTTClass(c.before, c.rtt); got != c.want {
			t.Errorf("a round trip of %v in the class %v: %v, want %v", c.rtt, c.before, got, c.want)
		}
	}
}

func TestSettle_DoublesWithCrashes(t *testing.T) {
	for crashes, want := range map[int]time.Duration{-1: 5, 0: 5, 1: 10, 2: 20, 5: 160, 6: 300, 7: 300, 1000: 300} {
		if got := gossip.Settle(crashes); got != want*time.Second {
			t.Errorf("after %d crashes a node settles for %v, want %d s", crashes, got, want)
		}
	}
}
