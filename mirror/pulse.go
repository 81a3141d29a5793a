package mirror

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	pulseEvery = 200 * time.Millisecond
	// stoppedFor is how long a pulse has to be missing before the process counts as having
	// been stopped. Another owner takes longer to find that nobody writes.
	stoppedFor = 500 * time.Millisecond
	// sendWithin is how old a batch that the broker might take from anybody may be before it is written, beside another owner.
	sendWithin = 250 * time.Millisecond
	// rivalFor is how long another owner that was met is reckoned with.
	rivalFor = 10 * time.Minute
)

var errStopped = errors.New("the process was stopped with the request in its hands; finding the places first")

// timing is the clock of a link.
type timing struct {
	now   func() time.Time
	pulse pulse
}

// pulse is what a link knows of its own process and of others that do its work. An owner that was frozen for
// a while believes that the answers it reads then are new.
type pulse struct {
	beat   atomic.Int64 // time of the last beat, ns since 1970; 0 before the first
	woke   atomic.Int64 // when it last went on after it had been stopped
	others atomic.Int64 // when another owner was last met
}

// run beats until ctx ends.
func (u *pulse) run(ctx context.Context, now func() time.Time) error {
	t := time.NewTicker(pulseEvery)
	defer t.Stop()
	for {
		u.tick(now())
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (u *pulse) tick(now time.Time) {
	last := u.beat.Load()
	// A clock that is set back hides how long the process stood still, and leaves woke in the future.
	if gone := now.UnixNano() - last; last != 0 && (gone > int64(stoppedFor) || gone < 0) {
		u.woke.Store(now.UnixNano())
	}
	u.beat.Store(now.UnixNano()) // last: who sees it sees that the process woke
}

// stoppedSince reports whether the process was stopped at some time after at, or the clock set back. Whoever finds that it was beats
// for it: else all that is known before the next beat would count as old, and every look at a place be followed by another.
func (u *pulse) stoppedSince(at, now time.Time) bool {
	last := u.beat.Load()
	if last == 0 || at.IsZero() {
		return false
	}
	if gone := now.UnixNano() - last; gone > int64(stoppedFor) || gone < -int64(stoppedFor) {
		u.tick(now)
	}
	return at.UnixNano() < u.woke.Load() || at.After(now)
}

// outdated reports whether a request that was gathered from began on may be one of before the process was stopped. How long
// the gathering took says little: merging and compressing take their time, and another owner takes longer to find
// that nobody writes. Only for a doubtful batch beside another owner, whose next look may be due, it counts.
func (u *pulse) outdated(began, now time.Time, doubtful bool) bool {
	return u.stoppedSince(began, now) || doubtful && u.rivals(now) && now.Sub(began) > sendWithin
}

// met notes that there is another owner.
func (u *pulse) met(now time.Time) { u.others.Store(now.UnixNano()) }

// rivals reports whether there may be another owner.
func (u *pulse) rivals(now time.Time) bool {
	at := u.others.Load()
	return at != 0 && now.UnixNano()-at < int64(rivalFor)
}
