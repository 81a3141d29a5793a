package real

import (
	"cmp"
	"net"
	"sync"
	"testing"
	"time"
)

// relay is the way to a broker, whose faults it has: it can be cut, lose one direction, be slow, and break its connections.
type relay struct {
	t   testing.TB
	l   net.Listener
	all sync.WaitGroup

	mu    sync.Mutex
	to    string // the broker
	ways  ways
	conns map[net.Conn]struct{}
}

// ways are the faults of a relay.
type ways struct {
	cut       bool          // connections break, and none is made
	deaf      bool          // what the broker says vanishes
	mute      bool          // what is said to the broker vanishes
	delay     time.Duration // of each piece
	perSecond int           // bytes, each way; 0 = no limit
}

// newRelay listens. It leads nowhere yet.
func newRelay(t testing.TB) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, l: l, conns: make(map[net.Conn]struct{}), ways: ways{cut: true}}
	r.all.Go(r.serve)
	t.Cleanup(func() {
		_ = l.Close()
		r.become(ways{cut: true})
		r.all.Wait()
	})
	return r
}

// lead has the relay lead to a broker, without faults.
func (r *relay) lead(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to, r.ways = to, ways{}
}

// become has the relay have these faults and no others.
func (r *relay) become(w ways) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ways = w
	if w.cut {
		r.resetLocked()
	}
}

// reset breaks all connections.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resetLocked()
}

func (r *relay) resetLocked() {
	for c := range r.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, and no end in good order
		}
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *relay) now() ways {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ways
}

// keep takes two ends of a connection over, unless it is cut.
func (r *relay) keep(near, far net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ways.cut {
		return false
	}
	r.conns[near], r.conns[far] = struct{}{}, struct{}{}
	return true
}

func (r *relay) serve() {
	for {
		near, err := r.l.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		to := r.to
		r.mu.Unlock()
		far, err := net.DialTimeout("tcp", to, time.Second)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !r.keep(near, far) {
			_ = near.Close()
			_ = far.Close()
			continue
		}
		r.all.Go(func() { r.carry(near, far, func(w ways) bool { return w.mute }) })
		r.all.Go(func() { r.carry(far, near, func(w ways) bool { return w.deaf }) })
	}
}

// carry copies one way until either end goes, and drops what comes while the way is lost.
func (r *relay) carry(from, to net.Conn, lost func(ways) bool) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		w := r.now()
		if wait := w.delay + time.Duration(n)*time.Second/time.Duration(cmp.Or(w.perSecond, 1<<40)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-r.t.Context().Done():
				return
			}
		}
		if n > 0 && !lost(w) {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
