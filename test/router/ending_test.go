package router

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/router"
)

// TestRouter_EndsOneByOne: a router that ends takes nobody any more, and ends each connection at a moment of its own, not all at once.
func TestRouter_EndsOneByOne(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		var n atomic.Int64
		w.rand = func() float64 { return float64(n.Add(1)-1) / 4 }
		d := w.start(0, 1, func(c *router.Config) { c.Drain, c.Timeouts.Linger = 2*time.Second, 100*time.Millisecond })
		time.Sleep(3 * time.Second)
		const clients = 4
		ends := make(chan time.Duration, clients)
		began := time.Now()
		for range clients {
			c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101")
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c)
			go func() {
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				_, _ = c.Read(make([]byte, 1))
				ends <- time.Since(began)
				_ = c.Close()
			}()
		}
		d.stop()
		time.Sleep(time.Millisecond)
		if c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101"); err == nil {
			_ = c.Close()
			t.Error("a connection is taken by a router that ends")
		}
		for i := range clients {
			if at, want := <-ends, time.Duration(i)*500*time.Millisecond; at < want || at > want+200*time.Millisecond { // a pipe knows no FIN, so it lingers
				t.Errorf("connection %d ended after %v, want %v", i, at, want)
			}
		}
		if err := d.end(); err != nil {
			t.Error(err)
		}
	})
}
