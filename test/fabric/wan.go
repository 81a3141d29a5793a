package fabric

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrCut is what a connection over a cut path answers.
var ErrCut = errors.New("the path is cut")

// Path is the network between one node and one cluster. Out is the direction
// from the node to the cluster.
type Path struct {
	net *kfake.VirtualNetwork

	mu    sync.Mutex
	out   direction
	in    direction
	conns map[*conn]struct{}
	down  bool // new connections are refused
}

// direction is one way of a path.
type direction struct {
	delay time.Duration // of every write
	rate  int           // bytes per second; 0 = no limit
	cut   bool          // writes vanish: the other side hears nothing
}

func newPath(network *kfake.VirtualNetwork) *Path {
	return &Path{net: network, conns: make(map[*conn]struct{})}
}

// Dial connects over the path; it is a broker.Profile's Dial.
func (p *Path) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, ErrCut
	}
	inner, err := p.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, path: p}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	return c, nil
}

// Cut breaks every connection and refuses new ones until Heal.
func (p *Path) Cut() {
	p.mu.Lock()
	p.down = true
	conns := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// Reset breaks every connection; new ones work.
func (p *Path) Reset() {
	p.Cut()
	p.Heal()
}

// Heal takes all faults away.
func (p *Path) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.out, p.in = false, direction{}, direction{}
}

// Slow delays each write of both directions and limits their bytes per second.
func (p *Path) Slow(out, in time.Duration, rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.delay, p.in.delay = out, in
	p.out.rate, p.in.rate = rate, rate
}

// Deaf makes what the cluster says vanish: the half-open link.
func (p *Path) Deaf() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in.cut = true
}

func (p *Path) wait(d direction, bytes int) {
	sleep := d.delay
	if d.rate > 0 {
		sleep += time.Duration(bytes) * time.Second / time.Duration(d.rate)
	}
	if sleep > 0 {
		time.Sleep(sleep)
	}
}

// conn applies the faults of its path.
type conn struct {
	net.Conn
	path *Path
}

func (c *conn) Write(b []byte) (int, error) {
	c.path.mu.Lock()
	d := c.path.out
	c.path.mu.Unlock()
	c.path.wait(d, len(b))
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		c.path.mu.Lock()
		d := c.path.in
		c.path.mu.Unlock()
		if d.cut && err == nil {
			continue
		}
		c.path.wait(d, n)
		return n, err
	}
}

func (c *conn) Close() error {
	c.path.mu.Lock()
	delete(c.path.conns, c)
	c.path.mu.Unlock()
	return c.Conn.Close()
}
