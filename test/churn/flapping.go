package churn

import (
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// flapping is a listener whose network can be taken away: connections break, and new ones are hung up at once.
type flapping struct {
	net.Listener

	mu      sync.Mutex
	cut     bool
	open    map[net.Conn]struct{}
	refused int // since the last cut
}

// startFlapping starts a cluster of one broker behind such a listener.
func startFlapping(t testing.TB, port int, opts ...kfake.Opt) *flapping {
	t.Helper()
	f := &flapping{open: make(map[net.Conn]struct{})}
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.Ports(port), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		f.Listener = l
		return f, nil
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f
}

// Accept implements net.Listener.
func (f *flapping) Accept() (net.Conn, error) {
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		if f.cut {
			f.refused++
			f.mu.Unlock()
			_ = c.Close()
			continue
		}
		f.open[c] = struct{}{}
		f.mu.Unlock()
		return &flappingConn{Conn: c, of: f}, nil
	}
}

// set takes the network away, or brings it back.
func (f *flapping) set(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut, f.refused = cut, 0
	if cut {
		for c := range f.open {
			_ = c.Close()
		}
		clear(f.open)
	}
}

// tried is how many connections were hung up since the network was taken away.
func (f *flapping) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// flappingConn forgets itself when it is closed.
type flappingConn struct {
	net.Conn
	of *flapping
}

// Close implements net.Conn.
func (c *flappingConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
