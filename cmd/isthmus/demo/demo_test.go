package demo

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/topology"
)

func TestFile_IsAFullMesh(t *testing.T) {
	topo, err := topology.Parse("demo.toml", []byte(File()))
	if err != nil {
		t.Fatal(err)
	}
	if len(topo.Clusters) != 3 || len(topo.Links) != 6 {
		t.Errorf("%d clusters and %d links", len(topo.Clusters), len(topo.Links))
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
