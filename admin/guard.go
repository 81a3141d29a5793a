package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// caller is who asks.
type caller struct {
	name   string
	role   topology.Role
	topics topology.Patterns // empty: bound to none
	peer   string            // the node that asks for somebody; empty: nobody stands between
	// unknown: the node has no identities, so anybody may be behind it.
	unknown bool
}

func (c caller) scoped() bool { return len(c.topics) > 0 }

// guard finds out who asks.
type guard struct {
	open     bool // there are no identities
	subjects map[string]topology.Identity
	tokens   *tokens
	certs    *nodeCerts // nil without TLS
	now      func() time.Time
}

func newGuard(access topology.Admin, certs *nodeCerts, now func() time.Time, log *slog.Logger) (*guard, error) {
	g := &guard{open: len(access.Identities) == 0, subjects: make(map[string]topology.Identity), certs: certs, now: now}
	for _, i := range access.Identities {
		if i.Subject != "" {
			g.subjects[i.Subject] = i
		}
	}
	var err error
	g.tokens, err = newTokens(access.Identities, now, log)
	return g, err
}

// who returns the caller with these credentials: the values of the Authorization header, and the state of the connection, nil
// without TLS. Its errors wrap ErrLogin and say what to do, but nothing about tokens that there are.
func (g *guard) who(ctx context.Context, authorization []string, conn *tls.ConnectionState, from net.Addr) (caller, error) {
	if g.open {
		return caller{name: "anyone@" + hostOf(from), role: topology.Administrator, unknown: true}, nil
	}
	if len(authorization) > 1 {
		return caller{}, fmt.Errorf("%w: there are %d authorizations; send one", ErrLogin, len(authorization))
	}
	if len(authorization) == 1 {
		scheme, token, _ := strings.Cut(authorization[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return caller{}, fmt.Errorf("%w: the authorization is no bearer token; send Bearer and a token", ErrLogin)
		}
		id, ok, err := g.tokens.find(ctx, []byte(strings.TrimSpace(token)))
		switch {
		case err != nil:
			return caller{}, err
		case !ok:
			return caller{}, fmt.Errorf("%w: the token is not one of this fabric, or no longer; get a new one", ErrLogin)
		}
		return as(id), nil
	}
	if conn != nil && len(conn.PeerCertificates) > 0 {
		return g.byCertificate(conn)
	}
	return caller{}, fmt.Errorf("%w: there is neither a token nor a client certificate; give one that admin.identity of the topology file knows", ErrLogin)
}

// byCertificate checks the certificate again for each call: a connection outlives its end, and that of its authority.
func (g *guard) byCertificate(conn *tls.ConnectionState) (caller, error) {
	cert := conn.PeerCertificates[0]
	if now := g.now(); now.After(cert.NotAfter) {
		return caller{}, fmt.Errorf("%w: the client certificate %.100q expired at %s; get a new one", ErrLogin, cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.RFC3339))
	}
	roots := g.certs.Get().Clients
	if roots == nil {
		return caller{}, fmt.Errorf("%w: client certificates are not taken here; send a token", ErrLogin)
	}
	err := verify(conn.PeerCertificates, x509.VerifyOptions{Roots: roots, CurrentTime: g.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return caller{}, fmt.Errorf("%w: the client certificate %.100q is not good: %w", ErrLogin, cert.Subject.CommonName, err)
	}
	id, ok := g.subjects[cert.Subject.CommonName]
	if !ok {
		return caller{}, fmt.Errorf("%w: no admin.identity of the topology file has the subject %.100q", ErrLogin, cert.Subject.CommonName)
	}
	return as(id), nil
}

func as(id topology.Identity) caller { return caller{name: id.Name, role: id.Role, topics: id.Topics} }

func hostOf(a net.Addr) string {
	if a == nil {
		return "unknown"
	}
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is who asks; without a guard before it, somebody who may do nothing.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}
