package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// issued is a certificate with its key, and its authority, all PEM.
type issued struct{ cert, key, ca string }

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority " + rand.Text()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	a.cert, a.pem = a.sign(t, template, template, &a.key.PublicKey)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PublicKey) (*x509.Certificate, string) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// issue makes a certificate for a client of that name, or a server of that host, that is good until a time.
func (a authority) issue(t *testing.T, name string, until time.Time) issued {
	t.Helper()
	key := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	_, text := a.sign(t, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: until}, a.cert, &key.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return issued{cert: text, key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), ca: a.pem}
}

// login writes a client's files and says where they are.
func (i issued) login(t *testing.T, server string) Login {
	t.Helper()
	cert, _ := secretFile(t, "cert.pem", i.cert)
	key, _ := secretFile(t, "key.pem", i.key)
	ca, _ := secretFile(t, "ca.pem", i.ca)
	return Login{CA: ca, Cert: cert, Key: key, ServerName: server}
}

// serverFiles are those of a node's TLS.
type serverFiles struct{ cert, key, ca string }

func (i issued) server(t *testing.T) (serverFiles, *topology.ServerTLS) {
	t.Helper()
	var f serverFiles
	tls := &topology.ServerTLS{}
	f.cert, tls.Cert = secretFile(t, "cert.pem", i.cert)
	f.key, tls.Key = secretFile(t, "key.pem", i.key)
	f.ca, tls.ClientCA = secretFile(t, "ca.pem", i.ca)
	return f, tls
}
