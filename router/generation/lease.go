package generation

import "time"

const (
	// LeaseLength is how long a coordinator waits that has prepared a round, so that no instance holds a lease that does not know of it.
	LeaseLength = 3 * time.Second
	// rateMargin is the part of a lease that its holder does without: clocks may run up to a tenth faster than others.
	rateMargin = 10
)

// Moment is a time by two clocks of one process. Neither alone tells that the process or its machine stood still: Mono does not go on while a machine
// sleeps, and Wall can be set.
type Moment struct {
	Mono time.Duration // since the process began; never goes back
	Wall time.Duration // since 1970
}

// Clock gives the moments of a process.
func Clock() func() Moment {
	began := time.Now()
	return func() Moment {
		now := time.Now()
		return Moment{now.Sub(began), time.Duration(now.UnixNano())}
	}
}

// Lease says until when an instance may take writes at the home of a generation. It is asked before a write is sent on, and before its answer is. The
// zero value is none.
type Lease struct {
	Generation int64
	Home       string // empty: the file's
	began      Moment
	good       bool
}

// Grant is the lease that a reading gives: of read control clusters the logs were read to their ends, from began on, which was taken before the
// first of them was asked; of is how many there are. Where something is open, or a majority is missing, there is none.
func Grant(began Moment, read, of int, st State) Lease {
	if of < 1 || read < majority(of) || st.Open {
		return Lease{}
	}
	return Lease{Generation: st.Generation, Home: st.Home, began: began, good: true}
}

// Holds reports whether the lease is good. By either clock less than nine tenths of LeaseLength must have gone by, and none may have gone back.
func (l Lease) Holds(now Moment) bool {
	within := func(d time.Duration) bool { return d >= 0 && d < LeaseLength-LeaseLength/rateMargin }
	return l.good && within(now.Mono-l.began.Mono) && within(now.Wall-l.began.Wall)
}

// Outwaited reports whether all leases are over that were granted by readings which did not see a prepare: prepared is when a majority had acknowledged it.
// Only the clock that never goes back counts; one that stood still makes the wait longer.
func Outwaited(prepared, now Moment) bool { return now.Mono-prepared.Mono >= LeaseLength }
