package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailBytes is how much of a node's log an error has.
const tailBytes = 2000

// Nodes are the nodes of a demo, each a process of its own.
type Nodes struct{ All []*Process }

// Process is one node. It is not started again when it ends.
type Process struct {
	Place
	PID  int
	os   *os.Process
	log  string        // path
	done chan struct{} // closed when it has ended
	err  error         // how; after done
}

// Start runs a node at each place: program with its arguments and --node NAME. What they say is in NAME.log of a folder.
func Start(places []Place, folder, program string, args ...string) (*Nodes, error) {
	n := &Nodes{}
	for _, at := range places {
		p, err := start(at, filepath.Join(folder, at.Name+".log"), program, append(args[:len(args):len(args)], "--node", at.Name))
		if err != nil {
			n.Stop(0)
			return nil, err
		}
		n.All = append(n.All, p)
	}
	return n, nil
}

func start(at Place, log, program string, args []string) (*Process, error) {
	p := &Process{Place: at, log: log, done: make(chan struct{})}
	file, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", at.Name, err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = apartFromUs()
	started := make(chan error, 1)
	go func() {
		// The kernel ends a child with the thread that started it, so one thread stays with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer file.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start node %s: %w", at.Name, err)
	}
	p.os, p.PID = cmd.Process, cmd.Process.Pid
	return p, nil
}

// Ended tells how the process ended; empty while it runs.
func (p *Process) Ended() string {
	select {
	case <-p.done:
	default:
		return ""
	}
	if p.err == nil {
		return "it ended by itself"
	}
	return p.err.Error()
}

// Trouble is why the process ended, with the end of its log; nil while it runs.
func (p *Process) Trouble() error {
	how := p.Ended()
	if how == "" {
		return nil
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		text = []byte(err.Error())
	}
	return fmt.Errorf("node %s has ended: %s\n%s", p.Name, how, strings.TrimSpace(string(text[max(0, len(text)-tailBytes):])))
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Living are the nodes that run.
func (n *Nodes) Living() []*Process {
	var living []*Process
	for _, p := range n.All {
		if p.Ended() == "" {
			living = append(living, p)
		}
	}
	return living
}

// Stop ends the nodes in order, and those that take longer than that by force.
func (n *Nodes) Stop(within time.Duration) {
	var all sync.WaitGroup
	for _, p := range n.Living() {
		all.Go(func() {
			_ = p.os.Signal(syscall.SIGTERM) // one that has just ended is as good
			select {
			case <-p.done:
			case <-time.After(within):
				_ = p.os.Kill()
				<-p.done
			}
		})
	}
	all.Wait()
}
