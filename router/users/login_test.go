package users

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/topology"
)

// bookOf has one user, an,na= with the password pencil, and one without.
func bookOf() *Book {
	return newBook(map[string]*User{"an,na=": {Name: "an,na=", password: []byte("pencil")}, "billing": {Name: "billing", subject: "CN=billing"}}, []byte("salt of the test"))
}

// talk logs in with a client's own library.
func talk(t *testing.T, b *Book, m sasl.Mechanism) (*User, error) {
	t.Helper()
	l := b.Begin(m.Name(), true)
	s, message, err := m.Authenticate(t.Context(), "door")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answer, user, err := l.Next(message)
		if err != nil {
			return nil, err
		}
		done, next, err := s.Challenge(answer)
		if err != nil {
			t.Fatalf("the client refuses %q: %v", answer, err)
		}
		if done != (user != nil) {
			t.Fatalf("done: the client %v, the server %v", done, user)
		}
		if done {
			return user, nil
		}
		message = next
	}
	t.Fatal("it does not end")
	return nil, nil
}

// TestLogin_WithALibrary: franz-go's client gets in with the right password, and takes the server for one that knows it.
func TestLogin_WithALibrary(t *testing.T) {
	b := bookOf()
	for name, tc := range map[string]struct {
		user, password string
		ok             bool
	}{
		"right":       {"an,na=", "pencil", true},
		"wrong":       {"an,na=", "pencils", false},
		"nobody":      {"ben", "pencil", false},
		"no password": {"billing", "x", false},
	} {
		auth := scram.Auth{User: tc.user, Pass: tc.password}
		for _, m := range []sasl.Mechanism{auth.AsSha256Mechanism(), auth.AsSha512Mechanism()} {
			for range 2 {
				user, err := talk(t, b, m)
				if (err == nil) != tc.ok || tc.ok && user.Name != tc.user || !tc.ok && err != ErrRefused {
					t.Errorf("%s, %s: %v, %v", name, m.Name(), user, err)
				}
			}
		}
		_, user, err := b.Begin(topology.Plain, true).Next([]byte("\x00" + tc.user + "\x00" + tc.password))
		if (err == nil) != tc.ok || tc.ok && user.Name != tc.user || !tc.ok && err != ErrRefused {
			t.Errorf("%s, PLAIN: %v, %v", name, user, err)
		}
	}
}

// TestLogin_RFC7677: the example of the standard.
func TestLogin_RFC7677(t *testing.T) {
	b := newBook(map[string]*User{"user": {Name: "user", password: []byte("pencil")}}, nil)
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	k := new(keys)
	k.once.Do(func() { k.make(sha256.New, []byte("pencil"), salt) })
	b.keys[named{"user", topology.ScramSHA256}] = k
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	l := &Login{Mechanism: topology.ScramSHA256, book: b, asked: true, name: "user", gs2: "n,,", nonce: nonce,
		about: []byte("n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,")}
	answer, user, err := l.Next([]byte("c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || user.Name != "user" || string(answer) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%q, %v, %v", answer, user, err)
	}
}

// TestLogin_Messages: what is none of the mechanism is refused and said so, without a word about users.
func TestLogin_Messages(t *testing.T) {
	const first = "n,,n=an=2Cna=3D,r=abc"
	for name, tc := range map[string]struct {
		mechanism string
		messages  []string // all but the last are taken
	}{
		"plain, one part":         {"PLAIN", []string{"secret"}},
		"plain, four parts":       {"PLAIN", []string{"\x00a\x00b\x00c"}},
		"plain, no name":          {"PLAIN", []string{"\x00\x00secret"}},
		"plain, a long name":      {"PLAIN", []string{"\x00" + strings.Repeat("a", maxName+1) + "\x00secret"}},
		"plain, for another":      {"PLAIN", []string{"ben\x00an,na=\x00pencil"}},
		"scram, nothing":          {"SCRAM-SHA-256", []string{""}},
		"scram, a bound channel":  {"SCRAM-SHA-256", []string{"p=tls-unique,,n=a,r=abc"}},
		"scram, an extension":     {"SCRAM-SHA-256", []string{"n,,m=1,n=a,r=abc"}},
		"scram, for another":      {"SCRAM-SHA-256", []string{"n,a=ben,n=a,r=abc"}},
		"scram, no authorization": {"SCRAM-SHA-256", []string{"n,ben,n=a,r=abc"}},
		"scram, no name":          {"SCRAM-SHA-256", []string{"n,,n=,r=abc"}},
		"scram, a bare sign":      {"SCRAM-SHA-256", []string{"n,,n=a=b,r=abc"}},
		"scram, a long name":      {"SCRAM-SHA-256", []string{"n,,n=" + strings.Repeat("a", maxName+1) + ",r=abc"}},
		"scram, no nonce":         {"SCRAM-SHA-256", []string{"n,,n=a,r="}},
		"scram, a long nonce":     {"SCRAM-SHA-256", []string{"n,,n=a,r=" + strings.Repeat("a", maxNonce+1)}},
		"scram, a strange nonce":  {"SCRAM-SHA-256", []string{"n,,n=a,r=a\x00b"}},
		"scram, no proof":         {"SCRAM-SHA-512", []string{first, "c=biws,r=abc"}},
		"scram, a strange proof":  {"SCRAM-SHA-512", []string{first, "c=biws,r=abc,p=?"}},
		"scram, another binding":  {"SCRAM-SHA-512", []string{first, "c=eSws,r=NONCE,p=YQ=="}},
		"scram, another nonce":    {"SCRAM-SHA-512", []string{first, "c=biws,r=abc,p=YQ=="}},
		"scram, first twice":      {"SCRAM-SHA-512", []string{first, first}},
	} {
		l := bookOf().Begin(tc.mechanism, true)
		var err error
		for i, m := range tc.messages {
			var user *User
			if _, user, err = l.Next([]byte(strings.ReplaceAll(m, "NONCE", l.nonce))); user != nil || (err != nil) != (i == len(tc.messages)-1) {
				t.Errorf("%s: message %d: %v, %v", name, i, user, err)
			}
		}
		if !errors.Is(err, ErrMessage) || strings.Contains(err.Error(), "pencil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := bookOf().Begin("SCRAM-SHA-256", false)
	if _, _, err := l.Next([]byte(first)); err != nil {
		t.Fatal(err)
	}
	if _, user, err := l.Next([]byte("c=biws,r=" + l.nonce + ",p=YQ==")); err != ErrRefused || user != nil {
		t.Errorf("a short proof: %v, %v", user, err)
	}
	for _, m := range []string{"OAUTHBEARER", "GSSAPI", "", "PLAIN "} {
		if bookOf().Begin(m, true) != nil {
			t.Errorf("%q is offered", m)
		}
	}
	if bookOf().Begin("PLAIN", false) != nil {
		t.Error("PLAIN is offered where others listen")
	}
}

// TestLogin_NobodyIsLikeSomebody: what a client is told before it is refused is of the same form for a name that nobody has, and stays the same.
func TestLogin_NobodyIsLikeSomebody(t *testing.T) {
	b := bookOf()
	form := func(name string) string {
		answer, _, err := b.Begin(topology.ScramSHA256, true).Next([]byte("n,,n=" + name + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(answer), ",")
		return rest
	}
	somebody, nobody := form("an=2Cna=3D"), form("ben")
	if len(somebody) != len(nobody) || somebody == nobody || form("ben") != nobody || form("an=2Cna=3D") != somebody || !strings.HasSuffix(nobody, ",i="+strconv.Itoa(iterations)) {
		t.Errorf("%q and %q", somebody, nobody)
	}
	if _, k := b.keysOf("ben", topology.ScramSHA256); len(k.stored) == 0 {
		t.Error("no work is done for a name that nobody has")
	}
	for i := range 3 * mostKeys {
		b.mu.Lock()
		b.keys[named{strconv.Itoa(i), ""}] = new(keys)
		b.mu.Unlock()
	}
	if b.keysOf("anna", topology.ScramSHA256); len(b.keys) > mostKeys+2*len(b.byName)+1 {
		t.Errorf("%d keys are kept", len(b.keys))
	}
}

// FuzzLogin: nobody gets in without the password, whatever he says, and nothing breaks.
func FuzzLogin(f *testing.F) {
	f.Add("PLAIN", []byte("\x00an,na=\x00pencil"), []byte{})
	f.Add("SCRAM-SHA-256", []byte("n,,n=an=2Cna=3D,r=abc"), []byte("c=biws,r=NONCE,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	f.Add("SCRAM-SHA-512", []byte("y,a=a,n=a,r=abc,ext=1"), []byte("c=eSws,r=NONCE,x=1,p="))
	b := bookOf()
	f.Fuzz(func(t *testing.T, mechanism string, first, second []byte) {
		l := b.Begin(mechanism, true)
		if l == nil {
			return
		}
		answer, user, err := l.Next(first)
		if user != nil && !bytes.HasSuffix(first, []byte("\x00an,na=\x00pencil")) {
			t.Errorf("%q is let in by %q", user.Name, first)
		}
		if err != nil || user != nil {
			return
		}
		if !bytes.HasPrefix(answer, []byte("r=")) {
			t.Errorf("%q", answer)
		}
		if _, user, err := l.Next(bytes.ReplaceAll(second, []byte("NONCE"), []byte(l.nonce))); user != nil || err == nil {
			t.Errorf("%q lets %v in", second, user)
		}
	})
}

// BenchmarkLogin is a login by SCRAM of a user whose keys are known.
func BenchmarkLogin(b *testing.B) {
	book := bookOf()
	const by = topology.ScramSHA256
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			new(keys).make(sha256.New, []byte("pencil"), []byte("0123456789abcdef"))
		}
	})
	b.Run("messages", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l := book.Begin(by, true)
			if _, _, err := l.Next([]byte("n,,n=an=2Cna=3D,r=abc")); err != nil {
				b.Fatal(err)
			}
			if _, _, err := l.Next([]byte("c=biws,r=" + l.nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")); err != ErrRefused {
				b.Fatal(err)
			}
		}
	})
}
