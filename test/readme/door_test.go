package readme

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// doors are the addresses that the demo prints, and those that README.md has for its default ports.
var doors = regexp.MustCompile(`127\.0\.0\.1:\d+,127\.0\.0\.1:\d+`)

// door runs what README.md says to read through the door with, as far as the tools are there. The demo must have said the same.
func door(t *testing.T, said string) {
	at := doors.FindString(said[strings.Index(said, "kcat"):])
	lines := strings.Split(strings.TrimSpace(block(t, "test:door")), "\n")
	tools := t.TempDir()
	shim := "#!/bin/sh\nexec " + filepath.Join(root(t), "scripts", "kafka", "kafka.sh") + " tool consumer.ConsoleConsumer \"$@\"\n"
	if os.Getenv("ISTHMUS_KAFKA") == "1" || os.Getenv("ISTHMUS_REQUIRE_KAFKA") == "1" {
		if err := os.WriteFile(filepath.Join(tools, "kafka-console-consumer.sh"), []byte(shim), 0o700); err != nil {
			t.Error(err)
			return
		}
	}
	path := tools + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, line := range lines {
		line = doors.ReplaceAllString(line, at)
		if at == "" || !strings.Contains(said, line) {
			t.Errorf("the demo did not tell %q:\n%s", line, said)
			continue
		}
		tool, _, _ := strings.Cut(line, " ")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", "command -v "+tool+" > /dev/null || exit 42; "+line)
		cmd.Env = append(os.Environ(), "PATH="+path)
		out, err := cmd.CombinedOutput()
		switch n := strings.Count(string(out), "\"customer\":"); {
		case cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 42:
			t.Logf("%s is not here, so its line is not tried", tool)
		case err != nil || n == 0 || n > 5:
			t.Errorf("%s: %v, %d orders\n%s", line, err, n, out)
		}
	}
}

// moved runs what README.md says to move the door's clients with, while one reads: it gets each offset once, and goes on behind each move.
func moved(t *testing.T, said string) {
	at := strings.Split(doors.FindString(said[strings.Index(said, "kcat"):]), ",")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(at...), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	type place struct {
		partition int32
		offset    int64
	}
	seen := make(map[place]bool)
	reads := func(when string) {
		for n := 0; n < 200; {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Errorf("%s: %v", when, err)
				return
			}
			fs.EachRecord(func(r *kgo.Record) {
				if at := (place{r.Partition, r.Offset}); seen[at] {
					t.Errorf("%s offset %d of partition %d came twice", when, r.Offset, r.Partition)
				} else {
					seen[at] = true
				}
				n++
			})
		}
	}
	reads("before the moves")
	for _, line := range strings.Split(strings.TrimSpace(block(t, "test:switch")), "\n") {
		cmd := exec.CommandContext(ctx, "bash", "-ec", addresses.FindString(said)+"\n"+line)
		cmd.Dir = root(t)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "committed: ") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		reads("behind " + line)
	}
}

var pidOf = regexp.MustCompile(`(?m)^node eu-1  pid (\d+) `)

// client has a Kafka client work through the door that the demo told of, also when the node of one of its addresses is killed.
func client(t *testing.T, said string) {
	at := strings.Split(doors.FindString(said[strings.Index(said, "kcat"):]), ",")
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if !slices.ContainsFunc(at, func(door string) bool { return behind(door, address) }) {
			t.Errorf("the client was sent to %s, which is no door", address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(at...), kgo.Dialer(dial), kgo.DefaultProduceTopic("ours"), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "ours"); err != nil {
		t.Errorf("make a topic through the door: %v", err)
	}
	for _, when := range []string{"before", "after"} {
		if err := cl.ProduceSync(ctx, kgo.StringRecord(when)).FirstErr(); err != nil {
			t.Errorf("%s one node is killed: %v", when, err)
		}
		for got := 0; got < 50 && ctx.Err() == nil; {
			got += cl.PollRecords(ctx, 50).NumRecords()
		}
		if ctx.Err() != nil {
			t.Errorf("%s one node is killed no orders come", when)
		}
		if m := pidOf.FindStringSubmatch(said); when == "before" && m != nil {
			pid, _ := strconv.Atoi(m[1])
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// behind tells whether an address is a door's, or that of one of its slots.
func behind(door, address string) bool {
	d, err := netip.ParseAddrPort(door)
	a, err2 := netip.ParseAddrPort(address)
	return err == nil && err2 == nil && d.Addr() == a.Addr() && a.Port() >= d.Port() && a.Port() <= d.Port()+2
}
