package mirror

import (
	"testing"
	"time"
)

// A node whose clock was an hour ahead for a while kept what it had heard then for an hour, and saw no new leader and no topic made anew.
func TestPicture_OfAClockThatWasAheadIsAskedForAgain(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		asked time.Time
		good  bool
	}{
		"none":           {},
		"before":         {now.Add(-2 * time.Second), false},
		"since":          {now.Add(-time.Second), true},
		"now":            {now, true},
		"an hour ahead":  {now.Add(time.Hour), false},
		"a moment ahead": {now.Add(time.Millisecond), false},
	} {
		p := picture{asked: tc.asked}
		if _, ok := p.since(now.Add(-time.Second), now); ok != tc.good {
			t.Errorf("%s: a picture asked for at %v serves at %v: %v, want %v", name, tc.asked, now, ok, tc.good)
		}
	}
}

// A pump that was to look twice at a damage waited for an hour where the clock was set back in between.
func TestPump_ConfirmsADamageAlsoByAClockThatIsSetBack(t *testing.T) {
	p, d, now := new(pump), &damage{anew: true}, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {time.Second, false}, {-time.Hour, false}, {time.Second, false}, {confirmAfter, true}} {
		if now = now.Add(step.after); p.confirmed(d, now) != step.want {
			t.Errorf("look %d, at %v: confirmed %v, want %v", i, now, !step.want, step.want)
		}
	}
}
