package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// running is a node that a test started from the command line.
type running struct {
	t    *testing.T
	errs *output
	stop func() int // ends it and returns the exit code; may be called again
}

// start runs "isthmus run" until the test ends.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, errs: &output{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	args = append([]string{"run", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
	go func() {
		done <- run(ctx, args, terminal{out: &output{}, err: r.errs, env: func(string) string { return "" }})
	}()
	code := -1
	r.stop = func() int {
		cancel()
		if code < 0 {
			code = <-done
		}
		return code
	}
	t.Cleanup(func() {
		if code := r.stop(); code != exitOK || t.Failed() {
			t.Errorf("run exits %d, and said\n%s", code, r.errs)
		}
	})
	return r
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(2 * time.Minute); !ask(); { // of a machine that does other things as well
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-ticker.C:
		}
	}
}

// said waits until the log has a match and returns its first group.
func (r *running) said(pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	var got []string
	eventually(r.t, pattern+" in the log", func() bool {
		got = re.FindStringSubmatch(r.errs.String())
		return got != nil
	})
	return got[len(got)-1]
}

// connect opens the embedded cluster of that name.
func (r *running) connect(name string) *broker.Cluster {
	r.t.Helper()
	address := r.said(`embedded cluster serves" cluster=` + name + ` address=(\S+)`)
	c, err := broker.Open(broker.Profile{Name: name, Bootstrap: []string{address}}, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// threeClusters are two embedded ones that mirror each other, and one that is not there.
const threeClusters = `[fabric]
name = "three"
[[cluster]]
name = "eu"
embedded = { dir = "eu", listen = "EU" }
[[cluster]]
name = "us"
embedded = { dir = "us", listen = "127.0.0.1:0" }
[[cluster]]
name = "gone"
bootstrap = ["127.0.0.1:1"]
[[link]]
from = "eu"
to = "us"
topics = ["*"]
[[link]]
from = "us"
to = "eu"
topics = ["*"]
[[link]]
from = "eu"
to = "gone"
topics = ["*"]
`

// produceTo writes n records to partition 0 of topic orders, which it creates.
func produceTo(t *testing.T, c *broker.Cluster, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.CreateTopic(ctx, "orders", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	p, err := c.Producer(broker.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	recs := make([]broker.Record, n)
	for i := range recs {
		recs[i] = broker.Record{Topic: "orders", Value: fmt.Append(nil, i)}
	}
	if _, err := p.Produce(ctx, recs...); err != nil {
		t.Fatal(err)
	}
}

// arrived tells whether partition 0 of orders holds n records.
func arrived(t *testing.T, c *broker.Cluster, n int) bool {
	got := 0
	err := c.ReadRange(t.Context(), "orders", 0, 0, -1, true, func(broker.Record) error {
		got++
		return nil
	})
	return err == nil && got == n
}

func TestRun_UnreachableClusterStopsNoOther(t *testing.T) {
	file := writeFile(t, "three.toml", strings.Replace(threeClusters, "EU", "127.0.0.1:0", 1))
	r := start(t, "-c", file)
	eu, us := r.connect("eu"), r.connect("us")
	produceTo(t, eu, 100)
	eventually(t, "records at us", func() bool { return arrived(t, us, 100) })

	grpc := r.said(`"node started".* grpc=(\S+)`)
	code, out, errs := command(t.Context(), "status", "--addr", grpc)
	if code != exitOK || !strings.Contains(out, "DOWN") || !strings.Contains(out, "127.0.0.1:1") {
		t.Errorf("status: exit %d, %q, %q; want the cluster that is gone", code, out, errs)
	}
	var st struct {
		Links []struct {
			Name  string `json:"name"`
			Up    bool   `json:"up"`
			Flows []struct {
				Topic    string `json:"topic"`
				Position int64  `json:"position"`
			} `json:"flows"`
		} `json:"links"`
	}
	eventually(t, "position of eu-us", func() bool {
		_, out, _ = command(t.Context(), "status", "eu-us", "--json", "--addr", grpc)
		err := json.Unmarshal([]byte(out), &st)
		return err == nil && len(st.Links) == 1 && st.Links[0].Up && len(st.Links[0].Flows) == 1 && st.Links[0].Flows[0].Position == 100
	})
	// Both sides may write the topic, so a translation needs the map of the way back too.
	// Until it has seen all that came, the answer is one that skips nothing, and says so.
	eventually(t, "the way back has seen all", func() bool {
		code, out, _ := command(t.Context(), "translate", "eu-us", "orders:0@42", "--addr", grpc)
		return code == exitOK && strings.Contains(out, "(exact)")
	})
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"translate eu-us orders:0@42", exitOK, "eu orders:0@42 -> us orders:0@42 (exact)\n"},
		{"translate eu-us orders:0@42 --reverse --json", exitOK, `{"from":"us","to":"eu","topic":"orders","partition":0,"offset":42,"result":42,"exact":true,"as":"orders"}` + "\n"},
		{"translate eu-us orders:7@42", exitFailed, ""},
		{"translate eu-mars orders:0@42", exitFailed, ""},
		{"ledger", exitOK, "the ledger is empty: nothing was lost, repeated or reordered\n"},
		{"ledger eu-us --json", exitOK, ""},
		{"ledger eu-mars", exitFailed, ""},
		{"status eu-mars", exitFailed, ""},
	} {
		code, out, errs := command(t.Context(), append(strings.Fields(tc.args), "--addr", grpc)...)
		if code != tc.code || out != tc.want || (code != exitOK) == (errs == "") {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q", tc.args, code, out, errs, tc.code, tc.want)
		}
	}
	for path, want := range map[string]string{"/livez": "ok", "/startupz": "ok", "/readyz": "ok", "/metrics": `isthmus_embedded_up{cluster="eu"} 1`} {
		if body := get(t, "http://"+r.said(`"node started".* http=(\S+)`)+path); !strings.Contains(body, want) {
			t.Errorf("%s answers %q, want %q", path, body, want)
		}
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("an interrupt makes it exit %d", code)
	}
	if code, _, _ := command(t.Context(), "status", "--addr", grpc); code != exitUnreachable {
		t.Errorf("status of a node that has stopped exits %d", code)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestRun_DirectoryIsCured: a data directory of a newer format keeps its own cluster down, and only as long as it is there.
func TestRun_DirectoryIsCured(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // a port that is free for the cluster: with port 0 it could not be found again
	file := writeFile(t, "three.toml", strings.Replace(threeClusters, "EU", l.Addr().String(), 1))
	format := filepath.Join(filepath.Dir(file), "eu", "isthmus-format")
	if err := os.MkdirAll(filepath.Dir(format), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(format, []byte("999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "-c", file)
	r.connect("us")
	r.said("newer format")
	if err := os.Remove(format); err != nil {
		t.Fatal(err)
	}
	eu, us := r.connect("eu"), r.connect("us")
	produceTo(t, eu, 10)
	eventually(t, "records at us", func() bool { return arrived(t, us, 10) })
}

func TestRun_AddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := writeFile(t, "ok.toml", minimal)
	code, _, errs := command(t.Context(), "run", "-c", file, "--grpc", "127.0.0.1:0", "--http", l.Addr().String())
	if code != exitFailed || !strings.Contains(errs, l.Addr().String()) || !strings.Contains(errs, "--http") {
		t.Errorf("exit %d, %q", code, errs)
	}
}
