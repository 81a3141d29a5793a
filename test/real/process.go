package real

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// process is one run of the binary.
type process struct {
	pid  int
	done chan struct{} // closed when the process is gone
	err  error         // how it ended; read after done
}

// startProcess runs cmd with its output appended to logPath. The kernel kills it if the test itself dies.
func startProcess(cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open node log: %w", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The death signal follows the thread that started the child (Go issue 27505), so one thread stays with it.
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
		return nil, fmt.Errorf("start node: %w", err)
	}
	return p, nil
}

// signal sends s; a process that has ended is an error.
func (p *process) signal(s syscall.Signal) error {
	if !p.running() {
		return fmt.Errorf("send %v to node: it has ended: %v", s, p.err)
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		return fmt.Errorf("send %v to node: %w", s, err)
	}
	return nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// binaryDir is where this run of the tests keeps what it built; TestMain removes it.
func binaryDir() string { return fmt.Sprintf("%s/isthmus-real-%d", os.TempDir(), os.Getpid()) }

// binary builds the program once for all suites, or takes the one that ISTHMUS_BIN names.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ISTHMUS_BIN"); path != "" {
		return path, nil
	}
	path := binaryDir() + "/isthmus"
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/isthmus-project/isthmus/cmd/isthmus")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w: %s", err, out)
	}
	return path, nil
})

// tail returns the last lines of a file, or why it cannot.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
