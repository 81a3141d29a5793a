package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
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
	TLS       *tls.Config    // nil = plain text; an empty ServerName means the host that is dialled
	SASL      sasl.Mechanism // nil = none
	ClientID  string         // sent with each request; empty = "isthmus"

	// Dial opens the connections below TLS; nil = a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
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

// dial connects, with TLS if the profile has it. It is the one dialer of kgo and of our own connections.
func (p Profile) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	if p.TLS == nil {
		return conn, nil
	}
	cfg := p.TLS
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that tells
		return nil, fmt.Errorf("shake hands by TLS with %s: %w", address, err)
	}
	return secure, nil
}

// dialError marks an error as one of connecting, whatever a Dial function of the caller returned.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// address is where b listens.
func (b Broker) address() string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
