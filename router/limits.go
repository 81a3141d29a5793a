package router

import (
	"errors"
	"net"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/router/relay"
)

// Why a connection is not taken.
var (
	// ErrConnections says that there are as many connections as there may be.
	ErrConnections = errors.New("too many connections")
	// ErrAddress says that one address has as many connections as it may.
	ErrAddress = errors.New("too many connections from one address")
	// ErrNotReady says that the home was not reached yet.
	ErrNotReady = errors.New("the home was not reached yet")
)

// guests counts connections, and bounds what they hold together.
type guests struct {
	limits Limits
	memory *semaphore.Weighted
	pieces *semaphore.Weighted // of long frames that pass

	mu  sync.Mutex
	all int
	of  map[string]int // by address
}

func newGuests(l Limits) *guests {
	return &guests{limits: l, memory: semaphore.NewWeighted(l.Memory), pieces: semaphore.NewWeighted(l.Memory / 4 / relay.PieceSize), of: make(map[string]int)}
}

// enter takes one connection from an address, or says why not.
func (g *guests) enter(address string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.limits.Connections:
		return ErrConnections
	case g.of[address] >= g.limits.PerAddress:
		return ErrAddress
	}
	g.all++
	g.of[address]++
	return nil
}

// leave is for each connection that entered.
func (g *guests) leave(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.of[address]--; g.of[address] == 0 {
		delete(g.of, address)
	}
}

// remote is where a connection comes from, as host:port.
func remote(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// addressOf is whose connection it is.
func addressOf(c net.Conn) string {
	a := remote(c)
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		return a
	}
	return host
}
