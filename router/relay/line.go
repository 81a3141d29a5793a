package relay

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/router/frame"
)

// aLongTimeAgo is a deadline that has passed, also on the fake clock of a synctest bubble, which starts in 2000.
var aLongTimeAgo = time.Unix(1, 0)

func nowPlus(d time.Duration) time.Time { return time.Now().Add(d) }

// line is one of the two connections. One goroutine reads; writers take turns by what is pending.
type line struct {
	net.Conn
	side Side
	in   *bufio.Reader
}

// waiting is how many bytes of a header are read at first: most connections have nothing to say most of the time, and longer headers are rare.
const waiting = 512

func newLine(c net.Conn, side Side) *line {
	return &line{c, side, bufio.NewReaderSize(c, waiting)}
}

// peek shows at least the next n bytes, which are not more than a header may have, and whatever else is there.
func (l *line) peek(n int) ([]byte, error) {
	if n > l.in.Size() {
		there, _ := l.in.Peek(l.in.Buffered())
		l.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(there)), l.Conn), frame.MaxHeader)
	}
	return l.in.Peek(max(n, l.in.Buffered()))
}

// closeWrite sends FIN, and reports whether the connection can do that alone.
func (l *line) closeWrite() bool {
	c, ok := l.Conn.(interface{ CloseWrite() error })
	if ok {
		_ = c.CloseWrite()
	}
	return ok
}

// reset makes the closing of the connection a reset, where that can be done: for a client the nearest thing to a broker that is not there.
func (l *line) reset() {
	c := l.Conn
	for {
		wrapped, ok := c.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

const (
	// chunkSize is how much passes in a step.
	chunkSize = 64 << 10
	// PieceSize is how much passes in a step of a longer frame, in bytes, while there is room for it: each step wakes whoever reads, which costs more than
	// copying.
	PieceSize = 256 << 10
)

var (
	chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}
	pieces = sync.Pool{New: func() any { return new([PieceSize]byte) }}
)

// keptBuffer is the longest buffer for collected frames that goes back to the pool.
const keptBuffer = 1 << 20

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func release(b *[]byte) {
	if cap(*b) <= keptBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
