package broker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/isthmus-project/isthmus/topology"
)

// NewProfile resolves the references of a cluster of the topology. An embedded cluster is reached at its listener. Errors name the
// cluster and the field, never what a reference led to.
//
// The references are resolved again for every connection and login, so that rotated certificates and secrets are used without a
// restart. One that cannot be resolved then, or does not parse, keeps its last good value, and the log says so once. Connections
// that exist live on until the broker ends them.
func NewProfile(c topology.Cluster) (Profile, error) {
	r := references{cluster: c.Name, notes: &notes{}}
	p := Profile{Name: c.Name, Bootstrap: c.Bootstrap, Insecure: c.Insecure, gate: newGate(), notes: r.notes}
	if c.Embedded != nil {
		if _, port, err := net.SplitHostPort(c.Embedded.Listen); err != nil || port == "0" {
			return Profile{}, fmt.Errorf("cluster %s: embedded.listen %q has no port that could be dialled", c.Name, c.Embedded.Listen)
		}
		p.Bootstrap = []string{c.Embedded.Listen}
	}
	var err error
	if c.TLS != nil {
		p.clientCert = !c.TLS.Cert.IsZero()
		if p.TLS, err = r.tls(c.TLS); err != nil {
			return Profile{}, err
		}
	}
	if c.SASL != nil {
		if p.SASL, err = r.mechanism(c.SASL); err != nil {
			return Profile{}, err
		}
	}
	return p, nil
}

// tls gives the configuration of the next handshake. The cause of a certificate that does not parse is not repeated: it may quote
// the file.
func (r references) tls(t *topology.TLS) (func() *tls.Config, error) {
	roots := func() *x509.CertPool { return nil } // the system's
	if !t.CA.IsZero() {
		f, err := newFresh(r.notes, "tls.ca", func() (*x509.CertPool, error) {
			pem, err := r.resolve("tls.ca", t.CA)
			if err != nil {
				return nil, err
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("cluster %s: tls.ca: %s holds no PEM certificate", r.cluster, t.CA)
			}
			return pool, nil
		})
		if err != nil {
			return nil, err
		}
		roots = f.get
	}
	own := func() []tls.Certificate { return nil }
	if !t.Cert.IsZero() || !t.Key.IsZero() {
		f, err := newFresh(r.notes, "tls.cert and tls.key", func() ([]tls.Certificate, error) { return r.pair(t) })
		if err != nil {
			return nil, err
		}
		own = f.get
	}
	return func() *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, RootCAs: roots(), Certificates: own()}
	}, nil
}

// pair reads our certificate and its key, which belong together: while one of them is new and the other is not, neither is taken.
func (r references) pair(t *topology.TLS) ([]tls.Certificate, error) {
	cert, err := r.resolve("tls.cert", t.Cert)
	if err != nil {
		return nil, err
	}
	key, err := r.resolve("tls.key", t.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: tls.cert and tls.key: %s and %s are not a PEM certificate and its key", r.cluster, t.Cert, t.Key)
	}
	return []tls.Certificate{pair}, nil
}
