package secure

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"
)

// issuer signs the tokens of OAUTHBEARER (RFC 7519, RS256).
type issuer struct{ key *rsa.PrivateKey }

// What the brokers want to find in a token.
const (
	tokenIssuer   = "https://login.example"
	tokenAudience = "kafka"
	tokenKey      = "key-1"
)

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key}
}

// token is a signed token for a user, that ends so long from now.
func (i *issuer) token(t testing.TB, user string, life time.Duration) string {
	t.Helper()
	now := time.Now()
	text := encode(t, map[string]any{"alg": "RS256", "typ": "JWT", "kid": tokenKey}) + "." + encode(t, map[string]any{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": user, "scope": "mirror",
		"iat": min(now.Unix(), now.Add(life).Unix()) - 60, "exp": now.Add(life).Unix(),
	})
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// jwks is the public key as brokers read it (RFC 7517).
func (i *issuer) jwks(t testing.TB) []byte {
	t.Helper()
	out, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "kid": tokenKey, "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(i.key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
