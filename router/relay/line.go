package relay

import (
	"bufio"
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

func newLine(c net.Conn, side Side) *line {
	return &line{c, side, bufio.NewReaderSize(c, frame.MaxHeader)}
}

// closeWrite sends FIN, where the connection can do that alone.
func (l *line) closeWrite() {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
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

// chunkSize is how much passes in a step.
const chunkSize = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// keptBuffer is the longest buffer for collected frames that goes back to the pool.
const keptBuffer = 1 << 20

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func release(b *[]byte) {
	if cap(*b) <= keptBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
