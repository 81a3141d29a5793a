package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// logLines is how much of a node's log a failed test shows.
const logLines = 80

// node is one mirror process and the disk it has.
type node struct {
	t    testing.TB
	name string
	bin  string
	file string // the topology
	dir  string // working directory: all of the node's disk
	log  string // outside dir, so that it survives a deleted disk
	api  *admin.Client
	addr string
	proc *process
}

// newNode returns a node that is not started. It ends with the test.
func newNode(t testing.TB, name, file, grpc string) *node {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	n := &node{t: t, name: name, bin: bin, file: file, dir: filepath.Join(base, "disk"), log: filepath.Join(base, "log"), addr: grpc}
	if n.api, err = admin.Dial(grpc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	return n
}

// start runs the node on the disk it has.
func (n *node) start() {
	n.t.Helper()
	if err := os.MkdirAll(n.dir, 0o777); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(n.bin, "run", "-c", n.file, "--node", n.name)
	cmd.Dir = n.dir
	p, err := startProcess(cmd, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.proc = p
}

// kill is kill -9, frozen or not.
func (n *node) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	<-n.proc.done
	n.proc = nil
}

// wipe deletes the disk of a node that is down.
func (n *node) wipe() {
	n.t.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) freeze() { n.t.Helper(); n.signal(syscall.SIGSTOP) }
func (n *node) thaw()   { n.t.Helper(); n.signal(syscall.SIGCONT) }

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if n.proc == nil {
		n.t.Fatalf("node %s is down", n.name)
	}
	if err := n.proc.signal(s); err != nil {
		n.t.Fatalf("node %s: %v; its log ends:\n%s", n.name, err, tail(n.log, logLines))
	}
}

// alive is an error if the process ended by itself.
func (n *node) alive() error {
	if n.proc == nil || n.proc.running() {
		return nil
	}
	return &deadError{fmt.Sprintf("node %s ended by itself: %v; its log ends:\n%s", n.name, n.proc.err, tail(n.log, logLines))}
}

// deadError ends every wait: what is waited for will not come.
type deadError struct{ text string }

func (e *deadError) Error() string { return e.text }

// status asks what all links do, partition by partition.
func (n *node) status(ctx context.Context) (*adminpb.StatusResponse, error) {
	if err := n.alive(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return n.api.Status(ctx, "", true)
}

// cli runs a verb of the binary against this node and returns its standard output.
func (n *node) cli(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.bin, append(args, "--addr", n.addr)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%v: %w: %s", args, err, exit.Stderr)
	}
	return out, err
}

// end kills what still runs and shows the log of a failed test.
func (n *node) end() {
	if err := n.alive(); err != nil {
		n.t.Error(err)
	} else if n.proc != nil {
		n.kill()
	}
	if err := n.api.Close(); err != nil {
		n.t.Errorf("close the client of node %s: %v", n.name, err)
	}
	if n.t.Failed() {
		n.t.Logf("end of the log of node %s:\n%s", n.name, tail(n.log, logLines))
	}
}
