package kafka

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// process is one run of a broker: from its start until it is gone.
type process struct {
	pid    int
	paused atomic.Bool
	done   chan struct{} // closed when the process is gone
	err    error         // how it ended; read after done
}

// startProcess runs cmd in a process group of its own, with its output appended to logPath.
func startProcess(cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open broker log: %w", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{done: make(chan struct{})}
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
		return nil, fmt.Errorf("start broker: %w", err)
	}
	return p, nil
}

// signal sends a signal to the whole group: while the data directory is being formatted there is a shell above Java.
func (p *process) signal(s syscall.Signal) error {
	if !p.running() {
		return fmt.Errorf("send %v to broker: it has ended: %v", s, p.err)
	}
	if err := syscall.Kill(-p.pid, s); err != nil {
		return fmt.Errorf("send %v to broker: %w", s, err)
	}
	return nil
}

// running says whether the process is still there, paused or not.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tail returns the last lines of a file, or why it cannot.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
