package embedded

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// rawConn speaks to a cluster byte by byte.
type rawConn struct {
	net.Conn
	t           testing.TB
	correlation int32
}

func dial(t testing.TB, addr string) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawConn{Conn: conn, t: t}
}

func (c *rawConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// request sends a frame with a null client id and no tags.
func (c *rawConn) request(key, version int16, body []byte) {
	c.t.Helper()
	c.correlation++
	c.send(appendFrame(key, version, c.correlation, append([]byte{0xff, 0xff}, body...)))
}

// kmsg sends a request of kmsg's.
func (c *rawConn) kmsg(req kmsg.Request) {
	c.t.Helper()
	c.correlation++
	c.send(kmsg.NewRequestFormatter().AppendRequest(nil, req, c.correlation))
}

// response reads one response and checks its correlation id.
func (c *rawConn) response() []byte {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	size := make([]byte, 4)
	if _, err := io.ReadFull(c, size); err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(c, body); err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != c.correlation {
		c.t.Fatalf("response has correlation id %d, want %d", got, c.correlation)
	}
	return body[4:]
}

// answer reads the response to req.
func answer[R kmsg.Response](c *rawConn, req kmsg.Request) R {
	c.t.Helper()
	c.kmsg(req)
	return read[R](c, req)
}

func read[R kmsg.Response](c *rawConn, req kmsg.Request) R {
	c.t.Helper()
	body := c.response()
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != keyAPIVersions {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("read %s: %v", kmsg.NameForKey(req.Key()), err)
	}
	return resp.(R)
}

// ended waits until the other side closed the connection.
func (c *rawConn) ended(d time.Duration) bool {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}
