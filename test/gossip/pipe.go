package gossip

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBuffer is how much a side may send without the other one's reading.
const pipeBuffer = 64 << 10

// pair returns the two ends of a stream.
func pair(a, b *Host, local, remote net.Addr) (net.Conn, net.Conn) {
	out, in := newHalf(a, b), newHalf(b, a)
	return &pipe{in: in, out: out, local: local, remote: remote}, &pipe{in: out, out: in, local: remote, remote: local}
}

// half is one direction of a stream.
type half struct {
	from, to *Host

	mu      sync.Mutex
	wake    chan struct{} // closed at every change
	flight  []flight
	running bool
	ready   []byte
	sent    bool // all was sent
	closed  bool // all of it arrived
	broken  bool // nobody reads any more
	last    time.Time
}

// flight is what is under way.
type flight struct {
	b  []byte
	at time.Time
}

func newHalf(from, to *Host) *half { return &half{from: from, to: to, wake: make(chan struct{})} }

func (h *half) changedLocked() {
	close(h.wake)
	h.wake = make(chan struct{})
}

// write sends a piece; it waits while too much is under way.
func (h *half) write(b []byte, deadline func() (time.Time, <-chan struct{})) (int, error) {
	for {
		h.mu.Lock()
		under := len(h.ready)
		for _, f := range h.flight {
			under += len(f.b)
		}
		if h.broken || h.sent {
			h.mu.Unlock()
			return 0, io.ErrClosedPipe
		}
		if under < pipeBuffer {
			break
		}
		wake := h.wake
		h.mu.Unlock()
		if err := wait(wake, deadline); err != nil {
			return 0, err
		}
	}
	defer h.mu.Unlock()
	b = append([]byte(nil), b[:min(len(b), pipeBuffer)]...)
	segments := 1 + len(b)/segment
	h.from.sent.Add(int64(len(b) + segments*segmentHead))
	delay, lost, _ := h.from.network.path(h.from, h.to)
	if lost {
		delay += resend
	}
	h.fly(flight{b, time.Now().Add(delay)})
	return len(b), nil
}

// fly puts a piece under way.
func (h *half) fly(f flight) {
	if f.at.Before(h.last) {
		f.at = h.last
	}
	h.last = f.at
	h.flight = append(h.flight, f)
	if !h.running {
		h.running = true
		go h.deliver()
	}
}

// deliver lets what is under way arrive. What is sent into a cut is sent again.
func (h *half) deliver() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.flight) > 0 {
		f := h.flight[0]
		h.mu.Unlock()
		time.Sleep(time.Until(f.at))
		_, _, cut := h.from.network.path(h.from, h.to)
		if cut {
			time.Sleep(resend)
		}
		h.mu.Lock()
		switch {
		case h.broken, h.from.down.Load(), h.to.down.Load():
			h.flight, h.closed = nil, true
		case cut:
			continue
		case f.b == nil:
			h.flight, h.closed = h.flight[1:], true
		default:
			h.flight, h.ready = h.flight[1:], append(h.ready, f.b...)
			h.to.got.Add(int64(len(f.b) + (1+len(f.b)/segment)*segmentHead))
		}
		h.changedLocked()
	}
	h.running = false
}

func (h *half) read(b []byte, deadline func() (time.Time, <-chan struct{})) (int, error) {
	for {
		h.mu.Lock()
		if h.broken {
			h.mu.Unlock()
			return 0, io.ErrClosedPipe
		}
		if len(h.ready) > 0 {
			n := copy(b, h.ready)
			h.ready = h.ready[n:]
			h.changedLocked()
			h.mu.Unlock()
			return n, nil
		}
		if h.closed {
			h.mu.Unlock()
			return 0, io.EOF
		}
		wake := h.wake
		h.mu.Unlock()
		if err := wait(wake, deadline); err != nil {
			return 0, err
		}
	}
}

// wait waits for a change or for the deadline, which may move meanwhile.
func wait(wake <-chan struct{}, deadline func() (time.Time, <-chan struct{})) error {
	at, moved := deadline()
	var late <-chan time.Time
	if !at.IsZero() {
		left := time.Until(at)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		t := time.NewTimer(left)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-wake:
	case <-moved:
	case <-late:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// pipe is one end of a stream.
type pipe struct {
	in, out       *half
	local, remote net.Addr

	mu          sync.Mutex
	read, write mark
	once        sync.Once
}

// mark is a deadline.
type mark struct {
	at    time.Time
	moved chan struct{}
}

func (m *mark) set(at time.Time) {
	m.at = at
	if m.moved != nil {
		close(m.moved)
	}
	m.moved = make(chan struct{})
}

func (p *pipe) deadline(m *mark) func() (time.Time, <-chan struct{}) {
	return func() (time.Time, <-chan struct{}) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if m.moved == nil {
			m.moved = make(chan struct{})
		}
		return m.at, m.moved
	}
}

func (p *pipe) Read(b []byte) (int, error) { return p.in.read(b, p.deadline(&p.read)) }

func (p *pipe) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var part int
		part, err = p.out.write(b[n:], p.deadline(&p.write))
		n += part
	}
	return n, err
}

func (p *pipe) Close() error {
	p.once.Do(func() {
		p.out.mu.Lock()
		delay, _, _ := p.out.from.network.path(p.out.from, p.out.to)
		p.out.sent = true
		p.out.fly(flight{nil, time.Now().Add(delay)})
		p.out.mu.Unlock()
		p.in.mu.Lock()
		p.in.broken = true
		p.in.changedLocked()
		p.in.mu.Unlock()
	})
	return nil
}

func (p *pipe) LocalAddr() net.Addr  { return p.local }
func (p *pipe) RemoteAddr() net.Addr { return p.remote }

func (p *pipe) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read.set(t)
	p.write.set(t)
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read.set(t)
	return nil
}

func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write.set(t)
	return nil
}
