package router

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
)

// leaseholder is a set whose lease is of a generation.
func leaseholder(of int64) *follower {
	clock := generation.Clock()
	f := &follower{r: &Router{deps: Deps{Clock: clock}, moving: moving{stages: newStages(nil)}}}
	l := generation.Grant(clock(), 1, 1, generation.State{Generation: of})
	f.lease.Store(&l)
	return f
}

// TestLeased: a lease is of one generation, and for a while.
func TestLeased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leaseholder(3)
		if !f.leased(3) || f.leased(2) || f.leased(4) {
			t.Errorf("%v %v %v", f.leased(3), f.leased(2), f.leased(4))
		}
		time.Sleep(generation.LeaseLength)
		if f.leased(3) {
			t.Error("it does not end")
		}
		if new(follower).leased(0) {
			t.Error("nobody granted one")
		}
	})
}

// BenchmarkLeased is what each write is asked twice where isolated is "hold".
func BenchmarkLeased(b *testing.B) {
	f := leaseholder(3)
	b.ReportAllocs()
	for b.Loop() {
		if !f.leased(3) {
			b.StopTimer()
			f = leaseholder(3)
			b.StartTimer()
		}
	}
}
