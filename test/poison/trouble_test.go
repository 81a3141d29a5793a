package poison

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// TestHalt_OutlivesTheProcess: a partition that is halted before bad records is so from the first moment of the next process on, since the same time,
// whatever is tried meanwhile; it goes on when they can be read.
func TestHalt_OutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, fabric.Options{}, nil, nil)
		s.forgers["eu"].set(func(f *forger) { f.serve = damage(0, 10, kinds[0].serve) })
		s.start()
		defer func() { s.stop() }()
		s.produce(0, batchOf(0, 10), batchOf(10, 5))
		s.until("the partition halts", time.Minute, func() bool { return s.pump(0).State == mirror.StateHalted })
		time.Sleep(time.Minute)
		was := s.pump(0)
		for range 3 {
			s.kill()
			s.start()
			s.until("the partition is there", time.Minute, func() bool { return s.pump(0).Cause == was.Cause })
			if is := s.pump(0); is.State != mirror.StateHalted && is.State != mirror.StateRetrying && is.State != mirror.StateFinding || is.Since.After(was.Since) {
				t.Errorf("after a kill it is %s since %v (%s), before it was %s since %v", is.State, is.Since, is.Reason, was.State, was.Since)
			}
			time.Sleep(time.Minute)
			if is := s.pump(0); is.Cause != was.Cause || is.Since.After(was.Since) {
				t.Errorf("a minute later it is %s since %v, before it was %s since %v", is.Cause, is.Since, was.Cause, was.Since)
			}
		}
		s.forgers["eu"].set(func(f *forger) { f.serve = nil })
		s.until("everything is copied", time.Minute, s.copied(0, 15))
		s.check(nil)
	})
}
