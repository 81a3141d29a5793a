package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/clients/oracle"
)

// shell is a program that is a few lines of shell.
func shell(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func has(kind string) func([]oracle.Event) bool {
	return func(events []oracle.Event) bool {
		return slices.ContainsFunc(events, func(e oracle.Event) bool { return e.Kind == kind })
	}
}

// TestRun_SaysAndStops: what a program says is in the history under its names, and it ends when it is asked to.
func TestRun_SaysAndStops(t *testing.T) {
	h := &History{}
	r := Start(t, h, "one", "group", shell(t, `echo "{\"event\":\"ready\",\"version\":\"$1\"}"; cat >/dev/null; echo '{"event":"done"}'`), "7")
	if err := h.Wait(soon(t), "the beginning", has(oracle.Ready)); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	events := h.Events()
	if len(events) != 2 || events[0].Version != "7" || events[0].Run != "one" || events[1].Group != "group" || events[1].Kind != oracle.Done {
		t.Errorf("%+v", events)
	}
}

// TestRun_Trouble: a program that ends in trouble, or says nonsense, ends the wait, with its own words.
func TestRun_Trouble(t *testing.T) {
	for script, want := range map[string]string{
		`echo "cannot do that" >&2; exit 3`:                                            "cannot do that",
		`echo hello; cat >/dev/null`:                                                   "hello",
		`echo '{"event":"error","text":"its own words","fatal":true}'; cat >/dev/null`: "its own words",
	} {
		h := &History{}
		Start(t, h, "one", "", shell(t, script))
		if err := h.Wait(soon(t), "the end", has(oracle.Done)); !errors.Is(err, ErrFatal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// TestRun_Killed: who is killed on purpose is in no trouble.
func TestRun_Killed(t *testing.T) {
	h := &History{}
	r := Start(t, h, "one", "", shell(t, `echo '{"event":"ready"}'; exec cat >/dev/null`))
	if err := h.Wait(soon(t), "the beginning", has(oracle.Ready)); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.Wait(short, "trouble", has(oracle.Error)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %+v", err, h.Events())
	}
}

func TestLines(t *testing.T) {
	var got []string
	l := &lines{take: func(line []byte) { got = append(got, string(line)) }}
	for _, part := range []string{"a", "b\nc\n\nd", "e", "\n", "rest"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"ab", "c", "", "de"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = nil
	for range maxLine/1000 + 1 {
		_, _ = l.Write(make([]byte, 1000)) // never fails
	}
	if len(got) != 1 || len(l.rest) > maxLine {
		t.Errorf("%d lines were taken of one without end, and %d bytes are kept", len(got), len(l.rest))
	}
}
