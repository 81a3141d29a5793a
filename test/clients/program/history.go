package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/process"
)

const (
	// lookEvery is the pause between two looks at a history that somebody waits for.
	lookEvery = 20 * time.Millisecond
	// stopLimit is how long a program may take to end in order.
	stopLimit = 30 * time.Second
	// maxLine bounds what is kept of output without an end of line.
	maxLine = 1 << 20
)

// ErrFatal says that a program did nothing more.
var ErrFatal = errors.New("a program ended in trouble")

// History is what programs said, of all that were started with it. It may be used by any goroutine.
type History struct {
	mu     sync.Mutex
	events []oracle.Event
}

// Events is a copy of what was said so far.
func (h *History) Events() []oracle.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// Add appends what somebody else than a program has to tell.
func (h *History) Add(e oracle.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// Wait returns when the events so far are as wished. Its errors are ErrFatal, wrapped with the program's words, and what name says if ctx ends.
func (h *History) Wait(ctx context.Context, name string, wish func([]oracle.Event) bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for seen := -1; ; {
		if events := h.Events(); len(events) != seen {
			seen = len(events)
			if wish(events) {
				return nil
			}
			for _, e := range events {
				if e.Kind == oracle.Error && e.Fatal {
					return fmt.Errorf("%s: wait for %s: %w: %s", e.Run, name, ErrFatal, e.Text)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}

// Run is one run of a program.
type Run struct {
	// Name is unique in its history.
	Name  string
	t     testing.TB
	log   string
	proc  *process.Process
	stdin io.WriteCloser
	// killed says that nobody need be told how it ended.
	killed atomic.Bool
}

// Start starts a program; what it says goes to the history under the name and the group. It ends with the test.
func Start(t testing.TB, h *History, name, group, path string, args ...string) *Run {
	t.Helper()
	cmd := exec.Command(path, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := &lines{take: func(line []byte) {
		e, err := oracle.Parse(line)
		if err != nil {
			e = oracle.Event{Kind: oracle.Error, Text: err.Error(), Fatal: true}
		}
		e.Run, e.Group = name, group
		h.Add(e)
	}}
	cmd.Stdout = lines
	log := filepath.Join(t.TempDir(), "log")
	proc, err := process.Start(name, cmd, log)
	if err != nil {
		t.Fatal(err)
	}
	r := &Run{Name: name, t: t, log: log, proc: proc, stdin: stdin}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := proc.Err(); err != nil && !r.killed.Load() {
			h.Add(oracle.Event{Run: name, Group: group, Kind: oracle.Error, Fatal: true, Text: fmt.Sprintf("%v: %s", err, process.Tail(log, 12))})
		}
	}()
	t.Cleanup(func() {
		r.Kill()
		<-watched
	})
	return r
}

// Stop asks the program to end in order, and waits until it has. One that does not is killed, and the test fails.
func (r *Run) Stop() {
	r.t.Helper()
	_ = r.stdin.Close() // it may have ended
	select {
	case <-r.proc.Done():
	case <-time.After(stopLimit):
		r.t.Errorf("%s did not end within %v", r.Name, stopLimit)
		r.Kill()
	}
}

// Log is the end of what the program wrote to standard error.
func (r *Run) Log() string { return process.Tail(r.log, 12) }

// Kill ends the program at once, as kill -9 does.
func (r *Run) Kill() {
	r.killed.Store(true)
	if r.proc.Running() {
		_ = r.proc.Signal(syscall.SIGKILL) // it may have ended meanwhile
	}
	<-r.proc.Done()
}

// lines hands on what is written to it, line by line.
type lines struct {
	take func([]byte)
	rest []byte
}

// Write never fails: a program that says nonsense is told of by take.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			break
		}
		l.take(line)
		l.rest = rest
	}
	if len(l.rest) > maxLine {
		l.take(l.rest)
		l.rest = nil
	}
	return len(p), nil
}
