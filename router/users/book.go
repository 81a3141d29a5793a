package users

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"maps"
	"runtime"
	"sync"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/topology"
)

// User is somebody who may come in. He is never changed.
type User struct {
	// Name is whom the door takes him for.
	Name string

	subject  string // of the certificate that proves him
	password []byte // nil: no password does
	at       map[string]Own
}

func (u *User) same(o *User) bool {
	return u.Name == o.Name && u.subject == o.subject && bytes.Equal(u.password, o.password) && maps.Equal(u.at, o.at)
}

// Own is a user's own login at a cluster.
type Own struct {
	mechanism, username, password string
}

// At is the user's login at a cluster. Without one he has no business there.
func (u *User) At(cluster string) (Own, bool) {
	own, ok := u.at[cluster]
	return own, ok
}

// Mechanism logs in.
func (o Own) Mechanism() sasl.Mechanism {
	switch auth := (scram.Auth{User: o.username, Pass: o.password}); o.mechanism {
	case topology.ScramSHA256:
		return auth.AsSha256Mechanism()
	case topology.ScramSHA512:
		return auth.AsSha512Mechanism()
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) { return plain.Auth{User: o.username, Pass: o.password}, nil })
}

// Book is who may come in at one moment. It is never changed but for what it remembers.
type Book struct {
	byName    map[string]*User
	bySubject map[string]*User
	passwords bool          // somebody has one
	salt      []byte        // of this process; nobody else knows it
	places    chan struct{} // for who makes keys, which takes a processor a few milliseconds

	mu   sync.Mutex
	keys map[named]*keys
}

// named is a user and a mechanism, also one that there is not.
type named struct{ name, mechanism string }

// mostKeys bounds the keys that are remembered, beside those of users: of names that nobody has.
const mostKeys = 1024

func newBook(byName map[string]*User, salt []byte) *Book {
	b := &Book{byName: byName, bySubject: make(map[string]*User), salt: salt, keys: make(map[named]*keys),
		places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	for _, u := range byName {
		if u.subject != "" {
			b.bySubject[u.subject] = u
		}
		b.passwords = b.passwords || u.password != nil
	}
	return b
}

// ByCertificate is the user whom a certificate proves that was verified; nil for nobody.
func (b *Book) ByCertificate(subject string) *User {
	if subject == "" {
		return nil
	}
	return b.bySubject[subject]
}

// Mechanisms are those by which somebody can log in; PLAIN only where nobody can listen.
func (b *Book) Mechanisms(private bool) []string {
	switch {
	case !b.passwords:
		return nil
	case private:
		return []string{topology.Plain, topology.ScramSHA256, topology.ScramSHA512}
	}
	return []string{topology.ScramSHA256, topology.ScramSHA512}
}

// passwordOf is what proves a user; something that nobody knows for who has no password, or is nobody.
func (b *Book) passwordOf(name string) (*User, []byte) {
	nobodys := b.derived("nobody", name) // for everybody: it takes time
	if u := b.byName[name]; u != nil && u.password != nil {
		return u, u.password
	}
	return nil, nobodys
}

// derived is a text that stays the same for a name as long as this process lives, and that nobody else can know.
func (b *Book) derived(what, name string) []byte {
	h := hmac.New(sha256.New, b.salt)
	_, _ = h.Write([]byte(what + "\x00" + name)) // a hash takes all
	return h.Sum(nil)
}

// iterations is what makes guessing slow; the least that Kafka takes of a server, and what it has by default.
const iterations = 4096

// keys are what a server knows of a password in SCRAM.
type keys struct {
	once           sync.Once
	stored, server []byte
}

// keysOf are the keys of a user, or of a name that nobody has: the same work for both. They are remembered, since clients come back.
func (b *Book) keysOf(name, mechanism string) (*User, *keys) {
	u, password := b.passwordOf(name)
	id := named{name, mechanism}
	b.mu.Lock()
	k := b.keys[id]
	if k == nil {
		for old := range b.keys {
			if len(b.keys) < mostKeys+2*len(b.byName) {
				break
			}
			delete(b.keys, old)
		}
		k = new(keys)
		b.keys[id] = k
	}
	b.mu.Unlock()
	k.once.Do(func() {
		b.places <- struct{}{}
		defer func() { <-b.places }()
		k.make(hashOf(mechanism), password, b.saltOf(name, mechanism))
	})
	return u, k
}

// make makes keys of a password by RFC 5802. Passwords are taken as they are, as Kafka does, and not prepared (RFC 4013).
func (k *keys) make(h func() hash.Hash, password, salt []byte) {
	salted, err := pbkdf2.Key(h, string(password), salt, iterations, h().Size())
	if err != nil {
		return // of a machine that allows no such password; no proof fits keys that are empty
	}
	stored := h()
	_, _ = stored.Write(mac(h, salted, "Client Key")) // a hash takes all
	k.stored, k.server = stored.Sum(nil), mac(h, salted, "Server Key")
}

// saltOf is what a client is told, also for a name that nobody has.
func (b *Book) saltOf(name, mechanism string) []byte { return b.derived("salt "+mechanism, name)[:16] }

func hashOf(mechanism string) func() hash.Hash {
	if mechanism == topology.ScramSHA512 {
		return sha512.New
	}
	return sha256.New
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	_, _ = m.Write([]byte(text)) // a hash takes all
	return m.Sum(nil)
}
