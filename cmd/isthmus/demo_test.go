package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lastLine reads the verdict that demo --json ends with.
func lastLine(t *testing.T, out string) demoResult {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r demoResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is no verdict: %v in %q", err, out)
	}
	return r
}

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	args := strings.Fields("demo --for 3s --json --http 127.0.0.1:0 --grpc 127.0.0.1:0 --dir " + dir)
	code, out, errs := command(t.Context(), args...)
	r := lastLine(t, out)
	if code != exitOK || !r.OK || r.Produced < 1000 || r.Aborted == 0 || r.Mirrored != 2*r.Produced || r.Ledger != 0 {
		t.Fatalf("exit %d, %s\n%s", code, out, errs)
	}
	for _, want := range []string{"/metrics", "status --addr 127.0.0.1:"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q does not tell %q", errs, want)
		}
	}
	for _, c := range []string{"eu", "us", "ap"} {
		if got := r.Clusters[c]; got.Records != r.Produced || got.Own == 0 || got.Own+got.Mirrored != got.Records {
			t.Errorf("%s holds %+v of %d produced", c, got, r.Produced)
		}
	}
	// Once more on the same data: what was there stays, and nothing of it is copied again.
	args[2] = "1s"
	code, out, errs = command(t.Context(), args...)
	again := lastLine(t, out)
	if code != exitOK || !again.OK || again.Clusters["eu"].Records != r.Produced+again.Produced {
		t.Errorf("second run: exit %d, %s\n%s", code, out, errs)
	}
}

// TestDemo_Interrupted: the first interrupt ends the producers, and the verdict still comes.
func TestDemo_Interrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	code, out, errs := command(ctx, strings.Fields("demo --json --http 127.0.0.1:0 --grpc 127.0.0.1:0 --rate 300")...)
	if r := lastLine(t, out); code != exitOK || !r.OK {
		t.Errorf("exit %d, %s\n%s", code, out, errs)
	}
}

func TestDemo_ForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "demo.toml")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := command(t.Context(), "demo", "--for", "1s", "--dir", dir)
	if text, _ := os.ReadFile(mine); code != exitFailed || !strings.Contains(errs, "choose another --dir") || string(text) != "mine" {
		t.Errorf("exit %d, %q; the file is %q", code, errs, text)
	}
}
