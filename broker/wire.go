package broker

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// wire is one connection to one broker. At most one goroutine writes and one reads.
//
// Each step of a read or a write renews its deadline, so a slow line may take its time and a dead one may not. The end of
// a context moves the deadline into the past, which wakes a blocked call on sockets and on net.Pipe alike.
type wire struct {
	conn     net.Conn
	in       *bufio.Reader
	out      *bufio.Writer // nil where the connection takes vectored writes itself
	clientID string
	name     string // for errors: cluster, broker, address
	versions versions
	session  saslSession

	mu   sync.Mutex
	dead error         // first error; set before the connection is closed
	done chan struct{} // closed with the connection
}

// readChunk is read under one deadline: 256 kB in 30 s is the slowest line that works.
const readChunk = 256 << 10

// firstChunk must arrive before memory for the rest of a frame is taken.
const firstChunk = 64 << 10

// errNotReady ends the first exchange with a broker that is silent.
var errNotReady = fmt.Errorf("no answer within %v: %w", dialTimeout, context.DeadlineExceeded)

// aLongTimeAgo is a deadline that has passed, also on the fake clock of a synctest bubble, which starts in 2000.
var aLongTimeAgo = time.Unix(1, 0)

// dialWire connects to a broker and makes the connection ready: TLS, ApiVersions, SASL.
func dialWire(ctx context.Context, p Profile, b Broker) (*wire, error) {
	name := fmt.Sprintf("broker %d of %s at %s", b.ID, p.Name, b.address())
	if b.ID < 0 { // of the bootstrap list
		name = fmt.Sprintf("a broker of %s at %s", p.Name, b.address())
	}
	conn, err := p.dial(ctx, "tcp", b.address())
	if _, told := isAccess(err); told {
		return nil, err // names cluster and address itself
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	w := &wire{conn: conn, in: bufio.NewReaderSize(conn, 4<<10), clientID: p.clientID(), name: name, done: make(chan struct{})}
	if _, ok := conn.(*net.TCPConn); !ok {
		w.out = bufio.NewWriterSize(conn, 32<<10) // fewer and larger TLS records
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errNotReady)
	defer cancel()
	if err := w.negotiate(ctx); err != nil {
		if errors.Is(err, errSpeaksTLS) {
			return nil, w.fail(p.wantsTLS(b.address()))
		}
		if _, told := isAccess(err); told {
			return nil, w.fail(err)
		}
		return nil, w.fail(fmt.Errorf("negotiate versions with %s: %w", name, err))
	}
	if p.SASL != nil {
		err := w.authenticate(ctx, p, b.address())
		if _, told := isAccess(err); told {
			return nil, w.fail(err)
		}
		if err != nil {
			return nil, w.fail(fmt.Errorf("authenticate to %s: %w", name, err))
		}
	}
	return w, nil
}

// fail closes the connection for err and returns the error it died of, which is the first one.
func (w *wire) fail(err error) error {
	w.mu.Lock()
	if w.dead == nil {
		w.dead = err
		close(w.done)
	}
	err = w.dead
	w.mu.Unlock()
	w.shut()
	return err
}

// err is what the connection died of, or nil.
func (w *wire) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// shut closes the socket. The deadline first: closing a TLS connection writes, which must not wait for a blocked peer.
func (w *wire) shut() {
	_ = w.conn.SetDeadline(aLongTimeAgo)
	_ = w.conn.Close()
}

func (w *wire) close() error {
	w.fail(fmt.Errorf("%s: %w", w.name, ErrClosed))
	return nil
}

// ioError turns the timeout that the end of ctx caused into the reason of ctx.
func ioError(ctx context.Context, err error, patience time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no progress for %v: %w", patience, err)
	}
	return err
}

// write sends one request, given as pieces of total bytes.
func (w *wire) write(ctx context.Context, pieces net.Buffers) error {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetWriteDeadline(aLongTimeAgo) })
	defer stop()
	if err := w.conn.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	if ctx.Err() != nil { // as in read
		return context.Cause(ctx)
	}
	err := w.writePieces(pieces)
	if err != nil {
		return ioError(ctx, err, ioTimeout)
	}
	return nil
}

func (w *wire) writePieces(pieces net.Buffers) error {
	if w.out == nil {
		_, err := pieces.WriteTo(w.conn)
		return err
	}
	for _, p := range pieces {
		if _, err := w.out.Write(p); err != nil {
			return err
		}
	}
	return w.out.Flush()
}

// read fills b. patience is how long the broker may stay silent before the first byte; 0 = the usual time.
func (w *wire) read(ctx context.Context, b []byte, patience time.Duration) error {
	patience = cmp.Or(patience, ioTimeout)
	for len(b) > 0 {
		n := min(len(b), readChunk)
		_ = w.conn.SetReadDeadline(time.Now().Add(patience)) // fails on a closed connection only, and the read says how it ended
		if ctx.Err() != nil {                                // looked at after the deadline is set, so that the end of ctx is never overwritten
			return context.Cause(ctx)
		}
		if _, err := io.ReadFull(w.in, b[:n]); err != nil {
			return ioError(ctx, err, patience)
		}
		b, patience = b[n:], ioTimeout
	}
	return nil
}

// readAnswer reads one whole answer without its correlation id, which must be the one given.
func (w *wire) readAnswer(ctx context.Context, pool *framePool, correlation int32, limit int, patience time.Duration) (*buffer, error) {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(aLongTimeAgo) })
	defer stop()
	var head [8]byte
	if err := w.read(ctx, head[:4], patience); err != nil {
		return nil, err
	}
	if head[0] == tlsAlert { // which may be shorter than the rest of the head
		return nil, errSpeaksTLS
	}
	if err := w.read(ctx, head[4:], 0); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if size < 0 || size > limit {
		return nil, protocolErrorf("an answer of %d bytes, the limit is %d: is this a Kafka listener without TLS?", size+4, limit)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != correlation {
		return nil, protocolErrorf("correlation id %d instead of %d", got, correlation)
	}
	if size == 0 {
		return pool.get(0), nil
	}
	buf := pool.get(min(size, firstChunk))
	if err := w.read(ctx, buf.b, 0); err != nil {
		pool.put(buf)
		return nil, fmt.Errorf("read an answer of %d bytes: %w", size, err)
	}
	if size <= firstChunk {
		return buf, nil
	}
	whole := pool.get(size)
	n := copy(whole.b, buf.b)
	pool.put(buf)
	if err := w.read(ctx, whole.b[n:], 0); err != nil {
		pool.put(whole)
		return nil, fmt.Errorf("read an answer of %d bytes: %w", size, err)
	}
	return whole, nil
}

// throttle is until when a broker asked us to be silent.
type throttle struct {
	mu    sync.Mutex
	until time.Time
}

// ask notes the throttle time of an answer. (From Kafka 2.0 on the broker leaves the waiting to the client; it also stops
// reading from those who do not wait.)
func (t *throttle) ask(millis int32) {
	if millis <= 0 {
		return
	}
	until := time.Now().Add(min(time.Duration(millis)*time.Millisecond, maxThrottle))
	t.mu.Lock()
	defer t.mu.Unlock()
	if until.After(t.until) {
		t.until = until
	}
}

// wait returns when the broker may be spoken to again.
func (t *throttle) wait(ctx context.Context) error {
	t.mu.Lock()
	until := t.until
	t.mu.Unlock()
	if until.IsZero() {
		return ctx.Err()
	}
	return pause(ctx, time.Until(until))
}

// pending reports whether the broker may not be spoken to yet.
func (t *throttle) pending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
