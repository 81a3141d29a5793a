package embedded

import (
	"net"
	"sync"
)

// gate is the listener that kfake sees. The real one outlives it, so that a
// cluster can be reopened without giving up its port. Until it is opened it
// lets only own connections in.
type gate struct {
	addr   net.Addr
	own    chan net.Conn   // connections of this package
	taken  <-chan net.Conn // connections of clients
	opened chan struct{}
	once   sync.Once
	closed chan struct{}
}

func newGate(addr net.Addr, taken <-chan net.Conn) *gate {
	return &gate{
		addr:   addr,
		own:    make(chan net.Conn),
		taken:  taken,
		opened: make(chan struct{}),
		closed: make(chan struct{}),
	}
}

// open lets clients in; to be called once.
func (g *gate) open() { close(g.opened) }

// Accept waits for a connection that the guard let in.
func (g *gate) Accept() (net.Conn, error) {
	nilOrOpened := g.opened
	var nilOrTaken <-chan net.Conn
	for {
		select {
		case conn := <-g.own:
			return conn, nil
		case conn := <-nilOrTaken:
			return conn, nil
		case <-nilOrOpened:
			nilOrOpened, nilOrTaken = nil, g.taken
		case <-g.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept; it never fails.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

// Addr is the address that clients connect to: kfake advertises it.
func (g *gate) Addr() net.Addr { return g.addr }
