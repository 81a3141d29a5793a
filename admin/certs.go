package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/isthmus-project/isthmus/topology/certs"
)

// nodeCerts is the certificates of a node: what it shows, as server and to the other nodes, and whom it believes.
type nodeCerts struct {
	*certs.Certs
	now func() time.Time
}

// server is the TLS of both listeners.
func (c *nodeCerts) server(protocols ...string) *tls.Config {
	return c.Server(tls.VerifyClientCertIfGiven, protocols...)
}

// nodes are the authorities of the other nodes' certificates. Who signed this node's certificate signed the others' too; the file may
// hold that authority, or that of the clients is it, or a public one.
func nodes(m *certs.Material) *x509.CertPool {
	pool := x509.NewCertPool()
	if m.Clients != nil {
		pool = m.Clients.Clone()
	} else if public, err := x509.SystemCertPool(); err == nil {
		pool = public
	}
	pool.AppendCertsFromPEM(m.PEM)
	return pool
}

// client is how this node speaks to others of its fabric.
func (c *nodeCerts) client(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if own := c.Get().Pair; asked.SupportsCertificate(&own) == nil {
				return &own, nil
			}
			return &tls.Certificate{}, nil // one of another authority would end the handshake
		},
		// The usual verification knows only the authorities of the moment when the configuration was made.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s.PeerCertificates, x509.VerifyOptions{
				DNSName: host, Roots: nodes(c.Get()), CurrentTime: c.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
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
