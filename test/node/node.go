package node

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
	"github.com/isthmus-project/isthmus/test/process"
)

// logLines is how much of a node's log a failed test shows.
const logLines = 40

// Node is one mirror process and the disk it has.
type Node struct {
	t    testing.TB
	Name string
	bin  string
	file string // the topology
	dir  string // working directory: all of the node's disk
	log  string // outside dir, so that it survives a deleted disk
	API  *admin.Client
	addr string
	proc *process.Process
}

// New returns a node of a topology file, with the gRPC address it has there; it is not started. It ends with the test.
func New(t testing.TB, name, file, grpc string) *Node {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	n := &Node{t: t, Name: name, bin: bin, file: file, dir: filepath.Join(base, "disk"), log: filepath.Join(base, "log"), addr: grpc}
	if n.API, err = admin.Dial(grpc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	return n
}

// Start runs the node on the disk it has.
func (n *Node) Start() {
	n.t.Helper()
	if err := os.MkdirAll(n.dir, 0o777); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(n.bin, "run", "-c", n.file, "--node", n.Name)
	cmd.Dir = n.dir
	p, err := process.Start("node "+n.Name, cmd, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.proc = p
}

// Kill is kill -9, frozen or not.
func (n *Node) Kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	<-n.proc.Done()
	n.proc = nil
}

// Stop is SIGTERM: the node hands its work over and ends by itself. It returns how long that took.
func (n *Node) Stop() time.Duration {
	n.t.Helper()
	began := time.Now()
	n.signal(syscall.SIGTERM)
	select {
	case <-n.proc.Done():
	case <-time.After(30 * time.Second):
		n.t.Fatalf("node %s does not end after SIGTERM; its log ends:\n%s", n.Name, process.Tail(n.log, logLines))
	}
	if err := n.proc.Err(); err != nil {
		n.t.Errorf("node %s ended with %v; its log ends:\n%s", n.Name, err, process.Tail(n.log, logLines))
	}
	n.proc = nil
	return time.Since(began)
}

// Wipe deletes the disk of a node that is down.
func (n *Node) Wipe() {
	n.t.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
}

// Freeze stops the process as it stands (SIGSTOP): its connections stay open and nothing answers.
func (n *Node) Freeze() {
	n.t.Helper()
	if n.proc == nil {
		n.t.Fatalf("node %s is down", n.Name)
	}
	if err := n.proc.Pause(); err != nil {
		n.t.Fatal(err)
	}
}

// Thaw lets a frozen process run on.
func (n *Node) Thaw() { n.t.Helper(); n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.t.Helper()
	if n.proc == nil {
		n.t.Fatalf("node %s is down", n.Name)
	}
	if err := n.proc.Signal(s); err != nil {
		n.t.Fatalf("node %s: %v; its log ends:\n%s", n.Name, err, process.Tail(n.log, logLines))
	}
}

// Alive is an error if the process ended by itself.
func (n *Node) Alive() error {
	if n.proc == nil || n.proc.Running() {
		return nil
	}
	return &DeadError{fmt.Sprintf("node %s ended by itself: %v; its log ends:\n%s", n.Name, n.proc.Err(), process.Tail(n.log, logLines))}
}

// DeadError ends every wait: what is waited for will not come.
type DeadError struct{ text string }

func (e *DeadError) Error() string { return e.text }

// Status asks what all links of this node do, partition by partition.
func (n *Node) Status(ctx context.Context) (*adminpb.StatusResponse, error) {
	if err := n.Alive(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return n.API.LocalStatus(ctx, "", true)
}

// Binary runs a verb of the binary that needs no node and returns what it says to a person. That the verb finds fault is no
// error; that it does not run, or ctx ends it, is one.
func Binary(ctx context.Context, args ...string) (string, error) {
	bin, err := binary()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		return string(out), fmt.Errorf("run %v: %w", args, err)
	}
	return string(out), nil
}

// Log returns what the node wrote into its log so far, over all its runs.
func (n *Node) Log() string {
	n.t.Helper()
	text, err := os.ReadFile(n.log)
	if err != nil {
		n.t.Fatalf("read the log of node %s: %v", n.Name, err)
	}
	return string(text)
}

// CLI runs a verb of the binary against this node and returns its standard output.
func (n *Node) CLI(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.bin, append(args, "--addr", n.addr)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%v: %w: %s", args, err, exit.Stderr)
	}
	return out, err
}

// end kills what still runs and shows the log of a failed test.
func (n *Node) end() {
	if err := n.Alive(); err != nil {
		n.t.Error(err)
	} else if n.proc != nil {
		n.Kill()
	}
	if err := n.API.Close(); err != nil {
		n.t.Errorf("close the client of node %s: %v", n.Name, err)
	}
	if n.t.Failed() {
		n.t.Logf("end of the log of node %s:\n%s", n.Name, process.Tail(n.log, logLines))
	}
}
