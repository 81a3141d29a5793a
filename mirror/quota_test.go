package mirror

import (
	"testing"
	"time"
)

func TestQuota_IsPaidOffOverTime(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	var q quota
	for _, step := range []struct {
		after time.Duration
		bytes int64
		rate  float64
		want  time.Duration
	}{
		{0, 1000, 1000, time.Second},
		{500 * time.Millisecond, 0, 1000, 500 * time.Millisecond},
		{time.Second, 500, 1000, 500 * time.Millisecond},
		{time.Hour, 0, 1000, 0},                            // nothing is saved up
		{time.Hour, 1000, 500, 2 * time.Second},            // another rate
		{time.Hour + time.Second, 0, 250, 3 * time.Second}, // what is owed is bytes
		{time.Hour + time.Second, 0, 0, 0},                 // no limit any more
		{time.Hour + time.Second, 0, 1000, 0},
		{time.Second, 100, 1000, 100 * time.Millisecond}, // a clock that goes back owes nothing more
	} {
		if got := q.pay(trackLate, step.bytes, step.rate, start.Add(step.after))[trackLate]; got != step.want {
			t.Errorf("after %v, %d bytes at %v/s: %v, want %v", step.after, step.bytes, step.rate, got, step.want)
		}
	}
}

func TestQuota_IsSharedByPartitions(t *testing.T) {
	var q quota
	if got := q.share(1000); got != 1000 {
		t.Errorf("before anything is known %v, want all", got)
	}
	q.shared(3, 12)
	if got := q.share(1000); got != 250 {
		t.Errorf("3 of 12 partitions get %v of 1000, want 250", got)
	}
	q.shared(0, 10)
	if got := q.share(1000); got != 100 {
		t.Errorf("a node that begins its first partition gets %v of 1000, want 100", got)
	}
	if got := q.share(0); got != 0 {
		t.Errorf("without a limit %v, want 0", got)
	}
}

// Pumps that follow do not wait for what those that catch up have read, and leave them a part although they could use all of the rate.
func TestQuota_LiveGoesFirstAndLeavesAPart(t *testing.T) {
	const rate, step = 1_000_000, time.Millisecond
	now := time.Unix(1_000_000, 0)
	var q quota
	q.pay(trackLate, 5*rate, rate, now)
	if wait := q.pay(trackLive, 0, rate, now)[trackLive]; wait != 0 {
		t.Errorf("a pump that follows waits %v for what others have read", wait)
	}
	var read [tracks]int64
	for began := now; now.Sub(began) < 10*time.Minute; now = now.Add(step) {
		for of, bytes := range map[track]int64{trackLive: 50_000, trackLate: rate} {
			if q.pay(of, 0, rate, now)[of] == 0 {
				q.pay(of, bytes, rate, now)
				read[of] += bytes
			}
		}
	}
	all := float64(read[trackLive]+read[trackLate]) / 600
	if part := float64(read[trackLate]) / 600 / rate; part < 0.9/lateShare || part > 1.5/lateShare || all > 1.02*rate {
		t.Errorf("those that catch up get %.3f of the rate, and all together %.0f bytes/s of %d; want one part in %d", part, all, rate, lateShare)
	}
	if wait := q.pay(trackLive, 0, rate, now.Add(time.Hour)); wait != [tracks]time.Duration{} {
		t.Errorf("an hour later somebody waits: %v", wait)
	}
}
