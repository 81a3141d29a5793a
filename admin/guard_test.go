package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/certs"
)

// secondHand is a clock that a test moves.
type secondHand struct{ ns atomic.Int64 }

func newHand() *secondHand {
	h := &secondHand{}
	h.ns.Store(time.Now().UnixNano())
	return h
}

func (h *secondHand) now() time.Time       { return time.Unix(0, h.ns.Load()) }
func (h *secondHand) move(d time.Duration) { h.ns.Add(int64(d)) }

func TestGuard_TellsWhatIsMissing(t *testing.T) {
	town, ca := newCity(), newAuthority(t)
	other := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	hand := newHand()
	town.add(t, "a", newFake("a"), func(c *Config) {
		c.Access, c.Now = people(t), hand.now
		_, c.Access.TLS = ca.issue(t, "a", hour).server(t)
		c.Access.Identities = append(c.Access.Identities, topology.Identity{Name: "ana", Subject: "ana", Role: topology.Viewer},
			topology.Identity{Name: "bob", Subject: "bob", Role: topology.Viewer})
	})
	with := func(token string) Login {
		l := ca.issue(t, "nobody", hour).login(t, "a")
		l.Cert, l.Key, l.Token = "", "", token
		return l
	}
	for _, tc := range []struct {
		name  string
		login Login
		md    []string
		want  string // part of the error; empty: let in
	}{
		{"a token", with(tokenFor("viewer")), nil, ""},
		{"nothing", with(""), nil, "neither a token nor a client certificate"},
		{"an unknown token", with("token-of-nobody-0123456789"), nil, "the token is not one of this fabric"},
		{"a short token", with("abc"), nil, "the token is not one of this fabric"},
		{"a part of a token", with(tokenFor("viewer")[:20]), nil, "the token is not one of this fabric"},
		{"a longer token", with(tokenFor("viewer") + "x"), nil, "the token is not one of this fabric"},
		{"a huge token", with(strings.Repeat("x", 8000)), nil, "the token is not one of this fabric"},
		{"basic", with(""), []string{"authorization", "Basic abc"}, "no bearer token"},
		{"two", with(""), []string{"authorization", "Bearer a", "authorization", "Bearer b"}, "send one"},
		{"lower case", with(""), []string{"authorization", "bearer " + tokenFor("viewer")}, ""},
		{"a certificate", ca.issue(t, "ana", hour).login(t, "a"), nil, ""},
		{"a certificate of nobody", ca.issue(t, "mallory", hour).login(t, "a"), nil, `has the subject "mallory"`},
		{"a token beats a certificate", func() Login {
			l := ca.issue(t, "ana", hour).login(t, "a")
			l.Token = "token-of-nobody-0123456789"
			return l
		}(), nil, "the token is not one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := town.client(t, "a", tc.login)
			_, err := c.Nodes(metadata.AppendToOutgoingContext(t.Context(), tc.md...))
			if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "0123456789") {
				t.Error("the error holds a token")
			}
		})
	}
	t.Run("a certificate of another authority", func(t *testing.T) {
		l := other.issue(t, "ana", hour).login(t, "a")
		l.CA, _ = secretFile(t, "ca.pem", ca.pem)
		if _, err := town.client(t, "a", l).Nodes(t.Context()); err == nil {
			t.Error("it was let in")
		}
	})
	t.Run("a certificate that ends while it is used", func(t *testing.T) {
		c := town.client(t, "a", ca.issue(t, "bob", time.Now().Add(30*time.Minute)).login(t, "a"))
		if _, err := c.Nodes(t.Context()); err != nil {
			t.Fatal(err)
		}
		hand.move(31 * time.Minute)
		if _, err := c.Nodes(t.Context()); !errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), "expired at") {
			t.Errorf("got %v, want that it expired", err)
		}
	})
	if strings.Contains(town.log.String(), "0123456789") {
		t.Error("the log holds a token")
	}
	if !strings.Contains(town.log.String(), "outcome=refused") {
		t.Error("the audit does not say who was refused")
	}
}

func TestGuard_TakesNewTokensAndForgetsOldOnes(t *testing.T) {
	town, hand := newCity(), newHand()
	path, ref := secretFile(t, "token", "token-number-one-1111\n")
	town.add(t, "a", newFake("a"), func(c *Config) {
		c.Now = hand.now
		c.Access.Identities = []topology.Identity{{Name: "ana", Token: ref, Role: topology.Viewer}}
	})
	may := func(token string) error {
		_, err := town.client(t, "a", Login{Token: token}).Nodes(t.Context())
		return err
	}
	if err := may("token-number-one-1111"); err != nil {
		t.Fatal(err)
	}
	replace(t, path, "token-number-one-1111\n\ntoken-number-two-2222\n")
	for _, token := range []string{"token-number-two-2222", "token-number-one-1111"} {
		if err := may(token); err != nil {
			t.Errorf("while both are there: %v", err)
		}
	}
	replace(t, path, "token-number-two-2222\n")
	hand.move(tokensFresh)
	if err := may("token-number-one-1111"); !errors.Is(err, ErrLogin) {
		t.Errorf("the old token after %v: %v, want ErrLogin", tokensFresh, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	hand.move(tokensKept / 2)
	if err := may("token-number-two-2222"); err != nil {
		t.Errorf("while the file is away for a moment: %v", err)
	}
	hand.move(tokensKept)
	if err := may("token-number-two-2222"); !errors.Is(err, ErrLogin) {
		t.Errorf("long after the file went: %v, want ErrLogin", err)
	}
	replace(t, path, "token-number-two-2222\n")
	if err := may("token-number-two-2222"); err != nil {
		t.Errorf("when the file is back: %v", err)
	}
}

// Certificates of the server, its authority and the token are all replaced while calls run over old and new connections.
func TestGuard_RotationHurtsNobody(t *testing.T) {
	town, first, second := newCity(), newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	hand := newHand()
	token, ref := secretFile(t, "token", "token-number-one-1111\n")
	var files serverFiles
	town.add(t, "a", newFake("a"), func(c *Config) {
		c.Now = hand.now
		files, c.Access.TLS = first.issue(t, "a", hour).server(t)
		c.Access.Identities = []topology.Identity{{Name: "bot", Token: ref, Role: topology.Viewer}, {Name: "ana", Subject: "ana", Role: topology.Viewer}}
	})
	both := first.pem + second.pem
	login := func(a authority, token string) Login {
		i := a.issue(t, "ana", hour)
		i.ca = both
		l := i.login(t, "a")
		if token != "" {
			l.Cert, l.Key, l.Token = "", "", token
		}
		return l
	}
	standing := []*Client{town.client(t, "a", login(first, "")), town.client(t, "a", login(first, "token-number-one-1111"))}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var asked, failed atomic.Int64
	for _, c := range standing {
		done.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Nodes(ctx); err != nil && ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("a standing connection: %v", err)
					return
				}
				asked.Add(1)
			}
		})
	}
	try := func(when string, logins ...Login) {
		t.Helper()
		hand.move(certs.Fresh)
		for _, l := range logins {
			if _, err := town.client(t, "a", l).Nodes(t.Context()); err != nil {
				t.Errorf("%s: a new connection: %v", when, err)
			}
		}
	}
	old, next := login(first, ""), login(second, "")
	try("at first", old, login(first, "token-number-one-1111"))
	replace(t, files.ca, both)
	replace(t, token, "token-number-one-1111\ntoken-number-two-2222\n")
	try("with both", old, next, login(first, "token-number-one-1111"), login(second, "token-number-two-2222"))
	server := second.issue(t, "a", hour)
	replace(t, files.cert, server.cert) // for a moment it does not fit its key
	try("between cert and key", old, next)
	replace(t, files.key, server.key)
	try("with the new server certificate", old, next)
	n := asked.Load()
	waitFor(t, func() bool { return asked.Load() > n+20 || failed.Load() > 0 })
	stop()
	done.Wait()
	replace(t, files.ca, second.pem)
	replace(t, token, "token-number-two-2222\n")
	try("with the new alone", next, login(second, "token-number-two-2222"))
	for i, c := range standing {
		if _, err := c.Nodes(t.Context()); !errors.Is(err, ErrLogin) {
			t.Errorf("old standing connection %d after the rotation: %v, want ErrLogin", i, err)
		}
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal("it did not come to be within 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestNewServer_RefusesBadSecrets(t *testing.T) {
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	missing, err := topology.ParseSecret("file:" + t.TempDir() + "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	token := func(text string) topology.Identity {
		_, ref := secretFile(t, "token", text)
		return topology.Identity{Name: "ana", Token: ref, Role: topology.Viewer}
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"no token": {func(c *Config) {
			c.Access.Identities = []topology.Identity{{Name: "ana", Token: missing}, {Name: "bob", Token: missing}}
		}, []string{"admin.identity ana: token: ", "admin.identity bob: token: "}},
		"short token": {func(c *Config) { c.Access.Identities = []topology.Identity{token("short\n")} }, []string{"has 5 characters, want 16"}},
		"blank lines": {func(c *Config) { c.Access.Identities = []topology.Identity{token("\n \n\n")} }, []string{"has no token"}},
		"many tokens": {func(c *Config) {
			c.Access.Identities = []topology.Identity{token(strings.Repeat("0123456789abcdef\n", 17))}
		}, []string{"more than 16"}},
		"one token of two": {func(c *Config) {
			bob := token("0123456789abcdef")
			bob.Name = "bob"
			c.Access.Identities = []topology.Identity{token("0123456789abcdef"), bob}
		}, []string{"also a token of identity ana"}},
		"key of another": {func(c *Config) {
			files, tls := ca.issue(t, "a", hour).server(t)
			replace(t, files.key, ca.issue(t, "a", hour).key)
			c.Access.TLS = tls
		}, []string{"admin.tls: cert"}},
		"no authority": {func(c *Config) {
			files, tls := ca.issue(t, "a", hour).server(t)
			replace(t, files.ca, "nothing")
			c.Access.TLS = tls
		}, []string{"admin.tls: client_ca", "no certificate in PEM"}},
		"tls alone off loopback": {func(c *Config) {
			_, c.Access.TLS = ca.issue(t, "a", hour).server(t)
			c.HTTP = "0.0.0.0:0"
		}, []string{"not a loopback address", "[admin] both tls and an identity"}},
		"identity alone off loopback": {func(c *Config) {
			c.Access.Identities = []topology.Identity{token("0123456789abcdef")}
			c.HTTP = "0.0.0.0:0"
		}, []string{"not a loopback address"}},
		"both off loopback": {func(c *Config) {
			_, c.Access.TLS = ca.issue(t, "a", hour).server(t)
			c.Access.Identities = []topology.Identity{token("0123456789abcdef")}
			c.HTTP = "0.0.0.0:0"
		}, nil},
		"insecure by the file": {func(c *Config) { c.Access.Insecure, c.HTTP = true, "0.0.0.0:0" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Metrics: prometheus.NewRegistry()}
			tc.change(&cfg)
			s, err := NewServer(cfg, newFake("a"), slog.New(slog.DiscardHandler))
			if err == nil {
				s.Close()
			}
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q has no %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "0123456789abcdef") {
				t.Error("the error holds a token")
			}
		})
	}
}

func TestHTTP_AsksWhoItIs(t *testing.T) {
	run := func(access topology.Admin) string {
		s, err := NewServer(Config{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Access: access, Metrics: prometheus.NewRegistry()}, newFake("a"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return s.HTTPAddr()
	}
	known, open := run(people(t)), run(topology.Admin{})
	for _, tc := range []struct {
		at, host, path, who string
		want                int
	}{
		{known, "", "/livez", "", 200},
		{known, "", "/readyz", "", 200},
		{known, "", "/startupz", "", 200},
		{known, "", "/metrics", "", 401},
		{known, "", "/metrics", "nobody", 401},
		{known, "", "/metrics", "viewer", 200},
		{known, "", "/metrics", "viewer-orders", 403},
		{known, "", "/debug/pprof/", "", 401},
		{known, "", "/debug/pprof/", "operator", 403},
		{known, "", "/debug/pprof/heap", "admin-orders", 403},
		{known, "", "/debug/pprof/heap", "admin", 200},
		{known, "", "/debug/pprof/cmdline", "operator", 403},
		{open, "", "/metrics", "", 200},
		{open, "", "/debug/pprof/", "", 200},
		{open, "localhost:1", "/debug/pprof/", "", 200},
		{open, "page.example", "/debug/pprof/", "", 403}, // a page of a browser here
	} {
		t.Run(tc.who+tc.path+tc.host, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tc.at+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tc.host
			if tc.who != "" {
				req.Header.Set("Authorization", "Bearer "+tokenFor(tc.who))
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != tc.want {
				t.Errorf("got %s (%v), want %d", res.Status, err, tc.want)
			}
		})
	}
}

func TestLogin_RefusesWhatGivesTheTokenAway(t *testing.T) {
	bad, _ := secretFile(t, "ca.pem", "nothing")
	for name, tc := range map[string]struct {
		login   Login
		address string
		want    string
	}{
		"plain text":          {Login{Token: "t"}, "192.0.2.1:7071", "in plain text"},
		"plain text here":     {Login{Token: "t"}, "127.0.0.1:7071", ""},
		"plain text, allowed": {Login{Token: "t", Insecure: true}, "192.0.2.1:7071", ""},
		"tls":                 {Login{Token: "t", TLS: true}, "192.0.2.1:7071", ""},
		"two lines":           {Login{Token: "t\nu"}, "127.0.0.1:7071", "blanks"},
		"half a certificate":  {Login{Cert: bad}, "127.0.0.1:7071", "both"},
		"bad authority":       {Login{CA: bad}, "127.0.0.1:7071", "no certificate in PEM"},
		"no file":             {Login{CA: bad + "x"}, "127.0.0.1:7071", "read ca"},
	} {
		_, err := tc.login.Options(tc.address)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

var _ net.Addr = remote("")
