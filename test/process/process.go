package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Process is one run of a program, from its start until it is gone.
type Process struct {
	name string
	pid  int
	done chan struct{} // closed when the process is gone
	err  error         // how it ended; read after done
}

// Start runs cmd in a process group of its own, with its output appended to logPath, less what cmd.Stdout takes. The kernel kills it if the test
// itself dies.
// Name stands in errors.
func Start(name string, cmd *exec.Cmd, logPath string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: name, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends, not the process (Go issue 27505):
		// so one thread stays with the child as long as that lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			err = cmd.Wait()
		}
		p.err = errors.Join(err, log.Close())
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Signal sends s to the whole group: there may be a shell above the program. A process that has ended is an error.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("send %v to %s: it has ended: %v", s, p.name, p.err)
	}
	if err := syscall.Kill(-p.pid, s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// Running says whether the process is still there, paused or not.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, nil for a success; it waits until it has.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Tail returns the last lines of a file, or why it cannot.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
