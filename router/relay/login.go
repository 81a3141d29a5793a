package relay

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
)

// Logins pass through, and are only looked at for the name in them: never a password, a proof or a token is kept.

// maxLogin is the longest request of a login in bytes: a broker's own default (sasl.server.max.receive.size).
const maxLogin = 512 << 10

// Mechanisms whose messages have a name that can be read.
const (
	plain  = "PLAIN"
	scram  = "SCRAM-"
	bearer = "OAUTHBEARER"
)

// login follows the requests of one login, in their order.
type login struct {
	mechanism string
	name      string // of SCRAM, between its two requests
}

// claim is a name that counts when the broker's answer says that the login is done.
type claim Principal

// asks takes the client's next message, and returns a claim if the answer to it may end the login.
func (l *login) asks(message []byte) *claim {
	name := ""
	switch {
	case l.mechanism == plain:
		name = plainName(message)
	case l.mechanism == bearer:
		name = bearerName(message)
	case !strings.HasPrefix(l.mechanism, scram):
		return nil
	case l.name == "":
		l.name = scramName(message)
		return nil
	default:
		name, l.name = l.name, ""
	}
	if name == "" {
		return nil
	}
	return &claim{name[:min(len(name), maxShown)], l.mechanism}
}

// proven reports whether an answer without an error ends the login well: that of SCRAM has the server's proof, and one of OAUTHBEARER that is
// not empty says why the login is refused (RFC 7628).
func (c *claim) proven(answer []byte) bool {
	switch {
	case c.Mechanism == bearer:
		return len(answer) == 0
	case strings.HasPrefix(c.Mechanism, scram):
		return bytes.HasPrefix(answer, []byte("v="))
	}
	return true
}

// plainName is who logs in by RFC 4616: authorization, name and password with zeros between them.
func plainName(message []byte) string {
	parts := bytes.SplitN(message, []byte{0}, 3)
	if len(parts) < 3 {
		return ""
	}
	return string(parts[1])
}

// scramName is who logs in by RFC 5802: "n,,n=name,r=nonce".
func scramName(message []byte) string {
	parts := bytes.SplitN(message, []byte{','}, 4)
	if len(parts) < 4 {
		return ""
	}
	name, ok := bytes.CutPrefix(parts[2], []byte("n="))
	if !ok {
		return ""
	}
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(string(name))
}

// bearerName is the subject of the token of RFC 7628, a JWT; what it says is for the broker to check. Another kind of token tells nothing.
func bearerName(message []byte) string {
	_, rest, ok := bytes.Cut(message, []byte("\x01auth=Bearer "))
	if !ok {
		return ""
	}
	token, _, _ := bytes.Cut(rest, []byte{1})
	parts := bytes.Split(token, []byte{'.'})
	if len(parts) != 3 {
		return ""
	}
	text := make([]byte, base64.RawURLEncoding.DecodedLen(len(parts[1])))
	n, err := base64.RawURLEncoding.Decode(text, parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Sub string `json:"sub"`
	}
	if json.Unmarshal(text[:n], &claims) != nil {
		return ""
	}
	return claims.Sub
}

// isLogin reports whether requests of a key are looked at for a name.
func isLogin(key int16) bool {
	return key == int16(kmsg.SASLHandshake) || key == int16(kmsg.SASLAuthenticate)
}

// loginRequest forwards a request of a login as it is.
func (r *Relay) loginRequest(ctx context.Context, h frame.Request, o owed) error {
	whole, body, give, err := r.request(ctx, h, maxLogin)
	if err != nil {
		return err
	}
	defer give()
	if h.Key == int16(kmsg.SASLHandshake) {
		m := kmsg.NewSASLHandshakeRequest()
		m.SetVersion(h.Version)
		err = m.ReadFrom(body)
		r.login = login{mechanism: m.Mechanism[:min(len(m.Mechanism), maxShown)]}
	} else {
		m := kmsg.NewSASLAuthenticateRequest()
		m.SetVersion(h.Version)
		err = m.ReadFrom(body)
		o.claim = r.login.asks(m.SASLAuthBytes)
	}
	if err != nil {
		return failed(Client, "read a login", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if err := r.owe(o); err != nil {
		return err
	}
	return r.write(r.up, whole)
}

// loginAnswer passes on the answer to a request that may have ended a login.
func (r *Relay) loginAnswer(ctx context.Context, h frame.Answer, o owed) error {
	in, head, give, err := r.collectAnswer(ctx, h, o)
	if err != nil {
		return err
	}
	defer give()
	m := kmsg.NewSASLAuthenticateResponse()
	m.SetVersion(o.version)
	if err := m.ReadFrom(in[head:]); err != nil {
		return failed(Upstream, "read the answer to a login", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if m.ErrorCode == 0 && o.claim.proven(m.SASLAuthBytes) {
		p := Principal(*o.claim)
		r.seen.principal.Store(&p)
	}
	return r.writeInSteps(in)
}
