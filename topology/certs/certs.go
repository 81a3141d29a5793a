package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// Fresh is how long certificates are believed without reading their files again.
const Fresh = time.Second

// Material is what the files of the TLS settings hold. It is never changed.
type Material struct {
	// Pair is what is shown, and PEM the text of its certificates.
	Pair tls.Certificate
	PEM  []byte
	// Clients are the authorities of client certificates; nil: none are asked for.
	Clients *x509.CertPool
}

// Certs are certificates that are read again as they change. A file that cannot be used (it is just being written, or its key does not
// fit yet) leaves the last good ones in use. Any goroutine may use it.
type Certs struct {
	cfg   topology.ServerTLS
	field string
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex // not held while reading
	good   *Material
	readAt time.Time
	failed bool
}

// New reads the certificates for the first time. Its errors begin with the field of the settings, such as "admin.tls".
func New(cfg topology.ServerTLS, field string, now func() time.Time, log *slog.Logger) (*Certs, error) {
	m, err := read(cfg, field)
	if err != nil {
		return nil, err
	}
	return &Certs{cfg: cfg, field: field, log: log, now: now, good: m, readAt: now()}, nil
}

// Get is the material as it is now, give or take a second.
func (c *Certs) Get() *Material {
	now := c.now()
	c.mu.Lock()
	if now.Sub(c.readAt) < Fresh {
		defer c.mu.Unlock()
		return c.good
	}
	c.readAt = now // the others go on with what there is
	c.mu.Unlock()
	m, err := read(c.cfg, c.field)
	c.mu.Lock()
	turned := c.failed != (err != nil)
	c.failed = err != nil
	if err == nil {
		c.good = m
	}
	m = c.good
	c.mu.Unlock()
	switch {
	case !turned:
	case err != nil:
		c.log.Warn("certificates cannot be read again; what they were last stays in use", "error", err)
	default:
		c.log.Info("certificates can be read again; they are in use", "of", c.field)
	}
	return m
}

// Server is the TLS of a listener. Every handshake sees the certificates of that moment. Where there are authorities of clients, auth says
// what a client has to show.
func (c *Certs) Server(auth tls.ClientAuthType, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := c.Get()
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{m.Pair}}
			if m.Clients != nil {
				cfg.ClientAuth, cfg.ClientCAs = auth, m.Clients
				cfg.SessionTicketsDisabled = true // a resumed session would not show its certificate again
			}
			return cfg, nil
		},
	}
}

func read(cfg topology.ServerTLS, field string) (*Material, error) {
	cert, err := cfg.Cert.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("%s: cert: %w", field, err)
	}
	key, err := cfg.Key.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("%s: key: %w", field, err)
	}
	m := &Material{PEM: cert}
	if m.Pair, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("%s: cert %s and key %s: %w", field, cfg.Cert, cfg.Key, err)
	}
	if cfg.ClientCA.IsZero() {
		return m, nil
	}
	ca, err := cfg.ClientCA.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("%s: client_ca: %w", field, err)
	}
	m.Clients = x509.NewCertPool()
	if !m.Clients.AppendCertsFromPEM(bytes.TrimSpace(ca)) {
		return nil, fmt.Errorf("%s: client_ca: %s holds no certificate in PEM", field, cfg.ClientCA)
	}
	return m, nil
}
