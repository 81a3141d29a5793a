package coordinator

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/vigil"
	"github.com/isthmus-project/isthmus/topology"
)

// TestCare_LeavesTheDead: a home of which a majority says for long enough that it is lost is left, by one of those that watch; a short while moves nobody; and it is not done again soon.
func TestCare_LeavesTheDead(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var lost atomic.Pointer[string]
		none := ""
		lost.Store(&none)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan struct{}, 2)
		for turn, node := range []string{"eu-1", "eu-2"} {
			c := l.coordinator(node)
			c.router.Failover = topology.Failover{FailoverTo: "us", FailoverAfter: 5 * time.Second}
			c.deps.Dead = func(cluster string) vigil.Verdict { return vigil.Verdict{Dead: cluster == *lost.Load()} }
			go func() {
				_ = c.Care(ctx, turn)
				done <- struct{}{}
			}()
		}
		asked := l.coordinator("us-1")
		is := func(home string, generationNow int64) {
			t.Helper()
			if got, _, g, err := asked.Home(t.Context(), ""); err != nil || got != home || g != generationNow {
				t.Errorf("home %s, generation %d, %v; want %s, %d", got, g, err, home, generationNow)
			}
		}
		eu := "eu"
		lost.Store(&eu)
		time.Sleep(4 * time.Second)
		lost.Store(&none)
		time.Sleep(4 * time.Second)
		is("eu", 0)
		l.mu.Lock()
		l.lost = "127.0.0.1:9100"
		l.mu.Unlock()
		lost.Store(&eu)
		time.Sleep(12 * time.Second)
		is("us", 1)
		l.mu.Lock()
		l.lost = ""
		l.mu.Unlock()
		lost.Store(&none)
		if s, _, _ := l.run(t.Context(), asked, l.order(asked, "", generation.Back)); s.Outcome != "committed" {
			t.Fatalf("back: %s, %s", s.Outcome, s.Why)
		}
		lost.Store(&eu)
		time.Sleep(time.Minute)
		is("eu", 2) // that was not long ago
		stop()
		<-done
		<-done
	})
}
