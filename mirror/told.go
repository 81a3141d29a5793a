package mirror

import "time"

// tellEvery is how often the log hears of one partition's trouble: a storm of them tells nobody more.
const tellEvery = time.Minute

// telling is what the log has heard of a partition.
type telling struct {
	at   time.Time
	left int // lines that were left out since
}

// next reports whether a line may be written now, and how many were left out before it.
func (t *telling) next(now time.Time) (left int, ok bool) {
	if recent(now, t.at, tellEvery) {
		t.left++
		return 0, false
	}
	left = t.left
	t.at, t.left = now, 0
	return left, true
}

// mayTell is next of a pump's lines, for who does not hold its mu.
func (p *pump) mayTell(now time.Time) (left int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines.next(now)
}

// recent reports whether less than d has passed since a time. A little ahead of now is what another goroutine has just set; further ahead than d was
// set before the clock was set back.
func recent(now, at time.Time, d time.Duration) bool { return within(now, at.Add(-d), at.Add(d)) }
