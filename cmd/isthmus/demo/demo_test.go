package demo

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/topology"
)

func TestFile_IsAFullMesh(t *testing.T) {
	at := map[string]string{}
	for i, c := range Clusters("data") {
		at[c.Name] = fmt.Sprintf("127.0.0.1:%d", i+1)
	}
	nodes, metrics, err := Places(Bases{Gossip: "127.0.0.1:0", HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Door: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	text := File(at, nodes)
	topo, err := topology.Parse("demo.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(topo.Clusters) != 3 || len(topo.Links) != 6 || len(topo.Nodes) != 6 || len(topo.Routers) != 2 || metrics == "" || !IsFile(text) {
		t.Errorf("%d clusters, %d links and %d nodes, metrics at %q", len(topo.Clusters), len(topo.Links), len(topo.Nodes), metrics)
	}
}

func TestPlaces(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const free = "127.0.0.1:0"
	for _, tc := range []struct {
		name string
		b    Bases
		want string // in the error
	}{
		{"no port", Bases{free, "127.0.0.1", free, free}, "--http"},
		{"no number", Bases{"127.0.0.1:x", free, free, free}, "--gossip"},
		{"no room", Bases{free, free, "127.0.0.1:65530", free}, "--grpc"},
		{"no room for slots", Bases{free, free, free, "127.0.0.1:65534"}, "--door"},
		{"not free", Bases{free, free, taken.Addr().String(), free}, taken.Addr().String()},
	} {
		if _, _, err := Places(tc.b); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", tc.name, err, tc.want)
		}
	}
	for range 300 { // ports are drawn by lot, and once
		nodes, metrics, err := Places(Bases{free, free, free, free})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{metrics: true}
		for _, n := range nodes {
			all := []string{n.Gossip, n.HTTP, n.GRPC}
			if door, err := netip.ParseAddrPort(n.Door); err == nil {
				for i := range uint16(1 + doorSlots) {
					all = append(all, netip.AddrPortFrom(door.Addr(), door.Port()+i).String())
				}
			}
			for _, at := range all {
				if seen[at] {
					t.Fatalf("%s is given away twice: %+v", at, nodes)
				}
				seen[at] = true
			}
		}
	}
	nodes, metrics, err := Places(Bases{free, "127.0.0.1:18070", free, free})
	if err != nil {
		t.Skipf("the ports of this test are not free: %v", err)
	}
	if nodes[0].HTTP != "127.0.0.1:18070" || nodes[5].HTTP != "127.0.0.1:18120" || metrics != "127.0.0.1:18130" || nodes[5].Name != "ap-2" {
		t.Errorf("places %+v, metrics %s", nodes, metrics)
	}
}

// TestNodes: processes are told apart by their own logs, end in order or by force, and stay dead.
func TestNodes(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "node.sh")
	text := "#!/bin/sh\ncase $2 in bad) echo no such thing; exit 3;; stubborn) trap '' TERM;; *) trap 'exit 0' TERM;; esac\necho up\nwhile :; do sleep 0.05; done\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	n, err := Start([]Place{{Name: "good"}, {Name: "stubborn"}, {Name: "bad"}}, dir, script)
	if err != nil {
		t.Fatal(err)
	}
	<-n.All[2].Done()
	if err := n.All[2].Trouble(); err == nil || !strings.Contains(err.Error(), "exit status 3\nno such thing") {
		t.Errorf("trouble of a node that ended: %v", err)
	}
	if living := n.Living(); len(living) != 2 || living[0].Trouble() != nil {
		t.Errorf("%d live, want two without trouble", len(living))
	}
	for _, p := range n.All[:2] {
		if group, err := syscall.Getpgid(p.PID); err != nil || group != p.PID {
			t.Errorf("%s is in the group %d (%v): the terminal's interrupt would end it before the verdict", p.Name, group, err)
		}
	}
	for _, p := range n.All[:2] { // their traps are set when they say so
		for deadline := time.Now().Add(10 * time.Second); ; {
			if text, _ := os.ReadFile(filepath.Join(dir, p.Name+".log")); len(text) > 0 || time.Now().After(deadline) {
				break
			}
			runtime.Gosched()
		}
	}
	n.Stop(200 * time.Millisecond)
	if good, stubborn := n.All[0].Ended(), n.All[1].Ended(); good != "it ended by itself" || !strings.Contains(stubborn, "killed") {
		t.Errorf("ended: %q and %q, want one in order and one by force", good, stubborn)
	}
	if _, err := Start([]Place{{Name: "none"}}, dir, filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestRecord_KeepsItsUID(t *testing.T) {
	j := newJournal("r")
	for _, topic := range topics {
		s := stream{"eu", topic}
		for number := range 200 {
			uid := j.uid(s, number)
			r := record(s, uid, number)
			if got := uidOf(r); got != uid {
				t.Fatalf("%s %d: uid is %q, want %q in %q", topic, number, got, uid, r.Value)
			}
			rec, ok := judged(r)
			if !ok || rec.Origin != "eu" {
				t.Fatalf("%s %d: origin %q, %v", topic, number, rec.Origin, ok)
			}
		}
	}
	for _, value := range []string{"", "hello", idField, idField + "x", idField + `noslash"}`} {
		if _, ok := judged(broker.Record{Value: []byte(value)}); ok {
			t.Errorf("%q was taken for one of ours", value)
		}
	}
}

func TestConfig_Due(t *testing.T) {
	c := Config{Rate: 100, FullFor: 10 * time.Second, SlowRate: 10}.withDefaults()
	for after, want := range map[time.Duration]float64{0: 0, 5 * time.Second: 500, 10 * time.Second: 1000, 20 * time.Second: 1100} {
		if got := c.due(after); got != want {
			t.Errorf("after %s %v records are due, want %v", after, got, want)
		}
	}
}

// playground is a demo of two clusters without any mirror, so that a test can play a bad one.
func playground(t *testing.T) (*Demo, context.Context) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var clusters []*broker.Cluster
	for _, name := range []string{"eu", "us"} {
		e, err := embedded.New(embedded.Config{Name: name, InMemory: true, Listen: "127.0.0.1:0"}, log)
		if err != nil {
			t.Fatal(err)
		}
		go e.Run(ctx) //nolint:errcheck // its trouble is seen in the answers
		t.Cleanup(e.Close)
		c, err := broker.Open(broker.Profile{Name: name, Bootstrap: []string{e.Addr()}}, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		clusters = append(clusters, c)
	}
	t.Cleanup(cancel)
	d := New(clusters, Config{Rate: 400}, log)
	if err := d.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	load, stop := context.WithTimeout(ctx, 600*time.Millisecond)
	defer stop()
	if err := d.Produce(load); err != nil {
		t.Fatal(err)
	}
	return d, ctx
}

// copyAll copies the records that were first produced at from, as change says.
func copyAll(t *testing.T, ctx context.Context, from, to *broker.Cluster, change func(i int, r broker.Record) []broker.Record) {
	t.Helper()
	p, err := to.Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	i := 0
	var all []broker.Record
	err = read(ctx, from, func(r broker.Record) error {
		if rec, ok := judged(r); ok && rec.Origin == from.Name() {
			all = append(all, change(i, r)...)
			i++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Produce(ctx, all...); err != nil {
		t.Fatal(err)
	}
}

// TestJudge_FindsBadMirrors: each fault of a mirror is found, and called by its name.
func TestJudge_FindsBadMirrors(t *testing.T) {
	same := func(_ int, r broker.Record) []broker.Record { return []broker.Record{r} }
	once := func(what func(broker.Record) []broker.Record) func(int, broker.Record) []broker.Record {
		return func(i int, r broker.Record) []broker.Record {
			if i == 20 {
				return what(r)
			}
			return []broker.Record{r}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(int, broker.Record) []broker.Record
		count  func(Verdict) int64 // nil: it is a good mirror
	}{
		{"good", same, nil},
		{"loses", once(func(broker.Record) []broker.Record { return nil }), func(v Verdict) int64 { return v.Lost }},
		{"repeats", once(func(r broker.Record) []broker.Record { return []broker.Record{r, r} }), func(v Verdict) int64 { return v.Duplicates }},
		{"changes", once(func(r broker.Record) []broker.Record {
			r.Timestamp++
			return []broker.Record{r}
		}), func(v Verdict) int64 { return v.Corrupt }},
		{"makes up", once(func(r broker.Record) []broker.Record {
			r2 := r
			r2.Headers = []broker.RecordHeader{{Key: uidHeader, Value: []byte("eu/orders/never-1")}}
			return []broker.Record{r, r2}
		}), func(v Verdict) int64 { return v.Phantom }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, ctx := playground(t)
			eu, us := d.clusters[0], d.clusters[1]
			copyAll(t, ctx, us, eu, same)
			copyAll(t, ctx, eu, us, tc.change)
			if tc.name != "loses" { // it would wait for what never comes
				if err := d.Settle(ctx); err != nil {
					t.Fatal(err)
				}
			}
			v, err := d.Judge(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if tc.count == nil {
				if !v.OK || v.Mirrored != v.Produced || v.Aborted == 0 && v.Produced == 0 {
					t.Errorf("a good mirror was judged\n%s", v)
				}
				return
			}
			if v.OK || tc.count(v) != 1 || !strings.HasPrefix(v.String(), "NOT OK") || len(v.Examples) == 0 {
				t.Errorf("judged\n%s", v)
			}
		})
	}
}

// TestJudge_Loop: a record that comes home is called a loop.
func TestJudge_Loop(t *testing.T) {
	d, ctx := playground(t)
	eu := d.clusters[0]
	sent := false
	copyAll(t, ctx, eu, eu, func(_ int, r broker.Record) []broker.Record {
		if sent {
			return nil
		}
		sent = true
		return []broker.Record{r}
	})
	v, err := d.Judge(ctx)
	if err != nil || v.OK || v.Looped != 1 {
		t.Errorf("judged (%v)\n%s", err, v)
	}
}
