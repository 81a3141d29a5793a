package users

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/topology"
)

var (
	// ErrRefused says that a login is refused. Whether the name or the password is wrong is not said.
	ErrRefused = errors.New("authentication failed: invalid username or password")
	// ErrMessage says that a message is none of its mechanism.
	ErrMessage = errors.New("authentication failed: the message is none of the mechanism")
)

// What a client calls itself, and its login, at most in bytes. Names of users are no longer.
const (
	maxName  = 256
	maxNonce = 1024
)

// Login is one login of a client, message by message. One goroutine uses it.
type Login struct {
	// Mechanism is by which it is.
	Mechanism string

	book *Book
	// What SCRAM needs of the client's first message for its last one.
	asked bool
	name  string
	gs2   string // header of channel binding
	nonce string // both parts
	about []byte // the first two messages as they are signed
}

// Begin begins a login by a mechanism; nil for one by which nobody can log in.
func (b *Book) Begin(mechanism string, private bool) *Login {
	if !slices.Contains(b.Mechanisms(private), mechanism) {
		return nil
	}
	return &Login{Mechanism: mechanism, book: b}
}

// Next takes the client's next message and returns the answer to it, and whose login it is when it is done. After an error, ErrRefused or
// one that wraps ErrMessage, it is over.
func (l *Login) Next(message []byte) (answer []byte, user *User, err error) {
	switch {
	case l.Mechanism == topology.Plain:
		user, err = l.plain(message)
		return nil, user, err
	case !l.asked:
		answer, err = l.first(message)
		return answer, nil, err
	}
	return l.last(message)
}

// plain is authorization, name and password with zeros between them.
func (l *Login) plain(message []byte) (*User, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[1]) > maxName {
		return nil, fmt.Errorf("%w: PLAIN has an authorization, which may be empty, a name and a password", ErrMessage)
	}
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return nil, fmt.Errorf("%w: nobody acts for somebody else; leave the authorization empty", ErrMessage)
	}
	user, password := l.book.passwordOf(string(parts[1]))
	got, want := sha256.Sum256(parts[2]), sha256.Sum256(password)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || user == nil {
		return nil, ErrRefused
	}
	return user, nil
}

// first takes "n,,n=name,r=nonce" and answers "r=nonce,s=salt,i=iterations".
func (l *Login) first(message []byte) ([]byte, error) {
	wrong := func(what string) ([]byte, error) { return nil, fmt.Errorf("%w: %s", ErrMessage, what) }
	parts := strings.Split(string(message), ",")
	if len(parts) < 4 {
		return wrong("SCRAM begins with n,,n=name,r=nonce")
	}
	if parts[0] != "n" && parts[0] != "y" {
		return wrong("no channel can be bound")
	}
	name, named := cutName(parts[2], "n=")
	if !named || name == "" || len(name) > maxName {
		return wrong("it has no name")
	}
	if other, given := cutName(parts[1], "a="); parts[1] != "" && (!given || other != name) {
		return wrong("nobody acts for somebody else")
	}
	nonce, ok := strings.CutPrefix(parts[3], "r=")
	if !ok || nonce == "" || len(nonce) > maxNonce || strings.ContainsFunc(nonce, func(c rune) bool { return c < '!' || c > '~' }) {
		return wrong("it has no nonce")
	}
	l.asked, l.name, l.gs2, l.nonce = true, name, parts[0]+","+parts[1]+",", nonce+rand.Text()
	answer := fmt.Sprintf("r=%s,s=%s,i=%d", l.nonce, base64.StdEncoding.EncodeToString(l.book.saltOf(name, l.Mechanism)), iterations)
	l.about = []byte(strings.Join(parts[2:], ",") + "," + answer + ",")
	return []byte(answer), nil
}

// cutName reads a name, in which commas and equals signs are written otherwise.
func cutName(text, prefix string) (string, bool) {
	name, ok := strings.CutPrefix(text, prefix)
	if !ok || strings.Count(name, "=") != strings.Count(name, "=2C")+strings.Count(name, "=3D") {
		return "", false
	}
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name), true
}

// last takes "c=binding,r=nonce,p=proof" and answers "v=proof" of the server.
func (l *Login) last(message []byte) ([]byte, *User, error) {
	l.asked = false
	wrong := func(what string) ([]byte, *User, error) { return nil, nil, fmt.Errorf("%w: %s", ErrMessage, what) }
	signed, text, ok := bytes.Cut(message, []byte(",p="))
	if !ok {
		return wrong("SCRAM ends with c=binding,r=nonce,p=proof")
	}
	proof, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return wrong("its proof is no base64")
	}
	parts := bytes.Split(signed, []byte(","))
	if len(parts) < 2 || string(parts[0]) != "c="+base64.StdEncoding.EncodeToString([]byte(l.gs2)) || string(parts[1]) != "r="+l.nonce {
		return wrong("it is about another login")
	}
	user, keys := l.book.keysOf(l.name, l.Mechanism)
	h := hashOf(l.Mechanism)
	about := string(l.about) + string(signed)
	signature := mac(h, keys.stored, about)
	if len(proof) != len(signature) {
		return nil, nil, ErrRefused
	}
	subtle.XORBytes(proof, proof, signature) // the client's key, if it is right
	key := h()
	_, _ = key.Write(proof) // a hash takes all
	if !hmac.Equal(key.Sum(nil), keys.stored) || user == nil {
		return nil, nil, ErrRefused
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(h, keys.server, about))), user, nil
}
