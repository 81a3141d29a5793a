package dashboards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// askEvery is the pause between two looks at something that is not as wanted yet.
const askEvery = 200 * time.Millisecond

// process is a child that lives no longer than the test.
type process struct {
	name, log string
	pid       int
	done      chan struct{} // closed when it is gone
}

// start runs a program with its output in a file, and kills it when the test is over; the kernel does so if the test dies.
func start(t *testing.T, dir, program string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(program), log: filepath.Join(dir, filepath.Base(program)+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The death signal follows the thread that started the child (Go issue 27505), so one thread stays with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, or its log says why
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // gone already is as good
		<-p.done
		if t.Failed() {
			t.Logf("log of %s ends with:\n%s", p.name, p.tail())
		}
	})
	return p
}

// tail is the end of what the process said.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// said waits until the process has said something, and returns the first group of the match.
func (p *process) said(t *testing.T, limit time.Duration, what *regexp.Regexp) string {
	t.Helper()
	var found string
	until(t, limit, p, fmt.Sprintf("%s says %s", p.name, what), func(context.Context) error {
		data, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		m := what.FindSubmatch(data)
		if m == nil {
			return errors.New("it has not")
		}
		found = string(m[1])
		return nil
	})
	return found
}

// all are the first groups of all matches in what the process has said.
func (p *process) all(t *testing.T, what *regexp.Regexp) []string {
	t.Helper()
	data, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range what.FindAllSubmatch(data, -1) {
		found = append(found, string(m[1]))
	}
	return found
}

// until asks until there is no error, and fails the test after limit or when the process has ended.
func until(t *testing.T, limit time.Duration, p *process, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // else it only says that time is up
			last = err
		}
		select {
		case <-p.done:
			t.Fatalf("wait until %s: %s has ended: %v", what, p.name, last)
		case <-ctx.Done():
			t.Fatalf("waited %v until %s: %v", limit, what, last)
		case <-tick.C:
		}
	}
}

// binary is the program: the one that ISTHMUS_BIN names, or one that is built now.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ISTHMUS_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "isthmus")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "github.com/isthmus-project/isthmus/cmd/isthmus")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build isthmus: %v\n%s", err, out)
	}
	return path
}

// get returns the body of a page.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("get %s: %s: %s", url, resp.Status, body)
	}
	return body, err
}
