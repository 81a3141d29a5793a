package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/topology/certs"
)

// handshakeShare is the part of all handshakes that one address may have under way: the rest is for others.
const handshakeShare = 4

// Why a connection is not let in.
var (
	// ErrHandshake says that a TLS handshake took too long, or had to wait too long for its turn.
	ErrHandshake = errors.New("the TLS handshake was not done in time")
	// ErrTLS says that a TLS handshake failed.
	ErrTLS = errors.New("TLS handshakes fail; the log at level debug says why")
)

// front lets clients in through TLS. Handshakes cost: after a restart, all clients come at once, and if all of them began none would be done in
// time. So there are some at a time, in the order in which they come, and a part of them for each address.
type front struct {
	cfg    *tls.Config
	within time.Duration // for each handshake, and for waiting before it
	share  int64
	all    *semaphore.Weighted

	mu sync.Mutex
	of map[string]*turns
}

// turns are those of one address.
type turns struct {
	places *semaphore.Weighted
	users  int // who has a place or waits for one
}

// newFront reads the certificates; nil for a router without TLS.
func newFront(cfg Config, deps Deps) (*front, error) {
	t := cfg.Router.TLS
	if t == nil {
		return nil, nil
	}
	read, err := certs.New(*t, "tls", time.Now, deps.Log)
	if err != nil {
		return nil, err
	}
	return &front{
		cfg: read.Server(tls.RequireAndVerifyClientCert), within: cfg.Handshake, share: int64(max(1, cfg.Limits.Handshakes/handshakeShare)),
		all: semaphore.NewWeighted(int64(cfg.Limits.Handshakes)), of: make(map[string]*turns),
	}, nil
}

// welcome does the handshake of a connection, which it does not close.
func (f *front) welcome(ctx context.Context, c net.Conn, address string) (*tls.Conn, error) {
	hello, err := firstByte(ctx, c, f.within)
	if err != nil {
		return nil, fmt.Errorf("%w: no client hello: %w", ErrHandshake, err)
	}
	leave, err := f.enter(ctx, address)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, f.within)
	defer cancel()
	secure := tls.Server(hello, f.cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
		}
		return nil, err
	}
	return secure, nil
}

// enter waits for the turn of a handshake. leave must be called when it is done.
func (f *front) enter(ctx context.Context, address string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, f.within)
	defer cancel()
	f.mu.Lock()
	own := f.of[address]
	if own == nil {
		own = &turns{places: semaphore.NewWeighted(f.share)}
		f.of[address] = own
	}
	own.users++
	f.mu.Unlock()
	gone := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(f.of, address)
		}
	}
	if own.places.Acquire(ctx, 1) != nil {
		gone()
		return nil, fmt.Errorf("%w: too many from one address", ErrHandshake)
	}
	if f.all.Acquire(ctx, 1) != nil {
		own.places.Release(1)
		gone()
		return nil, fmt.Errorf("%w: too many at once", ErrHandshake)
	}
	return func() {
		f.all.Release(1)
		own.places.Release(1)
		gone()
	}, nil
}

// begun is a connection whose first byte was read.
type begun struct {
	net.Conn
	first []byte
}

// Read implements [net.Conn].
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// NetConn is the connection itself, for who resets it.
func (b *begun) NetConn() net.Conn { return b.Conn }

// firstByte waits until a client says something: who is silent has no turn.
func firstByte(ctx context.Context, c net.Conn, within time.Duration) (*begun, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := &begun{Conn: c, first: make([]byte, 1)}
	if _, err := c.Read(b.first); err != nil {
		return nil, err
	}
	return b, c.SetReadDeadline(time.Time{})
}

// subjectOf is that of the certificate that a client showed in its handshake; empty without one.
func subjectOf(c net.Conn) string {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return ""
	}
	if shown := secure.ConnectionState().PeerCertificates; len(shown) > 0 {
		return shown[0].Subject.String()
	}
	return ""
}

// private reports whether nobody can listen to a client: what it sends is encrypted, or does not leave this machine.
func private(c net.Conn, listen string) bool {
	if _, secure := c.(*tls.Conn); secure {
		return true
	}
	for _, at := range []string{listen, c.LocalAddr().String()} {
		host, _, err := net.SplitHostPort(at)
		if err != nil {
			continue
		}
		if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
			return true
		}
	}
	return false
}
