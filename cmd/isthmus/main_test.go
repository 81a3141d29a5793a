package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// childEnv makes a process of this test binary into isthmus itself: a demo starts its nodes from its own program.
const childEnv = "ISTHMUS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// output is a buffer that a command and its test may use at once.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command runs one command line without an environment.
func command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err output
	code = run(ctx, args, terminal{out: &out, err: &err, env: func(string) string { return "" }})
	return code, out.String(), err.String()
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (-update accepts it):\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// writeFile writes a file into the test's folder and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHelp(t *testing.T) {
	for _, verb := range []string{"", "check", "plan", "run", "demo", "status", "translate", "ledger", "version", "nodes", "owners", "settings", "history", "diff",
		"export", "watch", "drift", "groups", "router", "router status", "router clients", "ready", "verify", "switchover", "failover", "failback", "drill", "drill plan", "drill rehearse", "drill switchover", "drill failover", "drill failback", "drill history", "pause", "resume", "retry", "anchor", "drain", "set", "unset", "apply", "undo", "rotate-key"} {
		args := []string{"--help"}
		name := "help"
		if verb != "" {
			args, name = append(strings.Fields(verb), "--help"), "help-"+strings.ReplaceAll(verb, " ", "-")
		}
		code, out, errs := command(t.Context(), args...)
		if code != exitOK || errs != "" || !strings.Contains(out, "Examples:\n") {
			t.Errorf("%s: exit %d, error stream %q; every verb has an example:\n%s", name, code, errs, out)
		}
		golden(t, name, out)
	}
}

func TestUsage(t *testing.T) {
	file := writeFile(t, "ok.toml", minimal)
	for _, tc := range []struct {
		name string
		args string
		code int
		want string // on the error stream
	}{
		{"unknown verb", "frobnicate", exitUsage, "frobnicate"},
		{"unknown verb of router", "router frobnicate", exitUsage, "frobnicate"},
		{"unknown flag", "status --nope", exitUsage, "--nope"},
		{"flag without value", "run -c", exitUsage, "-c"},
		{"too many arguments", "status a b", exitUsage, "arg(s)"},
		{"check without file", "check", exitUsage, "arg(s)"},
		{"run without file", "run", exitUsage, "-c FILE"},
		{"run with a missing file", "run -c /nowhere/x.toml", exitUsage, "/nowhere/x.toml"},
		{"run with a node that is not there", "run --node x -c " + file, exitUsage, `node "x" is not in the file`},
		{"log level", "run --log-level loud -c " + file, exitUsage, `"loud"`},
		{"log format", "run --log-format xml -c " + file, exitUsage, `"xml"`},
		{"open address", "run --http 0.0.0.0:0 --grpc 127.0.0.1:0 -c " + file, exitFailed, "not a loopback address"},
		{"position", "translate eu-us orders", exitUsage, "TOPIC:PARTITION@OFFSET"},
		{"address", "status --addr 7071", exitUsage, "host:port"},
		{"nobody there", "status --addr 127.0.0.1:1", exitUnreachable, "127.0.0.1:1"},
		{"nobody there, ledger", "ledger --addr 127.0.0.1:1", exitUnreachable, "--addr"},
		{"too often", "status --watch --every 1ms", exitUsage, "1ms"},
		{"demo backwards", "demo --for -1s", exitUsage, "--for"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := command(t.Context(), strings.Fields(tc.args)...)
			if code != tc.code || !strings.Contains(errs, tc.want) {
				t.Errorf("exit %d, want %d; error stream %q, want %q in it; output %q", code, tc.code, errs, tc.want, out)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	code, out, errs := command(t.Context(), "version")
	if code != exitOK || !strings.HasPrefix(out, "isthmus ") || errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, out, _ := command(t.Context(), "version", "--json"); code != exitOK || !strings.Contains(out, `"go":"go`) {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, _ := command(t.Context(), "completion", shell); code != exitOK || !strings.Contains(out, "isthmus") {
			t.Errorf("%s: exit %d, %d bytes", shell, code, len(out))
		}
	}
}
