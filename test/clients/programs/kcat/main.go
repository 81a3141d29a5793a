// Command kcat runs kcat as a program of test/clients: see package oracle for what it is told and what it tells. kcat does not say of each record
// where it was stored, nor when it commits.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// args are the program's own, by key.
type args map[string]string

func (a args) number(key string) int64 {
	n, _ := strconv.ParseInt(a[key], 10, 64) // what is not there is 0
	return n
}

// fields are those of an event, beside its kind.
type fields map[string]any

var out struct {
	sync.Mutex
	enc *json.Encoder
}

func say(event string, f fields) {
	line := fields{"event": event}
	for k, v := range f {
		line[k] = v
	}
	out.Lock()
	defer out.Unlock()
	_ = out.enc.Encode(line) // nobody listens any more
}

func main() {
	out.enc = json.NewEncoder(os.Stdout)
	a := make(args)
	for _, arg := range os.Args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		a[k] = v
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	say("ready", fields{"version": version()})
	roles := map[string]func(context.Context, args) error{"produce": produce, "consume": consume, "admin": administer}
	role, ok := roles[a["role"]]
	if !ok {
		say("error", fields{"text": "no role " + a["role"], "fatal": true})
		os.Exit(2)
	}
	if err := role(ctx, a); err != nil {
		say("error", fields{"text": err.Error(), "fatal": true})
		os.Exit(1)
	}
	say("done", nil)
}

func version() string {
	text, err := exec.Command("kcat", "-V").Output()
	m := regexp.MustCompile(`Version (\S+) .*(librdkafka [^\s)]+)`).FindSubmatch(text)
	if err != nil || m == nil {
		return "unknown"
	}
	return string(m[1]) + ", " + string(m[2])
}

// kcat is the command in a mode; ctx ends it in order.
func kcat(ctx context.Context, a args, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "kcat", append([]string{"-b", a["bootstrap"], "-X", "topic.metadata.refresh.interval.ms=5000"}, more...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	return cmd
}

// produce runs one kcat for each partition, because it writes to one only.
func produce(ctx context.Context, a args) error {
	more := []string{"-P", "-t", a["topic"], "-K:", "-X", "linger.ms=5"}
	switch a["kind"] {
	case "idempotent":
		more = append(more, "-X", "enable.idempotence=true")
	case "acks1", "acks0":
		more = append(more, "-X", "acks="+a["kind"][4:])
	default:
		return fmt.Errorf("no kind %q", a["kind"])
	}
	first, n := a.number("from"), a.number("records")
	say("sending", fields{"id": first, "to": first + n - 1})
	for p := range a.number("partitions") {
		var lines strings.Builder
		var ids []int64
		for id := first; id < first+n; id++ {
			if id%a.number("partitions") == p {
				fmt.Fprintf(&lines, "%d:%d\n", id, id)
				ids = append(ids, id)
			}
		}
		cmd := kcat(ctx, a, slices.Concat(more, []string{"-p", strconv.FormatInt(p, 10)})...)
		cmd.Stdin = strings.NewReader(lines.String())
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("kcat -P: %w", err)
		}
		for _, id := range ids {
			say("acked", fields{"id": id, "partition": p, "offset": -1})
		}
	}
	return nil
}

func consume(ctx context.Context, a args) error {
	more := []string{"-u", "-f", "%p %o %s\n", "-X", "isolation.level=read_committed", "-X", "fetch.wait.max.ms=300"}
	switch a["mode"] {
	case "assign":
		var all sync.WaitGroup
		for p := range a.number("partitions") {
			say("started", fields{"partition": p, "offset": a.number("seek")})
			cmd := kcat(ctx, a, slices.Concat(more, []string{"-C", "-t", a["topic"], "-p", strconv.FormatInt(p, 10), "-o", a["seek"]})...)
			all.Go(func() { follow(ctx, cmd, a) })
		}
		all.Wait()
		return nil
	case "eager":
		more = append(more, "-X", "partition.assignment.strategy=range")
	case "cooperative":
		more = append(more, "-X", "partition.assignment.strategy=cooperative-sticky")
	case "static":
		more = append(more, "-X", "partition.assignment.strategy=range", "-X", "group.instance.id="+a["instance"])
	default:
		return fmt.Errorf("no mode %q", a["mode"])
	}
	more = append(more, "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=200")
	follow(ctx, kcat(ctx, a, append(more, "-G", a["group"], a["topic"])...), a)
	return nil
}

var partition = regexp.MustCompile(`\[(\d+)\]`)

// follow tells what a kcat reads, and of its partitions, until it ends.
func follow(ctx context.Context, cmd *exec.Cmd, a args) {
	cmd.Stderr = nil
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		say("error", fields{"text": err.Error(), "fatal": true})
		return
	}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		say("error", fields{"text": err.Error(), "fatal": true})
		return
	}
	var all sync.WaitGroup
	all.Go(func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			var p int32
			var offset, id int64
			if _, err := fmt.Sscanf(s.Text(), "%d %d %d", &p, &offset, &id); err != nil {
				say("error", fields{"text": s.Text()})
				continue
			}
			say("read", fields{"partition": p, "offset": offset, "id": id})
		}
	})
	all.Go(func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			moved(s.Text())
		}
	})
	all.Wait()
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		say("error", fields{"text": "kcat: " + err.Error(), "fatal": true})
	}
}

// moved tells what kcat says beside records.
func moved(line string) {
	var parts []int
	for _, m := range partition.FindAllStringSubmatch(line, -1) {
		n, _ := strconv.Atoi(m[1]) // digits
		parts = append(parts, n)
	}
	_, event, rebalanced := strings.Cut(line, "rebalanced")
	switch {
	case rebalanced && len(parts) == 0:
	case rebalanced && strings.Contains(event, "revoked"):
		say("revoked", fields{"partitions": parts})
	case rebalanced && strings.Contains(event, "assigned"):
		say("assigned", fields{"partitions": parts})
	case strings.Contains(line, "ERROR"):
		say("error", fields{"text": line})
	}
}

// administer lists what there is; kcat changes nothing.
func administer(ctx context.Context, a args) error {
	text, err := kcat(ctx, a, "-L", "-J").Output()
	if err != nil {
		return fmt.Errorf("kcat -L: %w", err)
	}
	var list struct {
		Brokers []struct{ ID int }
		Topics  []struct {
			Topic      string
			Partitions []struct {
				Leader   int
				Replicas []struct{ ID int }
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("kcat -L: %w", err)
	}
	var ids []int
	for _, b := range list.Brokers {
		ids = append(ids, b.ID)
	}
	slices.Sort(ids)
	say("step", fields{"name": "list brokers", "result": fmt.Sprint(ids)})
	for _, t := range list.Topics {
		if t.Topic != "warm" { // others come and go
			continue
		}
		led := 0
		for _, p := range t.Partitions {
			for _, r := range p.Replicas {
				if r.ID == p.Leader {
					led++
				}
			}
		}
		say("step", fields{"name": "list topic", "result": fmt.Sprintf("%d partitions, %d led by one", len(t.Partitions), led)})
	}
	text, err = kcat(ctx, a, "-Q", "-t", "warm:0:-1").Output()
	if err != nil {
		return fmt.Errorf("kcat -Q: %w", err)
	}
	say("step", fields{"name": "query offset", "result": strings.TrimSpace(string(text))})
	return nil
}
