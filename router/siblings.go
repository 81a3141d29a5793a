package router

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

const (
	// siblingEvery is how often the other instances are looked at, at most.
	siblingEvery = 300 * time.Millisecond
	// siblingPatience is how long one may take to take a connection; who is slower is no news.
	siblingPatience = 300 * time.Millisecond
)

// siblings are the other instances, as far as their doors tell. That a node is dead the fabric knows after some seconds; that its machine refuses connections
// to the door is known at once, and it is also so where the node lives and the door does not. It is looked while clients ask for metadata, as those
// do that lost a connection, and until the door is back.
type siblings struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	list atomic.Pointer[[]topology.Router] // this instance too

	mu     sync.Mutex
	gone   map[string]bool // nodes whose door refuses connections
	asked  int64           // requests for metadata at the last look
	looked time.Time
	busy   bool
}

// due reports whether to look now, where clients have asked for metadata so often. Who is told so looks.
func (s *siblings) due(now time.Time, asked int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy || asked == s.asked && len(s.gone) == 0 || now.Sub(s.looked) < siblingEvery {
		return false
	}
	s.busy, s.asked, s.looked = true, asked, now
	return true
}

// look connects to the doors of all instances but that of a node.
func (s *siblings) look(ctx context.Context, self string) {
	ctx, cancel := context.WithTimeout(ctx, siblingPatience)
	defer cancel()
	gone := make(map[string]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, i := range *s.list.Load() {
		if i.Node == self {
			continue
		}
		all.Go(func() {
			c, err := s.dial(ctx, "tcp", doorOf(i))
			if err == nil {
				_ = c.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, syscall.ECONNREFUSED) {
				gone[i.Node] = true
			}
		})
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.busy = gone, false
}

// refuses reports whether the door of a node does.
func (s *siblings) refuses(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone[node]
}

// doorOf is where an instance can be reached: where it listens, or what clients are told where that is everywhere.
func doorOf(r topology.Router) string {
	host, port, err := net.SplitHostPort(r.Listen)
	if err != nil {
		return r.Listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = r.Advertise
	}
	return net.JoinHostPort(host, port)
}
