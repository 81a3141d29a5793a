package topology

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (go test -update rewrites it), got:\n%s", path, got)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files match %s: %v", pattern, err)
	}
	return paths
}

func TestParse_ReportsAllErrorsAtOnce(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.toml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			parsed, err := Parse(filepath.Base(path), read(t, path))
			var list Errors
			if !errors.As(err, &list) || parsed != nil {
				t.Fatalf("got %v, %v; want Errors", parsed, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("an error repeats a secret:\n%v", err)
			}
			golden(t, strings.TrimSuffix(path, ".toml")+".golden", err.Error()+"\n")
		})
	}
}

func TestSummary(t *testing.T) {
	for _, path := range files(t, "testdata/*.toml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			parsed, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".toml")+".golden", parsed.Summary())
		})
	}
}

func TestLoad_Full(t *testing.T) {
	top, err := Load("testdata/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	eu, _ := top.Cluster("eu")
	if eu.Bootstrap[1] != "[2001:db8::1]:9092" || eu.TLS.Cert.String() != "file:c.pem" || eu.TLS.ServerName != "kafka.example" ||
		eu.SASL.Mechanism != "SCRAM-SHA-512" || eu.SASL.User != "isthmus" || eu.SASL.Password.String() != "env:EU_PW" || eu.DC != "frankfurt" {
		t.Errorf("cluster eu: %+v %+v %+v", eu, eu.TLS, eu.SASL)
	}
	us, _ := top.Cluster("us")
	if us.Embedded == nil || us.Embedded.Dir != "testdata/data/us" || us.Embedded.Listen != "127.0.0.1:19093" {
		t.Errorf("the data directory must start from the file's folder: %+v", us.Embedded)
	}
	out, ok := top.Link("eu-us")
	if !ok || out.Start.Kind != Latest || out.ReplicationFactor != 3 || fmt.Sprint(out.Groups.Strings()) != "[*]" {
		t.Errorf("link eu-us: %+v %v", out, ok)
	}
	back, _ := top.Link("back")
	if want := time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC); back.Start.Kind != At || !back.Start.At.Equal(want) {
		t.Errorf("start %v, want %v", back.Start, want)
	}
	if n, ok := top.Node("eu-1"); !ok || n.HTTP != "127.0.0.1:7070" || n.GRPC != "127.0.0.1:7071" {
		t.Errorf("node: %+v %v", n, ok)
	}
	if _, ok := top.Link("us-eu"); ok {
		t.Error("a link with a name also has the default one")
	}
}

func TestLoad_Unreadable(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

func TestParse_AcceptsEditorsHabits(t *testing.T) {
	text := read(t, "testdata/full.toml")
	for name, data := range map[string][]byte{
		"crlf":            bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"bom":             append([]byte("\ufeff"), text...),
		"no last newline": bytes.TrimSpace(text),
		"start in blanks": bytes.ReplaceAll(text, []byte("2026-01-31T12"), []byte("2026-01-31 12")),
		"start in quotes": bytes.ReplaceAll(text, []byte("2026-01-31T12:00:00+01:00"), []byte(`"2026-01-31t12:00:00.5z"`)),
	} {
		if _, err := Parse("x.toml", data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse_IsBounded(t *testing.T) {
	for name, data := range map[string]string{
		"ten megabytes":      strings.Repeat("# comment\n", 1<<20),
		"all faults":         strings.Repeat("x y\n", MaxFileBytes/4),
		"deep array":         "x = " + strings.Repeat("[", MaxFileBytes-4),
		"deep table":         "x = " + strings.Repeat("{a=", MaxFileBytes/3-4),
		"long key":           "[" + strings.Repeat("a.", MaxFileBytes/2-2) + "a]",
		"many strings":       "[fabric]\nname = \"a\"\n" + strings.Repeat("x = \"\"\"\n", MaxFileBytes/10),
		"many unknown links": "[[cluster]]\nname=\"a\"\n" + strings.Repeat("[[link]]\nfrom=\"b\"\n", MaxFileBytes/20),
		"many clusters":      strings.Repeat("[[cluster]]\n", MaxFileBytes/12),
	} {
		_, err := Parse("x.toml", []byte(data))
		var list Errors
		if !errors.As(err, &list) || len(list) > maxErrors {
			t.Errorf("%s: %d errors, %.200v", name, len(list), err)
		}
	}
	many := strings.Repeat("x y\n", 2*maxErrors)
	if _, err := Parse("x.toml", []byte(many)); !strings.HasSuffix(err.Error(), "too many errors; mend those above and check again") {
		t.Errorf("the end of the report does not say that it is cut")
	}
}

// TestParse_CollidingTags looks for two names that share a tag; over a few thousand names some do.
func TestParse_CollidingTags(t *testing.T) {
	seen := make(map[uint64]string)
	for i := 0; ; i++ {
		name := fmt.Sprintf("c%d", i)
		other, collides := seen[tag(name, clusterBits)]
		seen[tag(name, clusterBits)] = name
		if !collides {
			continue
		}
		text := fmt.Sprintf("fabric.name = \"f\"\n[[cluster]]\nname = %q\nbootstrap = [\"a:1\"]\n[[cluster]]\nname = %q\nbootstrap = [\"b:1\"]\n", other, name)
		_, err := Parse("x.toml", []byte(text))
		want := fmt.Sprintf("x.toml:6:8: the clusters %q and %q have the same tag in producer ids; rename the one that holds no mirrored data yet", other, name)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		return
	}
}

// TestTree_TablesSetTwice holds the rules of the TOML specification that the tree applies itself.
func TestTree_TablesSetTwice(t *testing.T) {
	for text, valid := range map[string]bool{
		"a.b = 1\na.c = 2":                      true,
		"[a.b]\n[a]\nc = 1":                     true,
		"[a]\nb.c = 1\n[a.b.d]\ne = 1":          true,
		"[[a]]\n[a.b]\n[[a]]\n[a.b]":            true,
		"a = { b.c = 1, b.d = 2 }":              true,
		"a = 1\na = 2":                          false,
		"a = 1\na.b = 2":                        false,
		"[a]\n[a]":                              false,
		"[a]\nb = 1\n[a.b]":                     false,
		"[a]\nb.c = 1\n[a.b]":                   false,
		"[a.b.c]\nz = 9\n[a]\nb.c.t = 1":        false,
		"[a.b.c.d]\nz = 9\n[a]\nb.c.d.k.t = 1":  false,
		"a = { b = 1 }\n[a.c]":                  false,
		"a = { b = 1 }\na.c = 2":                false,
		"a = { b = { c = 1 }, b.d = 2 }":        false,
		"a = []\n[[a]]":                         false,
		"[[a]]\n[a]":                            false,
		"[a]\n[[a]]":                            false,
		"[a.b]\n[[a]]":                          false,
		"[[a.b]]\n[a.b.c]\n[a.b.c]":             false,
		"a = { b = 1, b = 2 }":                  false,
		"[[a]]\nb = 1\n[a.b]":                   false,
		"a = [{ b = 1 }]\n[a.c]":                false,
		"[a]\nb = { c.d = 1 }\n[a.b.c]\ne = 1":  false,
		"\"a\" = 1\n'a' = 2":                    false,
		"[ a . 'b' ]\nc = 1\n[a.\"b\"]\nd = 1 ": false,
	} {
		d := newDiagnostics("x.toml", []byte(text))
		parseTree(d)
		if (d.err() == nil) != valid {
			t.Errorf("%q: valid is %v, got %v", text, valid, d.err())
		}
		var any map[string]any
		if err := toml.Unmarshal([]byte(text), &any); (err == nil) != valid {
			t.Errorf("%q: the library says %v", text, err)
		}
	}
}

// FuzzParse asserts that no text makes the parser panic, that every error lies inside the text, that the tree never takes
// for broken what the library's own decoder reads, nor for whole what it does not, that the same text says the same twice,
// and that a topology that was taken keeps its promises: names are there once, routes begin and end where they should.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.toml", "testdata/bad/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := Parse("x.toml", data)
		if _, again := Parse("x.toml", data); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Fatalf("said first\n%v\nand then\n%v", err, again)
		}
		if err == nil {
			var any map[string]any
			if err := toml.Unmarshal(data, &any); err != nil {
				t.Fatalf("we read it, the library says %v", err)
			}
			checkTopology(t, top)
			return
		}
		var list Errors
		if !errors.As(err, &list) {
			t.Fatalf("%T is not Errors", err)
		}
		lines := strings.Split(string(data), "\n")
		for _, e := range list {
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 || e.Msg == "" {
				t.Fatalf("impossible place: %v", e)
			}
		}
		var any map[string]any
		if toml.Unmarshal(data, &any) != nil {
			return
		}
		if d := newDiagnostics("x.toml", data); d.readable() {
			if parseTree(d); d.err() != nil {
				t.Fatalf("the library reads it, we say:\n%v", d.err())
			}
		}
	})
}

// checkTopology looks at what everybody relies on who has a topology.
func checkTopology(t *testing.T, top *Topology) {
	t.Helper()
	_ = top.Summary()
	text := top.Export()
	if again, err := Parse("x.toml", []byte(text)); err != nil || again.Export() != text {
		t.Fatalf("cannot be exported: %v\n%s", err, text)
	}
	clusters, links := make(map[string]bool), make(map[string]bool)
	for _, c := range top.Clusters {
		if c.Name == "" || clusters[c.Name] {
			t.Fatalf("cluster %q is there twice, or has no name", c.Name)
		}
		clusters[c.Name] = true
	}
	for _, l := range top.Links {
		if l.Name == "" || links[l.Name] || l.From == l.To || !clusters[l.From] || !clusters[l.To] {
			t.Fatalf("link %q from %q to %q", l.Name, l.From, l.To)
		}
		links[l.Name] = true
	}
	for _, origin := range top.Clusters {
		for _, target := range top.Clusters {
			path := top.Route(origin.Name, target.Name, "orders")
			at := origin.Name
			for _, l := range path {
				if l.From != at || !l.Matches("orders") || !top.Carries(l, origin.Name, "orders") {
					t.Fatalf("route from %s to %s goes over %s at %s", origin.Name, target.Name, l.Name, at)
				}
				at = l.To
			}
			if len(path) > 0 && at != target.Name {
				t.Fatalf("route from %s to %s ends at %s", origin.Name, target.Name, at)
			}
		}
	}
}
