package quota

import "time"

// burst is how long a bucket fills: what was not taken for so long may be taken at once.
const burst = time.Second

// Longest is the longest that anybody is told to wait: clients give up a request after 30 seconds, and one that is not read for so long is
// hung up on by its own side. Who takes so much at once that paying it back takes longer gets more than its rate.
const Longest = 25 * time.Second

// bucket is what may be taken of one thing. The zero value is full.
type bucket struct {
	left float64   // below 0: overdrawn
	at   time.Time // when that was so; zero for never
}

// take takes n at a moment, at a rate of so many a second; 0 is no bound. It returns what is left, and how long to wait before more is taken.
func (b bucket) take(now time.Time, rate int64, n int) (bucket, time.Duration) {
	if rate <= 0 {
		return b, 0
	}
	left := b.fill(now, rate) - float64(n)
	left = max(left, -float64(rate)*Longest.Seconds())
	if left >= 0 {
		return bucket{left, now}, 0
	}
	return bucket{left, now}, time.Duration(-left / float64(rate) * float64(time.Second))
}

// fill is what may be taken at a moment. A clock that goes back takes nothing away.
func (b bucket) fill(now time.Time, rate int64) float64 {
	most := float64(rate) * burst.Seconds()
	if b.at.IsZero() {
		return most
	}
	return min(most, b.left+float64(rate)*max(0, now.Sub(b.at).Seconds()))
}
