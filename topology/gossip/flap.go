package gossip

import "time"

// How long a flag that fell stays down although all is well, and for how long a fall counts.
const (
	flapWait   = 10 * time.Second
	flapMost   = 2 * time.Minute
	flapMemory = 10 * time.Minute
)

// Flap is a flag with hysteresis: it falls at once, and rises when the observations were good for a while: ten seconds, and twice
// as long, up to two minutes, each time that it falls again within ten minutes. The zero value is down and rises with the first
// observation if that is good. It is not safe for concurrent use.
type Flap struct {
	up    bool
	wait  time.Duration // of good observations before it rises
	good  time.Time     // since when they are good; zero while they are bad
	risen time.Time
}

// Up is the flag.
func (f *Flap) Up() bool { return f.up }

// Set notes an observation and returns the flag.
func (f *Flap) Set(good bool, now time.Time) bool {
	switch {
	case good && f.good.IsZero():
		f.good = now
	case !good:
		f.fall(now)
	}
	if good && !f.up && now.Sub(f.good) >= f.wait {
		f.up, f.risen = true, now
	}
	return f.up
}

func (f *Flap) fall(now time.Time) {
	again := f.up && f.wait > 0 && now.Sub(f.risen) < flapMemory
	switch {
	case again:
		f.wait = min(2*f.wait, flapMost)
	case f.up || f.wait == 0:
		f.wait = flapWait
	}
	f.up, f.good = false, time.Time{}
}

// rttClasses are the upper bounds of the classes of round trips. Half as much again is worth moving work for; less is not.
var rttClasses = [...]time.Duration{
	5 * time.Millisecond, 8 * time.Millisecond, 12 * time.Millisecond, 18 * time.Millisecond, 27 * time.Millisecond,
	40 * time.Millisecond, 60 * time.Millisecond, 90 * time.Millisecond, 135 * time.Millisecond, 200 * time.Millisecond,
	300 * time.Millisecond, 450 * time.Millisecond, 700 * time.Millisecond, time.Second, 2 * time.Second,
}

// RTTClass is the class of a round trip, named by its upper bound. before is the class it was in, 0 for none: that one stays while
// the round trip is less than a sixth beyond it, so that a value at a bound does not change the class all the time.
func RTTClass(before, rtt time.Duration) time.Duration {
	lower := time.Duration(0)
	class := rttClasses[len(rttClasses)-1]
	for _, upper := range rttClasses {
		if upper == before && rtt >= lower-lower/6 && rtt <= upper+upper/6 {
			return before
		}
		if rtt <= upper {
			class = min(class, upper)
		}
		lower = upper
	}
	return class
}

// How long a node takes no work after its start.
const (
	settleFirst = 5 * time.Second
	settleMost  = 5 * time.Minute
)

// Settle is how long a node takes no work after its start, by how many lives of its name the others saw end without a word lately
// ([Pool.Crashes]): a node that dies of its work must not get it again and again.
func Settle(crashes int) time.Duration {
	if crashes > 6 { // beyond it the doubling is over the most anyhow
		return settleMost
	}
	return min(settleFirst<<max(0, crashes), settleMost)
}
