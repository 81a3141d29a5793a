package house

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/isthmus-project/isthmus"

// root is the repository: Go runs a test in the folder of its package.
var root = filepath.Join("..", "..")

func TestHouse_Layers(t *testing.T) {
	for _, tags := range []string{"", "synctests"} {
		for _, f := range Layers(module, list(t, tags)) {
			t.Errorf("%s (tags %q)", f, tags)
		}
	}
}

func TestHouse_Sizes(t *testing.T) {
	found, err := Sizes(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// list asks go list for the packages of the module; with -e, because what does not compile is for the compiler to say.
func list(t *testing.T, tags string) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", tags, "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v: %s", err, &stderr)
	}
	var packages []Package
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		packages = append(packages, p)
	}
}

func TestLayers_FindsWrongArrows(t *testing.T) {
	for _, tc := range []struct {
		name     string
		from, to string // without the module if ours
		bad      bool
	}{
		{"down", "mirror", "broker", false},
		{"down to a part", "cmd/isthmus", "topology/gossip", false},
		{"own folder", "topology/gossip", "topology", false},
		{"up", "broker", "mirror", true},
		{"up from a part", "broker/embedded", "admin", true},
		{"siblings", "router", "mirror", true},
		{"siblings, other way", "mirror", "router", true},
		{"checker imports ours", "checker", "topology", true},
		{"checker is for cmd", "cmd/isthmus", "checker", false},
		{"checker is not for mirror", "mirror", "checker", true},
		{"test imports anything", "test/kafka", "cmd/isthmus", false},
		{"nothing imports test", "mirror", "test/fabric", true},
		{"nothing imports scripts", "cmd/isthmus", "scripts/tool", true},
		{"nothing imports dashboards", "admin", "dashboards", true},
		{"client in broker", "broker/embedded", clients[0], false},
		{"client in test", "test/kafka", clients[1], false},
		{"client in mirror", "mirror", clients[0], true},
		{"admin client in cmd", "cmd/isthmus", clients[1], true},
		{"protocol anywhere", "mirror", "github.com/twmb/franz-go/pkg/kmsg", false},
		{"folder without a layer", "util", "fmt", true},
		{"module with a longer name", "mirror", module + "-tools/test", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to := tc.to
			if !strings.Contains(to, ".") && to != "fmt" {
				to = module + "/" + to
			}
			from := module + "/" + tc.from
			for kind, p := range map[string]Package{
				"import":      {ImportPath: from, Imports: []string{to}},
				"test import": {ImportPath: from, TestImports: []string{to}},
				"xtest":       {ImportPath: from, XTestImports: []string{to}},
			} {
				if found := Layers(module, []Package{p}); (len(found) > 0) != tc.bad {
					t.Errorf("%s: found %q, want a finding: %v", kind, found, tc.bad)
				}
			}
		})
	}
}

func TestSizes_FindsWhatIsTooLarge(t *testing.T) {
	const head = "// Package p is documented.\npackage p\n"
	lines := func(n int) string { return strings.Repeat("\n", n) }
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "f%d int\n", i)
		}
		return b.String()
	}
	for _, tc := range []struct {
		name, file, src string
		want            string // part of the only finding; "" for none
	}{
		{"file at the limit", "p/a.go", head + lines(maxFileLines-2), ""},
		{"file over it", "p/a.go", head + lines(maxFileLines-1), "file has 601 lines"},
		{"test file over it", "p/a_test.go", head + lines(maxFileLines-1), "file has 601 lines"},
		{"generated file over it", "p/a.pb.go", "package p" + lines(maxFileLines+1), ""},
		{"function at the limit", "p/a.go", head + "func f() {" + lines(maxFuncLines-1) + "}", ""},
		{"function over it", "p/a.go", head + "func f() {" + lines(maxFuncLines) + "}", "function f has 81 lines"},
		{"function over it in a test", "p/a_test.go", head + "func f() {" + lines(maxFuncLines) + "}", ""},
		{"struct at the limit", "p/a.go", head + "type s struct {\n" + fields(maxStructFields) + "}", ""},
		{"struct over it", "p/a.go", head + "type s struct {\n" + fields(maxStructFields) + "a, b int\n}", "struct has 17 fields"},
		{"local struct over it", "p/a.go", head + "func f() {\nvar _ struct {\n" + fields(maxStructFields) + "int\n}\n}", "struct has 16 fields"},
		{"no package comment", "p/a.go", "package p\n", "p: package has no package comment"},
		{"function without comment", "p/a.go", head + "func F() {}\n", "exported F has no comment"},
		{"function with one", "p/a.go", head + "// F does.\nfunc F() {}\n", ""},
		{"method without", "p/a.go", head + "// T is.\ntype T[K any] struct{}\nfunc (t *T[K]) M() {}\n", "exported M has no comment"},
		{"method of a hidden type", "p/a.go", head + "type t struct{}\nfunc (t) M() {}\n", ""},
		{"understood method", "p/a.go", head + "// T is.\ntype T struct{}\nfunc (T) String() string { return \"\" }\n", ""},
		{"function like an understood method", "p/a.go", head + "func Is() {}\n", "exported Is has no comment"},
		{"type without comment", "p/a.go", head + "type T int\n", "exported T has no comment"},
		{"interface method without", "p/a.go", head + "// T is.\ntype T interface{ M() }\n", "method M of exported T"},
		{"constant without", "p/a.go", head + "const C = 1\n", "exported C has no comment"},
		{"constant of a group", "p/a.go", head + "// The group.\nconst (\n\tC = 1\n\tD = 2\n)\n", ""},
		{"constant with a comment behind", "p/a.go", head + "const (\n\tC = 1 // one\n)\n", ""},
		{"variable without", "p/a.go", head + "var v, V int\n", "exported V has no comment"},
		{"folder that Go ignores", "p/testdata/a.go", "package p\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := Sizes(fstest.MapFS{tc.file: {Data: []byte(tc.src)}})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tc.want == "" && len(found) > 0:
				t.Errorf("found %q, want nothing", found)
			case tc.want != "" && (len(found) != 1 || !strings.Contains(found[0], tc.want)):
				t.Errorf("found %q, want only %q", found, tc.want)
			}
		})
	}
}

// TestSizes_PackageCommentInAnyFile: one file of a package has the comment for all.
func TestSizes_PackageCommentInAnyFile(t *testing.T) {
	found, err := Sizes(fstest.MapFS{
		"p/a.go":      {Data: []byte("package p\n")},
		"p/doc.go":    {Data: []byte("// Package p is documented.\npackage p\n")},
		"q/a_test.go": {Data: []byte("package q\n")},
	})
	if err != nil || len(found) > 0 {
		t.Errorf("found %q (%v), want nothing", found, err)
	}
	if _, err := Sizes(fstest.MapFS{"p/a.go": {Data: []byte("package")}}); err == nil {
		t.Error("a file that cannot be parsed was passed over")
	}
}

func TestHouse_Bubbles(t *testing.T) {
	found, err := Bubbles(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

func TestBubbles_FindsPackagesWithManyProcessors(t *testing.T) {
	uses := &fstest.MapFile{Data: []byte("package a\n\nimport (\n\t\"testing/synctest\"\n)\n")}
	one := &fstest.MapFile{Data: []byte("package a\n\nfunc TestMain(m *testing.M) {\n\truntime.GOMAXPROCS(1)\n\tm.Run()\n}\n")}
	found, err := Bubbles(fstest.MapFS{"a/a_test.go": uses, "b/b_test.go": uses, "b/main_test.go": one, "c/main_test.go": {Data: []byte("package c\n")}})
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "a: ") {
		t.Errorf("found %q, %v, want the one of folder a", found, err)
	}
}
