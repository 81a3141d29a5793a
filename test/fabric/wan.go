package fabric

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrCut is what dialling over a cut path answers: as a refused connection, after which a client asks another broker.
var ErrCut error = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// Path is the network between one node and one cluster. Out is the direction
// from the node to the cluster.
type Path struct {
	net *kfake.VirtualNetwork
	// buffers: a write ends before the other side reads, as with a socket's buffer. Without it a connection is a pipe.
	buffers bool

	mu    sync.Mutex
	out   direction
	in    direction
	conns map[*conn]struct{}
	down  bool          // new connections are refused
	held  chan struct{} // nil: nothing is held; else closed when it is let go
	dials int
	// narrow is what all connections together carry; nil: no limit.
	narrow [2]*bottleneck // out, in
}

// bottleneck is a line that connections share: each of them sends a piece in its turn, as TCP shares a line.
type bottleneck struct {
	rate int // bytes per second

	mu   sync.Mutex
	free time.Time
}

// piece is what a connection sends over a bottleneck before it is another one's turn.
const piece = 16 << 10

// pass is the time that so many bytes need, behind those before them.
func (b *bottleneck) pass(bytes int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.free.Before(now) {
		b.free = now
	}
	b.free = b.free.Add(time.Duration(bytes) * time.Second / time.Duration(b.rate))
	return b.free.Sub(now)
}

// direction is one way of a path.
type direction struct {
	delay time.Duration // of what is written; what comes next follows as closely as it was written
	rate  int           // bytes per second; 0 = no limit
	cut   bool          // writes vanish: the other side hears nothing
}

func newPath(network *kfake.VirtualNetwork) *Path {
	return &Path{net: network, conns: make(map[*conn]struct{})}
}

// Dial connects over the path; it is a broker.Profile's Dial.
func (p *Path) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-held:
		}
	}
	if p.isDown() {
		return nil, ErrCut
	}
	inner, err := p.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, path: p, late: make(chan parcel, 1<<14), closed: make(chan struct{})}
	p.mu.Lock()
	if p.down { // it was cut meanwhile
		p.mu.Unlock()
		_ = inner.Close()
		return nil, ErrCut
	}
	p.conns[c] = struct{}{}
	p.dials++
	p.mu.Unlock()
	return c, nil
}

func (p *Path) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// Dials counts the connections that were ever made.
func (p *Path) Dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
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
	p.down, p.out, p.in, p.narrow = false, direction{}, direction{}, [2]*bottleneck{}
	p.letGoLocked()
}

// Hold stops everything that is written and read, as for a process that is stopped: nothing is lost, and all of it goes on after LetGo.
func (p *Path) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// LetGo ends a Hold.
func (p *Path) LetGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letGoLocked()
}

func (p *Path) letGoLocked() {
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// Slow delays both directions and limits their bytes per second. A cluster says nothing unasked, so that the way there can
// have the delay of both.
func (p *Path) Slow(out, in time.Duration, rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.delay = out + in
	p.out.rate, p.in.rate = rate, rate
}

// Narrow limits the bytes per second of all connections together, in each direction.
func (p *Path) Narrow(rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.narrow = [2]*bottleneck{{rate: rate}, {rate: rate}}
}

// Deaf makes what the cluster says vanish: the half-open link.
func (p *Path) Deaf() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in.cut = true
}

// Mute makes what is said to the cluster vanish: the other half-open link.
func (p *Path) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.cut = true
}

// takes is the time that so many bytes need.
func (d direction) takes(bytes int) time.Duration {
	if d.rate > 0 {
		return time.Duration(bytes) * time.Second / time.Duration(d.rate)
	}
	return 0
}

// conn applies the faults of its path.
type conn struct {
	net.Conn
	path *Path
	late chan parcel // on its way, in order

	mu      sync.Mutex
	carries bool // something is on its way, or was: then all that follows goes after it
	once    sync.Once
	closed  chan struct{}
}

// parcel is what was written and is on its way.
type parcel struct {
	at    time.Time // it arrives
	bytes []byte
}

// pass waits while the path is held.
func (c *conn) pass() error {
	for {
		c.path.mu.Lock()
		held := c.path.held
		c.path.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-held:
		}
	}
}

func (c *conn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	c.path.mu.Lock()
	d, narrow := c.path.out, c.path.narrow[0]
	c.path.mu.Unlock()
	if d.cut {
		return len(b), nil
	}
	err := c.wait(d.takes(len(b)))
	for left := len(b); err == nil && narrow != nil && left > 0; left -= piece {
		err = c.wait(narrow.pass(min(left, piece)))
	}
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	carries := c.carries
	if !carries && (d.delay > 0 || c.path.buffers) {
		c.carries = true
		go c.carry()
	}
	c.mu.Unlock()
	if !carries && d.delay == 0 && !c.path.buffers {
		return c.Conn.Write(b)
	}
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case c.late <- parcel{time.Now().Add(d.delay), slices.Clone(b)}:
		return len(b), nil
	}
}

// wait lets time pass while the connection is open.
func (c *conn) wait(d time.Duration) error {
	if d <= 0 { // a timer that is over at once, in a select in a bubble, ends Go 1.26's race detector
		return nil
	}
	select {
	case <-c.closed:
		return net.ErrClosed
	case <-time.After(d):
		return nil
	}
}

// carry delivers what is on its way.
func (c *conn) carry() {
	for {
		select {
		case <-c.closed:
			return
		case p := <-c.late:
			if c.wait(time.Until(p.at)) != nil {
				return
			}
			if _, err := c.Conn.Write(p.bytes); err != nil {
				c.Close()
				return
			}
		}
	}
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		c.path.mu.Lock()
		narrow := c.path.narrow[1]
		c.path.mu.Unlock()
		if narrow != nil {
			b = b[:min(len(b), piece)]
		}
		n, err := c.Conn.Read(b)
		if passed := c.pass(); passed != nil {
			return 0, passed
		}
		if narrow != nil && n > 0 {
			if over := c.wait(narrow.pass(n)); over != nil {
				return 0, over
			}
		}
		c.path.mu.Lock()
		d := c.path.in
		c.path.mu.Unlock()
		if d.cut && err == nil {
			continue
		}
		if over := c.wait(d.takes(n)); over != nil {
			return 0, over
		}
		return n, err
	}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.path.mu.Lock()
	delete(c.path.conns, c)
	c.path.mu.Unlock()
	return c.Conn.Close()
}
