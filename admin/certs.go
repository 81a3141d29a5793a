package admin

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// certsFresh is how long certificates are believed without reading their files again.
const certsFresh = time.Second

// material is what the files of the TLS settings hold.
type material struct {
	pair    tls.Certificate
	clients *x509.CertPool // authorities of client certificates; nil: none are asked for
	nodes   *x509.CertPool // authorities of the other nodes' certificates
}

// certs are a node's certificates, read again as they change. A file that cannot be used (it is just being written, or its key does
// not fit yet) leaves the last good ones in use.
type certs struct {
	cfg topology.AdminTLS
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // not held while reading
	good   *material
	readAt time.Time
	failed bool
}

func newCerts(cfg topology.AdminTLS, now func() time.Time, log *slog.Logger) (*certs, error) {
	m, err := readMaterial(cfg)
	if err != nil {
		return nil, err
	}
	return &certs{cfg: cfg, log: log, now: now, good: m, readAt: now()}, nil
}

// get is the material as it is now, give or take a second.
func (c *certs) get() *material {
	now := c.now()
	c.mu.Lock()
	if now.Sub(c.readAt) < certsFresh {
		defer c.mu.Unlock()
		return c.good
	}
	c.readAt = now // the others go on with what there is
	c.mu.Unlock()
	m, err := readMaterial(c.cfg)
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
		c.log.Warn("a certificate of the admin API cannot be read again; its last value stays in use", "error", err)
	default:
		c.log.Info("the certificates of the admin API can be read again; they are in use")
	}
	return m
}

// server is the TLS of both listeners. Every handshake sees the certificates of that moment.
func (c *certs) server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := c.get()
			cfg := &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{m.pair},
				SessionTicketsDisabled: true, // a resumed session would not show its certificate again
			}
			if m.clients != nil {
				cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, m.clients
			}
			return cfg, nil
		},
	}
}

// client is how this node speaks to others of its fabric.
func (c *certs) client(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if pair := c.get().pair; asked.SupportsCertificate(&pair) == nil {
				return &pair, nil
			}
			return &tls.Certificate{}, nil // one of another authority would end the handshake
		},
		// The usual verification knows only the authorities of the moment when the configuration was made.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s.PeerCertificates, x509.VerifyOptions{
				DNSName: host, Roots: c.get().nodes, CurrentTime: c.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
		},
	}
}

// verify checks a chain as a TLS handshake does.
func verify(chain []*x509.Certificate, opts x509.VerifyOptions) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate")
	}
	opts.Intermediates = x509.NewCertPool()
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}

func readMaterial(cfg topology.AdminTLS) (*material, error) {
	cert, err := cfg.Cert.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("admin.tls: cert: %w", err)
	}
	key, err := cfg.Key.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("admin.tls: key: %w", err)
	}
	m := &material{}
	if m.pair, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("admin.tls: cert %s and key %s: %w", cfg.Cert, cfg.Key, err)
	}
	if cfg.ClientCA.IsZero() {
		// Who signed this node's certificate signed the others' too; the file may hold that authority, or a public one did.
		if m.nodes, err = x509.SystemCertPool(); err != nil {
			m.nodes = x509.NewCertPool()
		}
		m.nodes.AppendCertsFromPEM(cert)
		return m, nil
	}
	ca, err := cfg.ClientCA.ResolveBytes()
	if err != nil {
		return nil, fmt.Errorf("admin.tls: client_ca: %w", err)
	}
	m.clients = x509.NewCertPool()
	if !m.clients.AppendCertsFromPEM(bytes.TrimSpace(ca)) {
		return nil, fmt.Errorf("admin.tls: client_ca: %s holds no certificate in PEM", cfg.ClientCA)
	}
	m.nodes = m.clients.Clone()
	m.nodes.AppendCertsFromPEM(cert)
	return m, nil
}
