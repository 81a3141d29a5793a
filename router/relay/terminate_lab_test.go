package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/quota"
	"github.com/isthmus-project/isthmus/router/users"
	"github.com/isthmus-project/isthmus/topology"
)

// usersOf reads a file of users; each password is in a file of its own, named like it.
func usersOf(t *testing.T, text string) *users.Users {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{"pencil", "secret", "wrong"} {
		if err := os.WriteFile(filepath.Join(dir, p), []byte(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "users.toml")
	if err := os.WriteFile(path, []byte("version = 1\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := topology.ParseSecret("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	u, err := users.New(ref, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// atDoor are those of the door, whose passwords no home knows; atHome those that the home knows.
const (
	atDoor = `
[[user]]
name = "anna"
password = "file:pencil"
at.eu = { mechanism = "SCRAM-SHA-512", username = "shop-anna", password = "file:secret" }
[[user]]
name = "ben"
password = "file:pencil"
certificate = "CN=ben"
at.eu = { mechanism = "PLAIN", username = "shop-ben", password = "file:secret" }
[[user]]
name = "carl"
password = "file:pencil"
at.us = { mechanism = "PLAIN", username = "shop-carl", password = "file:secret" }
[[user]]
name = "dora"
password = "file:pencil"
certificate = "CN=dora"
at.eu = { mechanism = "SCRAM-SHA-256", username = "shop-anna", password = "file:wrong" }
`
	atHome = `
[[user]]
name = "shop-anna"
password = "file:secret"
at.x = { mechanism = "PLAIN", username = "x", password = "file:secret" }
[[user]]
name = "shop-ben"
password = "file:secret"
at.x = { mechanism = "PLAIN", username = "x", password = "file:secret" }
`
)

// home plays a broker that wants logins.
type home struct {
	book     *users.Users
	only     string        // the one mechanism that it takes, if it is not empty
	lasts    time.Duration // of a login
	slow     bool          // it wants endless work
	silent   bool          // it answers no login
	breakOff bool          // it hangs up on logins
	hold     chan struct{} // fetches are answered when it is closed

	mu  sync.Mutex
	did []string
}

func (h *home) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, what)
}

func (h *home) done() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.did, ", ")
}

// serve hangs up right behind the answer to a login that it refuses, as brokers do.
func (h *home) serve(c net.Conn) {
	defer c.Close()
	var login *users.Login
	user := ""
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		b := append(size[:], make([]byte, binary.BigEndian.Uint32(size[:]))...)
		if _, err := io.ReadFull(c, b[4:]); err != nil {
			return
		}
		req, err := frame.ParseRequest(b, len(b), apis.Flexible)
		if err != nil {
			h.note(err.Error())
			return
		}
		m := kmsg.RequestForKey(req.Key)
		m.SetVersion(req.Version)
		if err := m.ReadFrom(b[req.Header:]); err != nil {
			h.note(err.Error())
			return
		}
		resp := m.ResponseKind()
		over := false
		switch m := m.(type) {
		case *kmsg.SASLHandshakeRequest:
			if h.silent {
				continue
			}
			if h.breakOff {
				return
			}
			login = h.book.Now().Begin(m.Mechanism, true)
			if h.only != "" && m.Mechanism != h.only {
				r := resp.(*kmsg.SASLHandshakeResponse)
				r.ErrorCode, r.SupportedMechanisms, over = kerr.UnsupportedSaslMechanism.Code, []string{h.only}, true
			}
		case *kmsg.SASLAuthenticateRequest:
			r := resp.(*kmsg.SASLAuthenticateResponse)
			said, who, err := login.Next(m.SASLAuthBytes)
			if h.slow {
				said = bytes.Replace(said, []byte(",i=4096"), []byte(",i=2000000000"), 1)
			}
			if r.SASLAuthBytes = said; err != nil {
				r.ErrorCode, r.ErrorMessage, over = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("no"), true
			}
			if who != nil {
				user, r.SessionLifetimeMillis = who.Name, h.lasts.Milliseconds()
				h.note(user + " by " + login.Mechanism)
			}
		case *kmsg.FetchRequest:
			if h.hold != nil {
				<-h.hold
			}
			h.note(user + " asks Fetch")
		default:
			h.note(user + " asks " + kmsg.NameForKey(req.Key))
		}
		if _, err := c.Write(answer(req.Correlation, req.Version, resp)); err != nil || over {
			return
		}
	}
}

var anybody = func() topology.Patterns {
	p, err := topology.ParsePattern("*")
	if err != nil {
		panic(err)
	}
	return topology.Patterns{p}
}()

// isOnAccountOf checks whose quota the last request was on.
func (l *lab) isOnAccountOf(name string) {
	l.t.Helper()
	synctest.Wait()
	if got, want := l.relay.spender.account, l.relay.cfg.Quotas.Of(time.Now(), "test", name); got == nil || got != want {
		l.t.Errorf("requests are not on the account of %s", name)
	}
}

// terminated runs a relay where logins end, in a bubble, and a home that knows others.
func terminated(t *testing.T, h *home, change func(*Config), fn func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		door := usersOf(t, atDoor)
		h.book = usersOf(t, atHome)
		l := newLab(t, func(c *Config) {
			c.Terminate = &Terminate{Users: door.Now, Home: func() string { return "eu" }, Private: true}
			c.Limits.BeforeLogin = 64 << 10
			c.Quotas = quota.New([]topology.Quota{{Principals: anybody, RequestRate: 1000}})
			if change != nil {
				change(c)
			}
		})
		var homes sync.WaitGroup
		homes.Go(func() {
			for c := range l.broker {
				homes.Go(func() { h.serve(c) })
			}
		})
		fn(t, l)
		_ = l.client.Close()
		synctest.Wait()
		if kept := fmt.Sprintf("%+v %+v", l.relay.Seen().Who(), l.relay.Seen().Principal()); strings.Contains(kept, "pencil") {
			t.Errorf("a secret is kept: %s", kept)
		}
		close(l.broker)
		homes.Wait()
	})
}

// shake begins a login and returns what the door says of it.
func (l *lab) shake(mechanism string) kmsg.SASLHandshakeResponse {
	l.t.Helper()
	m := kmsg.NewPtrSASLHandshakeRequest()
	m.Mechanism = mechanism
	send(l.t, l.client, request(1, 1, m))
	var resp kmsg.SASLHandshakeResponse
	resp.SetVersion(1)
	if err := resp.ReadFrom(expect(l.t, l.client, 1)); err != nil {
		l.t.Fatal(err)
	}
	return resp
}

// prove sends one message of a login and returns what the door says to it.
func (l *lab) prove(message []byte) kmsg.SASLAuthenticateResponse {
	l.t.Helper()
	m := kmsg.NewPtrSASLAuthenticateRequest()
	m.SASLAuthBytes = message
	send(l.t, l.client, request(2, 2, m))
	var resp kmsg.SASLAuthenticateResponse
	resp.SetVersion(2)
	if err := resp.ReadFrom(expect(l.t, l.client, 2)[1:]); err != nil {
		l.t.Fatal(err)
	}
	return resp
}

// logIn logs in as a client's library does, and returns the last answer.
func (l *lab) logIn(m sasl.Mechanism) kmsg.SASLAuthenticateResponse {
	l.t.Helper()
	if resp := l.shake(m.Name()); resp.ErrorCode != 0 || !slices.Contains(resp.SupportedMechanisms, m.Name()) {
		l.t.Fatalf("%s: %+v", m.Name(), resp)
	}
	s, message, err := m.Authenticate(l.t.Context(), "door")
	if err != nil {
		l.t.Fatal(err)
	}
	for {
		resp := l.prove(message)
		if resp.ErrorCode != 0 {
			return resp
		}
		var done bool
		if done, message, err = s.Challenge(resp.SASLAuthBytes); err != nil {
			l.t.Fatal(err)
		}
		if done {
			return resp
		}
	}
}

func asPlain(user string) sasl.Mechanism {
	return saslplain.Auth{User: user, Pass: "pencil"}.AsMechanism()
}

// ask asks for metadata.
func (l *lab) ask() {
	l.t.Helper()
	send(l.t, l.client, request(7, 9, kmsg.NewPtrMetadataRequest()))
	expect(l.t, l.client, 7)
}
