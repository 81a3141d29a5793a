package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/isthmus-project/isthmus/topology"
)

// Limits that bound what a broker can make us wait for or remember. They are not settings: a cluster that needs others
// is one this package cannot serve.
const (
	// MaxFrameBytes is the longest answer that is read. A fetch asks for much less, but a broker may exceed what was
	// asked by one batch, and message.max.bytes is theirs to choose.
	MaxFrameBytes = 128 << 20

	ioTimeout      = 30 * time.Second // no progress on a socket for this long ends the connection
	dialTimeout    = 10 * time.Second // to connect, for TLS, and for the first answers
	maxThrottle    = 5 * time.Minute  // a longer throttle time is a broken broker's, not a quota's
	maxSmallAnswer = 4 << 20          // answers that carry no records
)

// Profile says how one cluster is reached.
type Profile struct {
	Name      string         // the cluster's name in the topology, for errors and logs
	Bootstrap []string       // host:port of brokers that are asked first
	ClientID  string         // sent with each request; empty = "isthmus"
	SASL      sasl.Mechanism // nil = none
	Insecure  bool           // allows SASL without TLS off loopback

	// TLS gives the configuration of the next handshake, a new one each time; nil = plain text. An empty ServerName means the
	// host that is dialled.
	TLS func() *tls.Config

	// Dial opens the connections below TLS; nil = a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	clientCert bool   // TLS has a certificate of ours
	lines      *lines // of one cluster
	gate       *gate  // shared by all clusters that are opened by this profile
	notes      *notes // nil without references
}

// validate reports a profile that cannot work.
func (p Profile) validate() error {
	if len(p.Bootstrap) == 0 {
		return fmt.Errorf("open cluster %q: bootstrap names no broker", p.Name)
	}
	for _, a := range p.Bootstrap {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("open cluster %q: bootstrap: %w", p.Name, err)
		}
	}
	return nil
}

// clientID is what the brokers see us as.
func (p Profile) clientID() string {
	if p.ClientID == "" {
		return "isthmus"
	}
	return p.ClientID
}

// ready completes a profile for use by a cluster.
func (p Profile) ready(log *slog.Logger) Profile {
	if p.gate == nil {
		p.gate = newGate()
	}
	p.lines = newLines()
	if p.notes != nil {
		p.notes.log.CompareAndSwap(nil, log)
	}
	if p.SASL != nil {
		p.SASL = &login{Mechanism: p.SASL, cluster: p.Name, gate: p.gate}
	}
	return p
}

// dial connects, with TLS if the profile has it. It is the one dialer of kgo and of our own connections.
func (p Profile) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if p.TLS == nil && p.SASL == nil {
		return p.connect(ctx, network, address)
	}
	t, err := p.gate.enter(ctx, address)
	if err != nil {
		return nil, err
	}
	conn, err := p.connect(ctx, network, address)
	if err != nil {
		t.leave() // what is not there does not refuse us
		return nil, err
	}
	if p.TLS != nil {
		return p.secure(ctx, t, conn)
	}
	if err := p.mayLogIn(conn, address); err != nil {
		t.leave()
		return nil, errors.Join(err, conn.Close())
	}
	t.pass()
	return conn, nil
}

func (p Profile) connect(ctx context.Context, network, address string) (net.Conn, error) {
	dial := p.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return p.lines.add(conn), nil
}

// mayLogIn refuses to log in where others can listen. The topology is checked for that too, but a name is only known when it is
// dialled, and a broker on loopback may advertise others that are not. Nothing has been sent yet.
func (p Profile) mayLogIn(conn net.Conn, address string) error {
	if p.Insecure || p.SASL.Name() == topology.GSSAPI || isLocal(conn.RemoteAddr()) {
		return nil
	}
	return &AccessError{
		Cluster: p.Name, Address: address, Field: "tls", Err: ErrInsecure,
		Reason: "a login by " + p.SASL.Name() + " without TLS at " + address + ", which is not loopback, would be given away to whoever listens",
		Remedy: "add tls = { ca = \"file:PATH\" } and use the TLS listener, or insecure = true if you accept that",
	}
}

// isLocal reports addresses that are on this machine: loopback, and what has no address of the Internet at all.
func isLocal(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback() || a.Network() == "pipe" || a.Network() == "unix"
}

// secure makes a TLS connection of conn.
func (p Profile) secure(ctx context.Context, t *turn, conn net.Conn) (net.Conn, error) {
	h := &handshake{cluster: p.Name, address: t.address, cfg: p.TLS().Clone()}
	if h.cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(t.address)
		if err != nil {
			t.leave()
			return nil, errors.Join(err, conn.Close())
		}
		h.cfg.ServerName = host
	}
	// Whatever authorities the broker names, ours is sent: its refusal tells more than an empty answer. And a broker that never
	// asks cannot have refused it.
	h.cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		h.asked = true
		if len(h.cfg.Certificates) == 0 {
			return &tls.Certificate{}, nil
		}
		return &h.cfg.Certificates[0], nil
	}
	secure := tls.Client(conn, h.cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that tells
		err = h.explain(err)
		t.fail(ctx, err)
		return nil, err
	}
	t.pass()
	return &secureConn{Conn: secure, handshake: h, turn: t, known: p.SASL != nil}, nil
}

// secureConn is a TLS connection that says what an alert means: with TLS 1.3 the broker looks at our certificate when the
// handshake is over for us, and the next read is told.
type secureConn struct {
	net.Conn
	handshake *handshake
	turn      *turn
	known     bool // it was told that the broker takes us, or a login will tell; only one goroutine reads
}

// Read reads, and explains an alert. What answers at all has taken our certificate.
func (c *secureConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil {
		if n > 0 && !c.known {
			c.known = true
			c.turn.letIn()
		}
		return n, nil
	}
	if _, alerted := remoteAlert(err); alerted {
		err = c.handshake.explain(err)
		c.turn.fail(context.Background(), err) // the broker's word, whoever still waits for it
	}
	return n, err
}

// dialError marks an error as one of connecting, whatever a Dial function of the caller returned.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// address is where b listens.
func (b Broker) address() string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
