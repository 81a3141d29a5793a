package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/drill"
)

// lastLine reads the verdict that demo --json ends with.
func lastLine(t *testing.T, out string) demoResult {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r demoResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is no verdict: %v in %q", err, out)
	}
	return r
}

// freePorts are the flags of a demo whose addresses nobody else has.
const freePorts = " --http 127.0.0.1:0 --grpc 127.0.0.1:0 --gossip 127.0.0.1:0 --door 127.0.0.1:0"

// demoNode is a node of a running demo, as it introduced it.
type demoNode struct {
	name, grpc, http string
	pid              int
}

var introduced = regexp.MustCompile(`(?m)^node (\S+)  pid (\d+)  --addr (\S+)  http://(\S+)/metrics$`)

// play runs a demo until it ends, and gives its nodes to during once they are introduced.
func play(t *testing.T, args string, during func(ctx context.Context, cancel func(), nodes []demoNode)) (code int, out, errs string) {
	t.Helper()
	t.Setenv(childEnv, "1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr output
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, strings.Fields(args+freePorts), terminal{out: &stdout, err: &stderr, env: func(string) string { return "" }})
	}()
	var nodes []demoNode
	eventually(t, "six nodes", func() bool {
		select {
		case code := <-ended:
			ended <- code
			return true
		default:
		}
		nodes = nil
		for _, m := range introduced.FindAllStringSubmatch(stderr.String(), -1) {
			pid, _ := strconv.Atoi(m[2])
			nodes = append(nodes, demoNode{m[1], m[3], m[4], pid})
		}
		return len(nodes) == 6
	})
	if during != nil && len(nodes) == 6 {
		during(ctx, cancel, nodes)
	}
	return <-ended, stdout.String(), stderr.String()
}

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	code, out, errs := play(t, "demo --for 3s --rate 400 --json --dir "+dir, nil)
	r := lastLine(t, out)
	if code != exitOK || !r.OK || r.Produced < 1000 || r.Mirrored != 2*r.Produced || r.Ledger != 0 || len(r.Dead) != 0 {
		t.Fatalf("exit %d, %s\n%s", code, out, errs)
	}
	for _, want := range []string{"/metrics", "export ISTHMUS_ADDR=127.0.0.1:", " nodes ", " pause eu-us orders:0 ", " set log.level debug ", " kafka-console-consumer.sh --bootstrap-server 127.0.0.1:", " switchover shop --to us --yes", " drill rehearse shop --to us", "kill -9 "} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q does not tell %q", errs, want)
		}
	}
	for _, c := range []string{"eu", "us", "ap"} {
		if got := r.Clusters[c]; got.Records != r.Produced || got.Own == 0 || got.Own+got.Mirrored != got.Records {
			t.Errorf("%s holds %+v of %d produced", c, got, r.Produced)
		}
	}
	// Once more on the same data: what was there stays, and nothing of it is copied again.
	code, out, errs = play(t, "demo --for 1s --rate 400 --json --dir "+dir, nil)
	again := lastLine(t, out)
	if code != exitOK || !again.OK || again.Clusters["eu"].Records != r.Produced+again.Produced {
		t.Errorf("second run: exit %d, %s\n%s", code, out, errs)
	}
}

// TestDemo_AnybodyMayPlay: a partition is paused, a node is killed, the others take over; the first interrupt ends the
// producers, what was paused is taken back, and the verdict still comes.
// TestDemo_Drill: make drill takes the door's clients to us and back in less than a minute, and the canary saw all that it wrote once.
func TestDemo_Drill(t *testing.T) {
	began := time.Now()
	code, out, errs := play(t, "demo --drill --json --rate 400", nil)
	reports := json.NewDecoder(strings.NewReader(out))
	for _, mode := range demoDrills {
		var r drill.Report
		if err := reports.Decode(&r); err != nil {
			t.Fatalf("exit %d, %v in %s\n%s", code, err, out, errs)
		}
		if code != exitOK || r.Verdict != drill.Pass || r.Mode != mode || len(r.Legs) != 2 || r.Legs[1].To != "eu" || r.Before.Partitions < 16 || r.Result.Canary.Acked < 200 || r.Result.Canary.Lost != 0 {
			t.Errorf("exit %d, %s\n%s", code, out, errs)
		}
		if slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "does not keep") }) {
			t.Errorf("it was not noted: %q", r.Warnings)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func TestDemo_AnybodyMayPlay(t *testing.T) {
	code, out, errs := play(t, "demo --json --rate 300", func(ctx context.Context, cancel func(), nodes []demoNode) {
		defer cancel()
		victim, other := nodes[len(nodes)-1], nodes[0]
		mine := func(name string) (partitions int) {
			_, out, _ := command(ctx, "owners", "--json", "--addr", other.grpc)
			var res struct{ Owners []struct{ Copies []string } }
			if json.Unmarshal([]byte(out), &res) != nil {
				return -1
			}
			for _, o := range res.Owners {
				if slices.Contains(o.Copies, name) {
					partitions++
				}
			}
			return partitions
		}
		eventually(t, victim.name+" copies something", func() bool { return mine(victim.name) > 0 })
		eventually(t, "a partition is paused", func() bool { // six nodes that start on a busy machine may not be of one mind at first
			code, out, errs := command(ctx, "pause", "eu-us", "orders:0", "--why", "to see it", "--addr", other.grpc)
			if code != exitOK {
				t.Logf("pause exits %d, %s %s", code, out, errs)
			}
			return code == exitOK
		})
		if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		eventually(t, "the others took over from "+victim.name, func() bool {
			_, out, _ := command(ctx, "nodes", "--json", "--addr", victim.grpc, "--addr", other.grpc)
			return strings.Contains(out, `"name":"`+victim.name+`","status":"dead"`) && mine(victim.name) == 0
		})
		eventually(t, "the pause counts", func() bool {
			_, out, _ := command(ctx, "status", "eu-us", "--addr", other.grpc)
			return strings.Contains(out, "paused")
		})
	})
	r := lastLine(t, out)
	if code != exitOK || !r.OK || r.Aborted == 0 || !slices.Equal(r.Dead, []string{"ap-2"}) || !strings.Contains(errs, "pause/eu-us/orders/0 is taken back") {
		t.Errorf("exit %d, %s\n%s", code, out, errs)
	}
	if text := r.String(); !strings.Contains(text, "nodes that ended before: ap-2") {
		t.Errorf("the verdict does not name the node that was killed:\n%s", text)
	}
}

// TestDemo_TakesItsNodesAlong: nothing is left of a demo that is killed.
func TestDemo_TakesItsNodesAlong(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	log := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields("demo --json --rate 50 --dir "+t.TempDir()+freePorts)...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var nodes [][]string
	eventually(t, "six nodes", func() bool {
		text, err := os.ReadFile(log)
		nodes = introduced.FindAllStringSubmatch(string(text), -1)
		return err == nil && len(nodes) == 6
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for _, m := range nodes {
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if t.Failed() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}()
		eventually(t, m[1]+" has ended", func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(stat), ") Z ") // ended, and nobody has asked how
		})
	}
}

func TestDemo_ForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "demo.toml")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := command(t.Context(), strings.Fields("demo --for 1s --dir "+dir+freePorts)...)
	if text, _ := os.ReadFile(mine); code != exitFailed || !strings.Contains(errs, "choose another --dir") || string(text) != "mine" {
		t.Errorf("exit %d, %q; the file is %q", code, errs, text)
	}
}
