package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clockTick is the unit of CPU times in /proc on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// process is a process under measurement.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
}

// start starts it; it dies with the test.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &process{t: t, cmd: cmd}
}

// cpu is what the process has used so far, user and system.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// The name of the program, in parentheses, may hold anything; utime and
	// stime are the 14th and 15th field.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var ticks time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * clockTick
}

// rss is the greatest resident memory so far, in bytes. The kernel's figure of
// a process that has ended is no use: it counts from the fork on, when the child
// still was an image of the test.
func (p *process) rss() int64 {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(raw), "VmHWM:")
	line, _, _ := strings.Cut(after, "kB")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if !ok || err != nil {
		p.t.Fatalf("no peak of memory in the status of process %d", p.cmd.Process.Pid)
	}
	return n << 10
}

// end waits for the process, after a SIGTERM if one is due, and returns its
// whole CPU time.
func (p *process) end(sig os.Signal) time.Duration {
	p.t.Helper()
	if sig != nil {
		if err := p.cmd.Process.Signal(sig); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v", p.cmd.Path, err)
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// watched is what was seen of a copy under way.
type watched struct {
	took   time.Duration // from the first record at the target to the last
	before time.Duration // CPU used when the target still was empty
	after  time.Duration // and when it had everything
}

// watch waits until the topic at the target has so many records.
func (p *process) watch(s *site, topic string, records int64) (w watched) {
	p.t.Helper()
	var began time.Time
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		cpu := p.cpu()
		n := s.records(p.t, topic)
		switch now := time.Now(); {
		case n >= records:
			if began.IsZero() {
				began = now
			}
			w.took, w.after = now.Sub(began), p.cpu()
			return w
		case n > 0 && began.IsZero():
			began = now
		case n == 0:
			w.before = cpu
		case now.After(deadline):
			p.t.Fatalf("only %d of %d records arrived", n, records)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("only %d of %d records arrived", n, records)
		}
	}
}
