package process

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPause_NothingMovesWhenItReturns pauses a shell and its busy children: a group with a thread that still runs is not paused.
func TestPause_NothingMovesWhenItReturns(t *testing.T) {
	p, err := Start("busy", exec.Command("sh", "-c", "while :; do :; done & while :; do :; done & wait"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		<-p.Done()
	}()
	for range 20 {
		if err := p.Pause(); err != nil {
			t.Fatal(err)
		}
		if thread := moving(p.pid); thread != "" {
			t.Fatalf("%s moves while the group is paused", thread)
		}
		if err := p.Continue(); err != nil {
			t.Fatal(err)
		}
		if moving(p.pid) == "" {
			t.Fatal("nothing moves after Continue")
		}
	}
}
