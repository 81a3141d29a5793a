package embedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/shape"
)

const (
	readBuffer = 8 << 10
	// largeFrame is the size from which a frame counts against the budget;
	// it also is the first step in which such a frame's memory grows.
	largeFrame = 64 << 10
	// writeTimeout ends a connection whose client does not take its answers.
	writeTimeout = time.Minute
)

// conn is a client's connection as kfake sees it: Read hands over checked
// frames only. Requests that must not reach kfake are answered from inside
// Read, after the answers to all earlier requests have left, because a Kafka
// connection is answered in order.
//
// kfake calls Read from one goroutine and Write from another.
type conn struct {
	net.Conn
	g     *guard
	in    *bufio.Reader
	ready []byte  // what Read still has to hand over of the current frame
	frame *[]byte // the pooled buffer under ready

	mu      sync.Mutex
	settled sync.Cond // pending became empty, or closed
	pending []request // handed over, not yet answered, oldest first
	closed  bool
}

// request is what must be remembered of a request until its answer.
type request struct {
	header header
	stores bool  // its answer acknowledges that something was stored
	held   int64 // bytes of the budget
}

func newConn(g *guard, raw net.Conn) *conn {
	c := &conn{Conn: raw, g: g, in: bufio.NewReaderSize(raw, readBuffer)}
	c.settled.L = &c.mu
	g.opened(c)
	return c
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.ready) == 0 {
		if err := c.next(); err != nil {
			if r, ok := rejectionOf(err); ok {
				c.g.rejected(c, r)
			}
			return 0, err
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	if len(c.ready) == 0 {
		c.g.buffers.Put(c.frame)
		c.frame = nil
	}
	return n, nil
}

// next reads one frame and hands it over, answers it, or rejects it.
func (c *conn) next() error {
	h, size, err := c.readHeader()
	if err != nil {
		return err
	}
	frame, held, err := c.readFrame(size)
	if err != nil {
		c.g.budget.Release(held)
		return err
	}
	done, err := c.judge(h, *frame, &held)
	if err != nil || done {
		c.g.budget.Release(held)
		c.g.buffers.Put(frame)
		return err
	}
	c.frame, c.ready = frame, *frame
	c.g.count.requests.Add(1)
	return nil
}

// readHeader waits for a frame and judges its first bytes.
func (c *conn) readHeader() (header, int, error) {
	if c.in.Buffered() == 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.g.cfg.IdleTimeout)); err != nil {
			return header{}, 0, err
		}
		if _, err := c.in.Peek(1); err != nil {
			return header{}, 0, err
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(c.g.cfg.FrameTimeout)); err != nil {
		return header{}, 0, err
	}
	first, err := c.in.Peek(sizeBytes)
	if err != nil {
		return header{}, 0, c.cut(err)
	}
	size, err := checkSize(first, c.g.cfg.MaxFrameBytes)
	if err != nil {
		return header{}, 0, err
	}
	prefix, err := c.in.Peek(sizeBytes + headerPrefix)
	if err != nil {
		return header{}, 0, c.cut(err)
	}
	h := parsePrefix(prefix[sizeBytes:])
	if err := c.g.versions.check(h); err != nil {
		return header{}, 0, err
	}
	if h.key != int16(kmsg.Produce) && size > maxSmallFrame {
		return header{}, 0, reject(ReasonSize, "%s of %d bytes, at most %d", kmsg.NameForKey(h.key), size, maxSmallFrame)
	}
	return h, size, nil
}

// readFrame reads a whole frame, its size included. The memory of a large one
// grows with what has arrived, so that a length alone costs nothing. The bytes
// held of the budget are returned even with an error.
func (c *conn) readFrame(size int) (frame *[]byte, held int64, err error) {
	total := sizeBytes + size
	frame, _ = c.g.buffers.Get().(*[]byte)
	if frame == nil {
		frame = new([]byte)
	}
	buf := (*frame)[:0]
	deadline := time.Now().Add(c.g.cfg.FrameTimeout)
	for have := 0; have < total; have = len(buf) {
		want := min(total, max(largeFrame, 2*have))
		if total > largeFrame {
			if err := c.acquire(int64(want-have), deadline); err != nil {
				return frame, held, err
			}
			held += int64(want - have)
		}
		if cap(buf) < want {
			buf = append(make([]byte, 0, want), buf...)
		}
		buf = buf[:want]
		if _, err := io.ReadFull(c.in, buf[have:]); err != nil {
			return frame, held, c.cut(err)
		}
	}
	*frame = buf
	return frame, held, nil
}

// acquire takes n bytes of the budget of all connections.
func (c *conn) acquire(n int64, deadline time.Time) error {
	if c.g.budget.TryAcquire(n) {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if c.g.budget.Acquire(ctx, n) != nil {
		return reject(ReasonMemory, "no %d bytes for a frame within %s", n, c.g.cfg.FrameTimeout)
	}
	return nil
}

// judge decides about a whole frame. Done means that it was answered here.
func (c *conn) judge(h header, frame []byte, held *int64) (done bool, err error) {
	if h.key == keyAPIVersions && !c.g.versions.supports(h) {
		return true, c.answer(h, c.g.versions.unsupported(), false)
	}
	known, err := c.g.shapes.Request(h.key, h.version)
	if err != nil {
		return false, reject(ReasonVersion, "%v", err)
	}
	body, err := bodyOf(frame[sizeBytes:], known.Flexible())
	if err != nil {
		return false, err
	}
	elements, ok := known.Walk(body)
	if !ok {
		return false, reject(ReasonBody, "%s v%d does not have its shape", kmsg.NameForKey(h.key), h.version)
	}
	silent := h.key == int16(kmsg.Produce) && isSilent(body, known.Flexible())
	stores := mustStore(h.key)
	if stores && !c.g.storage.allows(len(frame)) {
		return true, c.refuse(h, body, silent)
	}
	if done, err := c.examine(h, body, known.Flexible()); done || err != nil {
		return done, err
	}
	if memory := int64(elements) * shape.ElementBytes; memory > largeFrame {
		memory = min(memory, c.g.cfg.MaxBufferedBytes/2)
		if err := c.acquire(memory, time.Now().Add(c.g.cfg.FrameTimeout)); err != nil {
			return false, err
		}
		*held += memory
	}
	if silent {
		// No answer will come; kfake's own copy lives as long as it takes.
		c.g.budget.Release(*held)
		*held = 0
		return false, nil
	}
	return false, c.expect(request{header: h, stores: stores, held: *held})
}

// examine answers a request with contents that kfake must not see.
func (c *conn) examine(h header, body []byte, flexible bool) (done bool, err error) {
	codes, bad := []int16(nil), false
	switch {
	case h.key == int16(kmsg.Produce):
		codes, bad = c.g.judgeBatches(body, flexible)
		if !bad {
			return false, nil
		}
		c.g.count.badBatches.Add(1)
	case !examined(h.key):
		return false, nil
	}
	req, err := readRequest(h, body)
	if err != nil {
		return false, err
	}
	if r, ok := req.(*kmsg.ProduceRequest); ok {
		if r.Acks == 0 {
			return true, nil
		}
		return true, c.answer(h, refuseBatches(r, codes), flexible)
	}
	if o := objectTo(req); o != nil {
		return true, c.answer(h, refuseAdmin(req, o.code, o.text), flexible)
	}
	return false, nil
}

// refuse answers a request that must not be stored now.
func (c *conn) refuse(h header, body []byte, silent bool) error {
	c.g.count.diskRefusals.Add(1)
	if silent {
		return nil
	}
	req, err := readRequest(h, body)
	if err != nil {
		return err
	}
	resp := refuse(req)
	if resp == nil {
		return reject(ReasonDisk, "%s cannot be stored", kmsg.NameForKey(h.key))
	}
	return c.answer(h, resp, req.IsFlexible())
}

// expect remembers a request that kfake will answer.
func (c *conn) expect(r request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.pending = append(c.pending, r)
	return nil
}

// answer writes a response of our own, in its turn.
func (c *conn) answer(h header, resp kmsg.Response, flexible bool) error {
	c.mu.Lock()
	for len(c.pending) > 0 && !c.closed {
		c.settled.Wait()
	}
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 4, 128), uint32(h.correlation))
	if flexible {
		out = append(out, 0) // no tags
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-sizeBytes))
	return c.write(out)
}

// Write implements net.Conn; kfake writes one whole response per call.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.pending) == 0 {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	r := c.pending[0]
	c.mu.Unlock()
	// An answer that may acknowledge a lost write must not leave: the
	// client sees a cut connection, which means "unknown", and asks again.
	if r.stores && c.g.storage.failed.Load() {
		c.g.rejected(c, &rejection{ReasonDisk, "answer withheld, the disk did not take a write"})
		c.Close()
		return 0, net.ErrClosed
	}
	frame := p
	if r.header.key == keyAPIVersions {
		var err error
		if frame, err = capAnswer(p, r.header.version); err != nil {
			return 0, err
		}
	}
	if err := c.write(frame); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 { // else closed meanwhile
		c.g.budget.Release(c.pending[0].held)
		if c.pending = c.pending[1:]; len(c.pending) == 0 {
			c.pending = nil
			c.settled.Broadcast()
		}
	}
	return len(p), nil
}

func (c *conn) write(p []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(p)
	return err
}

// Close implements net.Conn. It may be called more than once.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for _, r := range c.pending {
		c.g.budget.Release(r.held)
	}
	c.pending = nil
	c.settled.Broadcast()
	c.mu.Unlock()
	c.g.closed(c)
	return c.Conn.Close()
}

// cut tells a client that stopped in the middle of a frame, which is its
// fault, from a connection that ended.
func (c *conn) cut(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return reject(ReasonTimeout, "frame not finished within %s", c.g.cfg.FrameTimeout)
	}
	return err
}
