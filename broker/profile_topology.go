package broker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/topology"
)

// NewProfile resolves the references of a cluster of the topology. An embedded cluster is reached at its listener. Errors name the
// cluster and the field, never what a reference led to.
func NewProfile(c topology.Cluster) (Profile, error) {
	p := Profile{Name: c.Name, Bootstrap: c.Bootstrap}
	if c.Embedded != nil {
		if _, port, err := net.SplitHostPort(c.Embedded.Listen); err != nil || port == "0" {
			return Profile{}, fmt.Errorf("cluster %s: embedded.listen %q has no port that could be dialled", c.Name, c.Embedded.Listen)
		}
		p.Bootstrap = []string{c.Embedded.Listen}
	}
	var err error
	if c.TLS != nil {
		if p.TLS, err = tlsConfig(c.Name, c.TLS); err != nil {
			return Profile{}, err
		}
	}
	if c.SASL != nil {
		if p.SASL, err = mechanism(c.Name, c.SASL); err != nil {
			return Profile{}, err
		}
	}
	return p, nil
}

// tlsConfig loads the certificates. The cause of a certificate that does not parse is not repeated: it may quote the file.
func tlsConfig(cluster string, t *topology.TLS) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if !t.CA.IsZero() {
		pem, err := resolve(cluster, "tls.ca", t.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cluster %s: tls.ca: %s holds no PEM certificate", cluster, t.CA)
		}
	}
	if t.Cert.IsZero() && t.Key.IsZero() {
		return cfg, nil
	}
	cert, err := resolve(cluster, "tls.cert", t.Cert)
	if err != nil {
		return nil, err
	}
	key, err := resolve(cluster, "tls.key", t.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: tls.cert and tls.key: %s and %s are not a PEM certificate and its key", cluster, t.Cert, t.Key)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// mechanism makes the login.
func mechanism(cluster string, s *topology.SASL) (sasl.Mechanism, error) {
	password, err := resolve(cluster, "sasl.password", s.Password)
	if err != nil {
		return nil, err
	}
	switch s.Mechanism {
	case "PLAIN":
		return plain.Auth{User: s.User, Pass: string(password)}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: s.User, Pass: string(password)}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: s.User, Pass: string(password)}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("cluster %s: sasl.mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", cluster, s.Mechanism)
}

func resolve(cluster, field string, s topology.Secret) ([]byte, error) {
	value, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %s: %w", cluster, field, err)
	}
	return value, nil
}
