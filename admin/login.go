package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Login is how a client proves who it is, and how it knows the node. The zero value speaks plain text to a node that lets
// everybody in.
type Login struct {
	// TLS is needed where the node has a certificate. CA, Cert and Key imply it.
	TLS bool
	// CA is the path of a PEM file with the authorities of the node's certificate; empty: the system's.
	CA string
	// Cert and Key are the paths of PEM files; both or none.
	Cert, Key string
	// ServerName is the name in the node's certificate; empty: the host that is dialled.
	ServerName string
	// Token is sent with each call; empty: none. It never goes over plain text to another machine unless Insecure.
	Token string
	// Insecure allows a token over plain text.
	Insecure bool
}

// Options are to be given to [Dial]. Its errors name what is to be corrected, and never hold the token or a key.
func (l Login) Options(address string) ([]grpc.DialOption, error) {
	var opts []grpc.DialOption
	secure := l.TLS || l.CA != "" || l.Cert != "" || l.Key != ""
	if secure {
		cfg, err := l.config()
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	}
	if l.Token == "" {
		return opts, nil
	}
	if !secure && !l.Insecure && !loopback(address) {
		return nil, fmt.Errorf("the token would go to %s in plain text: use TLS (--tls, --ca), or --insecure where everybody on the way is trusted", address)
	}
	if strings.ContainsFunc(l.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token holds blanks or characters that are not ASCII: give one token, without a line end")
	}
	return append(opts, grpc.WithPerRPCCredentials(bearer(l.Token))), nil
}

func (l Login) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: l.ServerName}
	if l.CA != "" {
		pem, err := os.ReadFile(l.CA)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
			return nil, fmt.Errorf("read ca: %s holds no certificate in PEM", l.CA)
		}
	}
	if (l.Cert == "") != (l.Key == "") {
		return nil, errors.New("a client certificate needs both its file and its key's")
	}
	if l.Cert != "" {
		pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// bearer sends a token with each call. Options decides where that is allowed.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }
