package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopLimit bounds the wait until a stopped group stands still; a thread in the middle of a disk write delays it.
const stopLimit = 30 * time.Second

// Pause stops the whole group (SIGSTOP) and returns when every thread of it stands still. The kernel delivers the signal later than
// kill returns: on a busy machine a thread that was about to answer still does.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for limit := time.Now().Add(stopLimit); p.Running(); time.Sleep(time.Millisecond) {
		if moving(p.pid) == "" {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("pause %s: thread %s still runs after %v", p.name, moving(p.pid), stopLimit)
		}
	}
	return fmt.Errorf("pause %s: it has ended: %v", p.name, p.err)
}

// Continue lets a paused group run on.
func (p *Process) Continue() error { return p.Signal(syscall.SIGCONT) }

// moving names a thread of a process group that is not stopped, "" if none is.
func moving(group int) string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		if of, ok := field(name, 2); !ok || of != strconv.Itoa(group) {
			continue
		}
		threads, _ := filepath.Glob(filepath.Join(filepath.Dir(name), "task", "[0-9]*", "stat"))
		for _, thread := range threads {
			if state, ok := field(thread, 0); ok && !strings.Contains("TtZX", state) {
				return thread
			}
		}
	}
	return ""
}

// field returns a field of a stat file of /proc (proc_pid_stat(5)), counted from the one behind the program's name: 0 is the state, 2
// the process group. False: there is no such process any more.
func field(name string, i int) (string, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", false
	}
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) <= i {
		return "", false
	}
	return fields[i], true
}
