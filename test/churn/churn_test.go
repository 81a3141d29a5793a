package churn

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	partitions = 4
	linksPer   = 50 // that one file adds, and the next one removes

	heap = "heap kB"
	// letGo is how long a node may take, on a busy machine, to let go of what it does not use any more.
	letGo = 2 * time.Minute
	// entryBytes is about what an entry of the history of settings takes, which is kept on purpose and bounded by itself.
	entryBytes = 320
)

// Flaps of a link and links that come and go leave nothing behind.
func TestChurn_LeavesNothingBehind(t *testing.T) {
	l := newLab(t)
	l.flap(2)
	l.comeAndGo(2)
	before, entries := l.measure(), l.history()
	flaps, rounds := node.Pick(4, 200), node.Pick(2, 1000/linksPer)
	l.flap(flaps)
	l.comeAndGo(rounds)
	kept := float64(l.history()-entries) * entryBytes / 1024
	var after map[string]float64
	for began := time.Now(); ; { // what a busy machine has not let go of yet is no leak; what stays for minutes is
		after = l.measure()
		var more []string
		for what, then := range before {
			most := then * 1.02
			if what == heap {
				most += kept + 512
			} else {
				most += 8 // idle connections come and go; what each flap or link left behind would be far more
			}
			if after[what] > most {
				more = append(more, fmt.Sprintf("%s: %.0f before, %.0f after, want at most %.0f", what, then, after[what], most))
			}
		}
		if len(more) == 0 {
			break
		}
		if time.Since(began) > letGo {
			t.Error(strings.Join(more, "\n"))
			break
		}
	}
	t.Logf("before: %v\nafter %d flaps and %d links that came and went: %v, of which about %.0f kB are the history of settings", before, flaps, rounds*linksPer, after, kept)
}

// lab is two clusters, of which the target's network flaps, and a node.
type lab struct {
	t          testing.TB
	eu, us     *flapping
	node       *node.Node
	file, http string
	producer   *kgo.Client
	written    int
}

func newLab(t testing.TB) *lab {
	t.Helper()
	eu, us, grpc, http := node.FreePort(t), node.FreePort(t), node.FreePort(t), node.FreePort(t)
	l := &lab{t: t, http: fmt.Sprintf("http://127.0.0.1:%d", http)}
	l.eu = startFlapping(t, eu, kfake.ClusterID("eu"), kfake.SeedTopics(partitions, "orders", "logs"))
	l.us = startFlapping(t, us, kfake.ClusterID("us"))
	l.file = fmt.Sprintf(`[fabric]
name = "churn"
[[cluster]]
name = "eu"
bootstrap = ["127.0.0.1:%d"]
[[cluster]]
name = "us"
bootstrap = ["127.0.0.1:%d"]
[[node]]
name = "n1"
http = "127.0.0.1:%d"
grpc = "127.0.0.1:%d"
gossip = "127.0.0.1:%d"
[[link]]
from = "eu"
to = "us"
topics = ["orders"]
`, eu, us, http, grpc, node.FreePort(t))
	path := filepath.Join(t.TempDir(), "isthmus.toml")
	if err := os.WriteFile(path, []byte(l.file), 0o666); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.producer, err = kgo.NewClient(kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", eu)), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.producer.Close)
	l.node = node.New(t, "n1", path, fmt.Sprintf("127.0.0.1:%d", grpc))
	l.node.Start()
	l.write()
	l.caughtUp()
	return l
}

// write writes a record to every partition.
func (l *lab) write() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	for p := range int32(partitions) {
		r := &kgo.Record{Topic: "orders", Partition: p, Value: []byte(strconv.Itoa(l.written))}
		if err := l.producer.ProduceSync(ctx, r).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
	l.written++
}

// caughtUp waits until all that was written is mirrored.
func (l *lab) caughtUp() {
	l.t.Helper()
	node.Until(l.t, 60*time.Second, "all is mirrored", func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil {
			return err
		}
		f := node.Flow(st, "eu-us", "orders")
		if want := int64(l.written * partitions); f == nil || f.Position != want {
			return fmt.Errorf("the flow is %v, want position %d", f, want)
		}
		return nil
	})
}

// flap takes the target's network away so often, each time until the node has tried in vain, and sees it go on.
func (l *lab) flap(times int) {
	l.t.Helper()
	for range times {
		l.us.set(true)
		l.write()
		node.Until(l.t, 30*time.Second, "the node tries in vain", func(context.Context) error {
			if l.us.tried() == 0 {
				return fmt.Errorf("no connection was tried")
			}
			return nil
		})
		l.us.set(false)
		l.caughtUp()
	}
}

// comeAndGo adds many links by one file and takes them away by the next.
func (l *lab) comeAndGo(times int) {
	l.t.Helper()
	for range times {
		more := l.file
		for i := range linksPer {
			more += fmt.Sprintf("[[link]]\nname = \"extra-%d\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"logs\", \"none-%d\"]\n", i, i)
		}
		l.apply(more)
		l.links(linksPer + 1)
		l.apply(l.file)
		l.links(1)
	}
}

func (l *lab) apply(file string) {
	l.t.Helper()
	node.Until(l.t, 30*time.Second, "the file is applied", func(ctx context.Context) error {
		plan, err := l.node.API.Apply(ctx, &adminpb.ApplyRequest{File: file, DryRun: true})
		if err != nil {
			return err
		}
		_, err = l.node.API.Apply(ctx, &adminpb.ApplyRequest{File: file, Reason: "churn", Confirm: plan.Confirm})
		return err
	})
}

// links waits until the node runs so many, and copies on the first as before.
func (l *lab) links(n int) {
	l.t.Helper()
	node.Until(l.t, 30*time.Second, fmt.Sprintf("%d links run", n), func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil || len(st.Links) == n {
			return err
		}
		return fmt.Errorf("%d links run", len(st.Links))
	})
	l.write()
	l.caughtUp()
}

// history is how many entries the history of settings has.
func (l *lab) history() (entries int) {
	l.t.Helper()
	res, err := l.node.API.History(l.t.Context(), 1000)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, c := range res.Changes {
		entries += len(c.Entries)
	}
	return entries
}

// measure is what the node holds when it has come to rest.
func (l *lab) measure() map[string]float64 {
	l.t.Helper()
	var last map[string]float64
	same := 0
	node.Until(l.t, 90*time.Second, "the node is at rest", func(ctx context.Context) error {
		if _, err := l.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return err
		}
		text, err := l.get(ctx, "/metrics")
		if err != nil {
			return err
		}
		now := map[string]float64{"goroutines": 0, "file descriptors": 0, heap: 0, "series of links": 0}
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), " ")
			v, _ := strconv.ParseFloat(value, 64)
			switch {
			case name == "go_goroutines":
				now["goroutines"] = v
			case name == "process_open_fds":
				now["file descriptors"] = v
			case name == "go_memstats_heap_alloc_bytes":
				now[heap] = math.Round(v / 1024)
			case strings.HasPrefix(name, "isthmus_mirror_"):
				now["series of links"]++
			}
		}
		settled := last != nil
		for what, v := range now {
			settled = settled && (what == heap || v == last[what])
		}
		if same++; !settled {
			same = 0
		}
		last = now
		if same < 10 {
			return fmt.Errorf("still changing: %v", now)
		}
		return nil
	})
	return last
}

func (l *lab) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.http+path, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, res.Status)
	}
	return string(body), err
}
