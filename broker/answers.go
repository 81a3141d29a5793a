package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/shape"
)

// Limits of what the client library is given to decode. Our own connections do not need them: their decoders trust no count.
const (
	// maxPlainAnswer bounds answers that carry no records. Metadata of half a million partitions fits.
	maxPlainAnswer = 32 << 20
	// maxAnswerElements bounds the elements of all arrays of an answer, which take a few hundred bytes of memory each.
	maxAnswerElements = 4 << 20
	// answerTimeout bounds one answer as a whole: kgo shares the connection, and its own patience ends with the first bytes.
	answerTimeout = 3 * time.Minute
)

// errLongAnswer is wrapped by the errors about an answer that is over one of them: less has to be asked for at a time.
var errLongAnswer = fmt.Errorf("%w: the answer is too long", ErrProtocol)

// dialChecked is dialClient with a check of what comes. The client library decodes with kmsg, which believes counts: an answer of
// a few bytes can keep it busy for minutes, one of a few megabytes can take all memory, of every cluster's links in this process. So
// each answer is held back until it is there and has the shape that it must have.
func (p Profile) dialChecked(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.dialClient(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &checkedConn{Conn: conn, refused: func(code int16) { p.gate.refused(address, codeError(code)) }}, nil
}

// answerShapes is shared by all connections: what it has learned is the same for all.
var answerShapes shape.Shapes

// checkedConn hands over answers whose shape is right and fails at any other. One goroutine reads and one writes, as kgo does.
type checkedConn struct {
	net.Conn
	refused func(code int16) // is told of a login that ended before there was a turn for it
	ready   []byte           // checked, not yet handed over
	failed  error            // ends reading

	mu    sync.Mutex
	asked []askedFor // oldest first
}

// askedFor is a request whose answer is due.
type askedFor struct {
	key, version int16
	correlation  int32
}

// Write notes what was asked for; kgo writes one whole request at a time.
func (c *checkedConn) Write(b []byte) (int, error) {
	const head = 4 + 2 + 2 + 4
	if len(b) >= head && int(binary.BigEndian.Uint32(b)) == len(b)-4 {
		c.mu.Lock()
		c.asked = append(c.asked, askedFor{int16(binary.BigEndian.Uint16(b[4:])), int16(binary.BigEndian.Uint16(b[6:])), int32(binary.BigEndian.Uint32(b[8:]))})
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

// Read hands over checked answers.
func (c *checkedConn) Read(b []byte) (int, error) {
	if len(c.ready) == 0 {
		if c.failed == nil {
			c.ready, c.failed = c.next()
		}
		if c.failed != nil {
			return 0, c.failed
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// take returns the request of an answer. Those before it had none: requests with acks 0, which we do not send, or answers that
// never came, after which kgo gives the connection up.
func (c *checkedConn) take(correlation int32) (askedFor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range c.asked {
		if a.correlation == correlation {
			c.asked = append(c.asked[:0], c.asked[i+1:]...)
			return a, true
		}
	}
	return askedFor{}, false
}

// next reads one answer with its length.
func (c *checkedConn) next() ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.Conn, head[:4]); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > MaxFrameBytes {
		return nil, protocolErrorf("an answer of %d bytes, the limit is %d: is this a Kafka listener without TLS?", size, MaxFrameBytes)
	}
	if _, err := io.ReadFull(c.Conn, head[4:]); err != nil {
		return nil, err
	}
	correlation := int32(binary.BigEndian.Uint32(head[4:]))
	request, ok := c.take(correlation)
	if !ok {
		return nil, protocolErrorf("correlation id %d is of no request", correlation)
	}
	name := kmsg.NameForKey(request.key)
	if request.key != keyFetch && size > maxPlainAnswer {
		return nil, fmt.Errorf("%w: %d bytes to %s, the limit is %d", errLongAnswer, size, name, maxPlainAnswer)
	}
	frame, err := c.body(head[:], size-4)
	if err != nil {
		return nil, err
	}
	elements, ok := checkAnswer(request, frame[len(head):])
	switch {
	case !ok:
		return nil, protocolErrorf("an answer of %d bytes is none to %s version %d", size, name, request.version)
	case elements > maxAnswerElements:
		return nil, fmt.Errorf("%w: %d elements to %s, the limit is %d", errLongAnswer, elements, name, maxAnswerElements)
	}
	if request.key == keyHandshake {
		if code := int16(binary.BigEndian.Uint16(frame[len(head):])); code != 0 {
			c.refused(code)
		}
	}
	return frame, nil
}

// body reads the rest of a frame. Memory for it grows with what has come; each step has its time, and so has the whole.
func (c *checkedConn) body(head []byte, size int) ([]byte, error) {
	end := time.Now().Add(answerTimeout)
	frame := append(make([]byte, 0, len(head)+min(size, firstChunk)), head...)
	for size > 0 {
		n := min(size, max(firstChunk, len(frame)))
		at := len(frame)
		frame = append(frame, make([]byte, n)...)
		for from := at; from < len(frame); {
			to := min(len(frame), from+readChunk)
			by := time.Now().Add(ioTimeout)
			if by.After(end) {
				by = end
			}
			if err := c.SetReadDeadline(by); err != nil {
				return nil, err
			}
			if _, err := io.ReadFull(c.Conn, frame[from:to]); err != nil {
				return nil, err
			}
			from = to
		}
		size -= n
	}
	return frame, nil
}

// checkAnswer walks an answer from after its correlation id on.
func checkAnswer(request askedFor, body []byte) (elements int, ok bool) {
	if request.key == keyAPIVersions && request.version > 0 && len(body) >= 2 && body[1] == unsupportedVersion {
		// The answer of a broker that does not know the version (KIP-511). Only the low byte, because that is all that kgo looks
		// at before it decodes.
		request.version = 0
	}
	s, err := answerShapes.Answer(request.key, request.version)
	if err != nil {
		return 0, false
	}
	w := shape.Walker{Rest: body}
	if s.Flexible() && request.key != keyAPIVersions && !w.Tags() {
		return 0, false
	}
	return s.Walk(w.Rest)
}

// unsupportedVersion is the error code of an ApiVersions request that the broker cannot read.
const unsupportedVersion = 35
