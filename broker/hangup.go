package broker

import (
	"net"
	"sync"
	"syscall"
)

// lines are the connections that a cluster has open, of kgo and our own, so that all of them can be ended at once. A connection over
// a path that went dead in one direction only stays open for as long as its side's kernel cares, and what comes back is not told to it.
type lines struct {
	mu   sync.Mutex // never held across I/O
	open map[net.Conn]struct{}
	full int // how many there may be before those that were closed are looked for: looking takes as long as there are
}

// fewLines are not worth a look.
const fewLines = 64

func newLines() *lines { return &lines{open: make(map[net.Conn]struct{})} }

// add takes a connection over. What it returns is to be used in its place.
func (l *lines) add(c net.Conn) net.Conn {
	if l == nil {
		return c
	}
	if _, ok := c.(syscall.Conn); !ok {
		c = &tracked{Conn: c, lines: l}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= max(l.full, fewLines) {
		for old := range l.open {
			if isClosed(old) {
				delete(l.open, old)
			}
		}
		l.full = 2 * len(l.open)
	}
	l.open[c] = struct{}{}
	return c
}

// isClosed tells whether this side has closed a socket. A socket is not wrapped to hear of it: vectored writes need the socket itself.
func isClosed(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false // it takes itself out
	}
	raw, err := s.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// end closes all that is open now.
func (l *lines) end() {
	l.mu.Lock()
	open := l.open
	l.open = make(map[net.Conn]struct{})
	l.mu.Unlock()
	for c := range open {
		_ = c.Close() // it may be closed already
	}
}

// tracked is a connection that is no socket.
type tracked struct {
	net.Conn
	lines *lines
}

func (c *tracked) Close() error {
	c.lines.mu.Lock()
	delete(c.lines.open, c)
	c.lines.mu.Unlock()
	return c.Conn.Close()
}

// HangUp ends every connection that is open to the cluster. Those who use them see an error and connect anew: it is for a path that
// was found dead, over which nobody should wait for an answer any more.
func (c *Cluster) HangUp() { c.profile.lines.end() }
