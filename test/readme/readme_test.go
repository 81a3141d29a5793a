// Package readme runs what README.md tells people to run.
package readme

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/kafka"
)

// block is the shell block of README.md that follows the marker.
func block(t *testing.T, marker string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "<!-- "+marker+" -->\n```sh\n")
	if !ok {
		t.Fatalf("README.md has no block %q", marker)
	}
	script, _, _ := strings.Cut(after, "```")
	return script
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFiveMinutes runs the commands that link two real clusters, as they stand.
func TestFiveMinutes(t *testing.T) {
	withKafka(t, "test:five-minutes", "hello from Frankfurt", "eu-us", "us-eu")
}

// TestManyNodes runs the commands for several nodes, as they stand.
func TestManyNodes(t *testing.T) {
	withKafka(t, "test:many-nodes", "us-2", "audits go over too", "not yet", "pause/eu-us/payments-*/*", "drain", "FORGOT THE OLD")
}

// withKafka runs a block that starts real clusters and stops them, and wants words in what it prints.
func withKafka(t *testing.T, marker string, wants ...string) {
	t.Helper()
	kafka.Require(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-mec", block(t, marker))
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "ISTHMUS_KAFKA_HOME="+kafkaHome(t), "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	t.Cleanup(func() {
		down := exec.Command("make", "kafka-down")
		down.Dir, down.Env = root(t), cmd.Env
		_ = down.Run() // the script did it already, unless it failed
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range wants {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
}

// kafkaHome keeps the clusters of the test apart from those of make kafka-up,
// with the jars that are there already.
func kafkaHome(t *testing.T) string {
	t.Helper()
	have := os.Getenv("ISTHMUS_KAFKA_HOME")
	if have == "" {
		have = filepath.Join(root(t), ".kafka")
	}
	dir := t.TempDir()
	jars, err := filepath.Glob(filepath.Join(have, "libs-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jars {
		if err := os.Symlink(j, filepath.Join(dir, filepath.Base(j))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestMakeRun starts what `make run` starts, waits until it mirrors, plays with it as
// README.md says, and ends it as ^C does: it must judge itself and find nothing wrong.
func TestMakeRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	script := block(t, "test:see-it")
	build := exec.Command("make", "build")
	build.Dir = root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	cmd := exec.Command(filepath.Join(root(t), "bin", "isthmus"), "demo", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--door", "127.0.0.1:0")
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	var said strings.Builder
	var metrics []string
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := metricsAt.FindString(lines.Text()); m != "" {
			metrics = append(metrics, m)
		}
		if strings.HasPrefix(lines.Text(), "producing ") {
			told := said.String()
			go func() {
				mirroring(t, metrics)
				play(t, script, told)
				door(t, told)
				moved(t, told)
				client(t, told)
				_ = cmd.Process.Signal(os.Interrupt) // fails only if it ended by itself, which Wait tells
			}()
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("isthmus demo: %v\n%s", err, said.String())
	}
}

// addresses are those that the demo prints, and those that README.md has for its default ports.
var addresses = regexp.MustCompile(`export ISTHMUS_ADDR=\S+`)

// play runs what README.md says to try, at the addresses that the demo told.
func play(t *testing.T, script, said string) {
	at := addresses.FindString(said)
	if at == "" {
		t.Error("the demo did not tell the addresses of its nodes")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", addresses.ReplaceAllString(script, at))
	cmd.Dir = root(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"ap-2", "copied by", "to see it stop", "log/level = debug", "done;"} {
		if !strings.Contains(strings.ToLower(string(out)), want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
}

var (
	metricsAt = regexp.MustCompile(`http://\S+/metrics$`)
	copied    = regexp.MustCompile(`(?m)^isthmus_mirror_records_total\{link="([^"]+)",[^}]*\} [1-9]`)
)

// mirroring waits until all six links have copied something, whichever node did.
func mirroring(t *testing.T, metrics []string) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		links := make(map[string]bool)
		for _, at := range metrics {
			if resp, err := http.Get(at); err == nil {
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				for _, m := range copied.FindAllSubmatch(body, -1) {
					links[string(m[1])] = true
				}
			}
		}
		if len(links) == 6 {
			return
		}
	}
	t.Error("not all six links copied something within a minute")
}
