package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecret_Resolve(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain": "pw", "line": "pw\n", "windows": "pw\r\n", "two": "a\nb\n", "empty": "\n",
		"huge": strings.Repeat("x", maxSecretBytes+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ISTHMUS_TEST_PW", "from env")
	t.Setenv("ISTHMUS_TEST_EMPTY", "")
	for ref, want := range map[string]string{
		"file:plain": "pw", "file:line": "pw", "file:windows": "pw", "file:two": "a\nb", "file:" + filepath.Join(dir, "plain"): "pw",
		"env:ISTHMUS_TEST_PW": "from env", "file:empty": "", "file:huge": "", "file:none": "", "env:ISTHMUS_TEST_EMPTY": "",
		"env:ISTHMUS_TEST_NONE": "",
	} {
		s, err := ParseSecret(ref)
		if err != nil {
			t.Fatal(err)
		}
		s.base = dir
		got, err := s.Resolve()
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), ref) {
			t.Errorf("%s: the error does not name the reference: %v", ref, err)
		}
		if fmt.Sprint(s) != ref || strings.Contains(fmt.Sprintf("%+v %#v", s, s), "from env") {
			t.Errorf("prints as %v", s)
		}
	}
	if _, err := (Secret{}).Resolve(); err == nil || !(Secret{}).IsZero() {
		t.Error("the zero secret resolves")
	}
}

func TestParseSecret_RefusesLiterals(t *testing.T) {
	for _, text := range []string{"hunter2", "", "file:", "env:", "env:1hunter2", "env:hunter2!", "FILE:hunter2", "file:hunter2\nx", "https://hunter2"} {
		if _, err := ParseSecret(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"name", "dc", "bootstrap", "embedded", "tls", "sasl"}
	for word, want := range map[string]string{
		"nmae": "name", "Name": "name", "bootstraps": "bootstrap", "boostrap": "bootstrap", "embeded": "embedded", "tsl": "tls",
		"dcs": "dc", "x": "", "colour": "", "": "", strings.Repeat("name", 100): "",
	} {
		if got, _ := nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
