package users

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// folder is where a test has its file of users.
type folder struct {
	t   *testing.T
	dir string
	now time.Time
}

func newFolder(t *testing.T) *folder { return &folder{t, t.TempDir(), time.Unix(1e9, 0)} }

func (f *folder) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) ref() topology.Secret {
	f.t.Helper()
	ref, err := topology.ParseSecret("file:" + filepath.Join(f.dir, "users.toml"))
	if err != nil {
		f.t.Fatal(err)
	}
	return ref
}

// file has anna, whose password is in a file, and billing, who has a certificate.
const file = `version = 1
[[user]]
name = "anna"
password = "file:anna"
[user.at.eu]
mechanism = "PLAIN"
username = "shop-anna"
password = "file:anna-eu"
[[user]]
name = "billing"
certificate = "CN=billing"
[user.at.eu]
mechanism = "SCRAM-SHA-256"
username = "billing"
password = "file:anna-eu"
`

func (f *folder) open() *Users {
	f.t.Helper()
	f.write("users.toml", file)
	f.write("anna", "pencil\n")
	f.write("anna-eu", "at eu\n")
	u, err := New(f.ref(), func() time.Time { return f.now })
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func knows(b *Book, name, password string) bool {
	_, u, err := b.Begin(topology.Plain, true).Next([]byte("\x00" + name + "\x00" + password))
	return err == nil && u.Name == name
}

// TestUsers_ReadAgain: a file and its secrets count as they are a second later; what is wrong leaves what was, and is told.
func TestUsers_ReadAgain(t *testing.T) {
	f := newFolder(t)
	u := f.open()
	first := u.Now()
	if !knows(first, "anna", "pencil") || knows(first, "anna", "rotated") {
		t.Error("the first password")
	}
	f.write("anna", "rotated")
	if u.Now() != first {
		t.Error("it is read again at once")
	}
	f.now = f.now.Add(Fresh)
	second := u.Now()
	if !knows(second, "anna", "rotated") || knows(second, "anna", "pencil") || u.Trouble() != nil {
		t.Errorf("the rotated password: %v", u.Trouble())
	}
	f.now = f.now.Add(Fresh)
	if u.Now() != second {
		t.Error("users that are the same are others, so their keys are made again")
	}
	f.write("users.toml", file+"[[user]]\nname = \"anna\"\n")
	f.now = f.now.Add(Fresh)
	if u.Now() != second || u.Trouble() == nil || !strings.Contains(u.Trouble().Error(), `users.toml:17:8: the user "anna" is already taken in line 3`) {
		t.Errorf("a wrong file: %v", u.Trouble())
	}
	f.write("users.toml", strings.Replace(file, "shop-anna", "anna", 1))
	f.now = f.now.Add(Fresh)
	if own, _ := u.Now().byName["anna"].At("eu"); own.username != "anna" || u.Trouble() != nil {
		t.Errorf("a mended file: %+v, %v", own, u.Trouble())
	}
}

// TestUsers_ReadsSeldomWhatTakesLong: reading takes a twentieth of the time.
func TestUsers_ReadsSeldomWhatTakesLong(t *testing.T) {
	f := newFolder(t)
	u := f.open()
	looks := 0
	u.now = func() time.Time {
		looks++
		f.now = f.now.Add(time.Second) // so a reading takes one
		return f.now
	}
	u.Now()
	if rest := u.until.Sub(f.now); rest != readsShare*time.Second {
		t.Errorf("it is read again after %v", rest)
	}
}

// TestNew_Faults: all secrets that cannot be had are told at once, with user and line, and none that can.
func TestNew_Faults(t *testing.T) {
	f := newFolder(t)
	if _, err := New(f.ref(), time.Now); err == nil || !strings.Contains(err.Error(), "credentials: resolve file:") {
		t.Errorf("no file: %v", err)
	}
	f.write("users.toml", file)
	f.write("anna", "hunter2\x00")
	_, err := New(f.ref(), time.Now)
	for _, want := range []string{`users.toml:2: user "anna": password: file:anna holds a zero byte`, `users.toml:2: user "anna": at.eu.password: resolve file:anna-eu: `, `users.toml:9: user "billing": at.eu.password: `} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Errorf("it says a secret: %v", err)
	}
}

// TestUsers_ManyAtOnce: whoever asks while the file is read has an answer at once, and the same.
func TestUsers_ManyAtOnce(t *testing.T) {
	f := newFolder(t)
	u := f.open()
	f.now = f.now.Add(Fresh)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if !knows(u.Now(), "anna", "pencil") {
				t.Error("anna is not known")
			}
		})
	}
	all.Wait()
}

func TestBook_WhoAndWhere(t *testing.T) {
	b := newFolder(t).open().Now()
	if u := b.ByCertificate("CN=billing"); u == nil || u.Name != "billing" {
		t.Errorf("%v", u)
	}
	if u := b.ByCertificate("CN=anna"); u != nil {
		t.Errorf("%v", u)
	}
	if u := b.ByCertificate(""); u != nil {
		t.Errorf("nobody's certificate is %v", u)
	}
	own, ok := b.byName["anna"].At("eu")
	if _, other := b.byName["anna"].At("us"); !ok || other || own.Mechanism().Name() != topology.Plain {
		t.Errorf("%v, %v, %v", ok, other, own.Mechanism().Name())
	}
	if got := b.byName["billing"].at["eu"].Mechanism().Name(); got != topology.ScramSHA256 {
		t.Error(got)
	}
	if _, message, err := own.Mechanism().Authenticate(t.Context(), ""); err != nil || string(message) != "\x00shop-anna\x00at eu" {
		t.Errorf("%q, %v", message, err)
	}
	if got := fmt.Sprint(b.Mechanisms(true), b.Mechanisms(false), newBook(nil, nil).Mechanisms(true)); got != "[PLAIN SCRAM-SHA-256 SCRAM-SHA-512] [SCRAM-SHA-256 SCRAM-SHA-512] []" {
		t.Error(got)
	}
}
