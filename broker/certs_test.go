package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// identity is a certificate and its key.
type identity struct {
	cert, key []byte // PEM
	pair      tls.Certificate
	roots     *x509.CertPool // of itself
}

// newIdentity is an authority that signs itself, good for any time a bubble may have, and for localhost.
func newIdentity(t *testing.T) identity { return issue(t, nil, nil) }

// issue makes a certificate signed by an authority, nil = itself, after change had a look at it.
func issue(t *testing.T, by *identity, change func(*x509.Certificate)) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: by == nil, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.pair.Leaf, by.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), roots: x509.NewCertPool(),
	}
	id.roots.AppendCertsFromPEM(id.cert)
	if id.pair, err = tls.X509KeyPair(id.cert, id.key); err != nil {
		t.Fatal(err)
	}
	return id
}

// vault is a folder of secrets.
type vault struct {
	t   *testing.T
	dir string
}

func newVault(t *testing.T) vault { return vault{t, t.TempDir()} }

// put writes a secret as something that renews it does, at once.
func (v vault) put(name string, content []byte) {
	v.t.Helper()
	path := filepath.Join(v.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		v.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		v.t.Fatal(err)
	}
}

// ref refers to a secret, whether it is there or not.
func (v vault) ref(name string) topology.Secret {
	v.t.Helper()
	s, err := topology.ParseSecret("file:" + filepath.Join(v.dir, name))
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

// get reads a secret.
func (v vault) get(name string) []byte {
	v.t.Helper()
	content, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		v.t.Fatal(err)
	}
	return content
}
