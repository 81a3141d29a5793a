package fabric

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// A node that ends in good order leaves no connection behind, whenever it ends and however slow its paths are.
func TestStop_LeavesNoConnectionBehind(t *testing.T) {
	for i := range 12 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}, Seed: uint64(i), Brokers: 1 + i%3})
				defer f.Close()
				log := judge.NewLog()
				write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 2000, Size: 1000})
				n := f.Run("n1", nil)
				time.Sleep(time.Duration(i%4) * 400 * time.Millisecond)
				for _, p := range n.Paths {
					p.Slow(time.Duration(f.rng.IntN(400))*time.Millisecond, time.Duration(f.rng.IntN(400))*time.Millisecond, 20_000)
				}
				time.Sleep(time.Duration(f.rng.IntN(3000)) * time.Millisecond)
				n.cancel()
				<-n.done
				time.Sleep(time.Minute)
				for name, p := range n.Paths {
					p.mu.Lock()
					open := len(p.conns)
					p.mu.Unlock()
					if open > 0 {
						t.Errorf("%d connections to %s are open a minute after the end", open, name)
					}
				}
				n.Stop()
			})
		})
	}
}
