package topology

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestExport_ReadsAsTheSame: what is written is read as the same topology, and written the same again.
func TestExport_ReadsAsTheSame(t *testing.T) {
	for _, path := range append(files(t, "testdata/*.toml"), files(t, "../examples/*.toml")...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			top, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			text := top.Export()
			again, err := Parse(path, []byte(text))
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if got := again.Export(); got != text {
				t.Errorf("written first\n%s\nand then\n%s", text, got)
			}
			if again.Hash() != top.Hash() || again.RunningHash() != top.RunningHash() {
				t.Error("the hashes differ")
			}
			for _, note := range Diff(top, again) {
				t.Errorf("differs: %v", note)
			}
		})
	}
}

func TestExport_Golden(t *testing.T) {
	for _, name := range []string{"failover", "full", "isolated", "logins", "quota", "short", "tail", "tier"} {
		top, err := Load("testdata/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/"+name+".export", top.Export())
	}
}

func TestQuote_IsTOML(t *testing.T) {
	for _, text := range []string{`"quoted" \ back`, "tab\tline\nbell\a del\x7f", "ünïcode ✓ \u2028", `\u0041`, "#'''"} {
		n, err := parseValue(quote(text))
		if err != nil || n.text != text {
			t.Errorf("%q is written as %s and read as %+v, %v", text, quote(text), n, err)
		}
	}
}

func TestRunningHash_LeavesTheNodesOwnOut(t *testing.T) {
	text := string(read(t, "testdata/tier.toml"))
	one, err := Parse("x.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	two, err := Parse("x.toml", []byte(strings.Replace(text, "capacity = 2.5", "capacity = 3", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if one.Hash() == two.Hash() || one.RunningHash() != two.RunningHash() {
		t.Error("another capacity is another file that runs the same")
	}
	two, err = Parse("x.toml", []byte(strings.Replace(text, `exclude = ["patients-*"]`, `exclude = ["patients-*", "x"]`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if one.RunningHash() == two.RunningHash() {
		t.Error("a link that excludes more runs the same")
	}
}
