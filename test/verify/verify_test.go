package verify

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// start runs the links between both sites in this process.
func start(t *testing.T, sites map[string]*node.Site) (set *mirror.Set, stop func()) {
	t.Helper()
	var text strings.Builder
	text.WriteString("[fabric]\nname = \"verify\"\n")
	for _, name := range []string{"eu", "us"} {
		fmt.Fprintf(&text, "[[cluster]]\nname = %q\nbootstrap = [%q]\n", name, sites[name].Bootstrap()[0])
	}
	text.WriteString("[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"*\"]\n[[link]]\nfrom = \"us\"\nto = \"eu\"\ntopics = [\"both\"]\n")
	topo, err := topology.Parse("verify.toml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	set, err = mirror.NewSet(mirror.Config{}, mirror.SetDeps{Topology: topo, Log: log, Writer: "n1/1", Metrics: mirror.NewMetrics(prometheus.NewRegistry(), 100),
		Open: func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			return broker.Open(p, log)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- set.Run(ctx) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return set, stop
}

// until waits for a condition.
func until(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", most, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// copied reports whether everything that a link has to copy is copied.
func copied(set *mirror.Set) bool {
	links := set.Status()
	for _, l := range links {
		seen := make(map[string]bool)
		for _, f := range l.Flows {
			seen[f.Topic] = len(f.Pumps) > 0
			for _, p := range f.Pumps {
				if p.State != mirror.StateRunning || p.LagRecords > 0 || p.SourceEnd < 0 {
					return false
				}
			}
		}
		if !l.Up || !seen["both"] || l.From == "eu" && !(seen["planted"] && seen["stamped"]) {
			return false
		}
	}
	return len(links) > 0
}

const (
	records = 1000 // of each load
	planted = 61   // the source offset at which something is done to the target
)

// Real brokers keep every kind of batch as it was written, by the audit and by a verification. What is changed in the files of a
// target, where no broker and no mirror sees it, is found, record for record.
func TestVerify_OnRealBrokers(t *testing.T) {
	kafka.Require(t)
	sites := node.StartSites(t, "eu", "us")
	parts := int32(len(plants))
	sites["eu"].Create(t, "planted", parts)
	sites["eu"].Create(t, "stamped", 2, "message.timestamp.type=LogAppendTime")
	sites["us"].Create(t, "stamped", 2, "message.timestamp.type=CreateTime")
	sites["eu"].Create(t, "both", 2)
	set, stop := start(t, sites)
	until(t, time.Minute, "the links run", func() bool { return copied(set) })

	log := judge.NewLog()
	done := make(chan error, 16)
	write := func(cluster string, loads ...judge.Load) (n int) {
		for i, l := range loads {
			l.Records, l.Size, l.Seed = records, 120, uint64(i+1)
			if cluster == "us" {
				l.Seed += 100
			}
			go func() { done <- judge.Write(t.Context(), sites[cluster].Client(), l, log) }()
		}
		return len(loads)
	}
	n := write("eu",
		judge.Load{Topic: "planted", Partitions: parts, Compression: "none", Headers: true, Rate: 2000},
		judge.Load{Topic: "stamped", Partitions: 2, Compression: "zstd"},
		judge.Load{Topic: "both", Partitions: 2, Compression: "lz4", Transaction: 37},
		judge.Load{Topic: "both", Partitions: 2, Compression: "gzip", Rate: 1500})
	n += write("us", judge.Load{Topic: "both", Partitions: 2, Compression: "snappy", Transaction: 11}, judge.Load{Topic: "both", Partitions: 2, Compression: "none", Rate: 1500})
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	until(t, time.Minute, "everything is copied", func() bool { return copied(set) })
	audited(t, set)

	began := time.Now()
	var all, bytes int64
	for _, l := range set.Status() {
		r, err := set.Verify(t.Context(), mirror.VerifyRequest{Link: l.Name, From: -1, To: -1, ByteRate: -1}, nil)
		if err != nil || !r.Identical() {
			t.Errorf("%s: %+v, %v", l.Name, r, err)
		}
		all, bytes = all+r.Records, bytes+r.Bytes
	}
	took := time.Since(began)
	t.Logf("%d records, %d bytes of both sides verified in %v: %.0f records/s", all, bytes, took, float64(all)/took.Seconds())
	if all < 4*records {
		t.Errorf("only %d records were compared", all)
	}
	link := set.Status()[0].Name
	stop()
	spoil(t, sites["us"])
	set, _ = start(t, sites)
	until(t, time.Minute, "the partitions are there", func() bool {
		for _, l := range set.Status() {
			for _, f := range l.Flows {
				if l.Name == link && f.Topic == "planted" && len(f.Pumps) == int(parts) {
					return true
				}
			}
		}
		return false
	})
	r, err := set.Verify(t.Context(), mirror.VerifyRequest{Link: link, Topic: "planted", From: -1, To: -1}, nil)
	if err != nil || len(r.Partitions) != len(plants) {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, p := range r.Partitions {
		switch d := p.Difference; {
		case p.Failed != "":
			t.Errorf("%s: failed: %s", plants[i].name, p.Failed)
		case plants[i].kind == "" && d == nil:
		case d == nil || plants[i].kind == "":
			t.Errorf("%s: found %v", plants[i].name, d)
		case d.Kind != plants[i].kind || plants[i].edit != nil && d.Source != planted && d.Source != planted-1:
			t.Errorf("%s at source offset %d: found %v", plants[i].name, planted, d)
		default:
			t.Logf("%s: found %v", plants[i].name, d)
		}
	}
}

// audited waits until the audit has read back something of everything, and found nothing.
func audited(t *testing.T, set *mirror.Set) {
	t.Helper()
	for _, l := range set.Status() {
		seen := make(map[string]mirror.AuditedWindow)
		until(t, 3*time.Minute, "the audit of "+l.Name+" has read back something", func() bool {
			windows, found, err := set.Audit(l.Name)
			if err != nil || len(found) > 0 {
				t.Fatalf("audit: %v, %v", found, err)
			}
			for _, w := range windows {
				if w.Source.Records > 0 {
					seen[w.Topic] = w
				}
			}
			if l.From == "us" {
				return len(seen) >= 1 // it has nothing else to copy
			}
			return len(seen) == 3
		})
		for _, w := range seen {
			if w.Source != w.Target || w.Reformed > 0 || w.Mismatches > 0 {
				t.Errorf("%s: %+v", l.Name, w)
			}
			t.Logf("%s: %+v", l.Name, w)
		}
	}
}

// spoil changes the files of a stopped broker and starts it again.
func spoil(t *testing.T, site *node.Site) {
	t.Helper()
	c := site.Server.(*kafka.Cluster)
	c.Stop(0)
	for i, p := range plants {
		s := readSegment(t, c.DataDir(0), "planted", i)
		if p.edit != nil {
			s.change(t, planted, p.edit)
			s.write(t, true)
			continue
		}
		raw := s.batches[s.find(t, planted)]
		raw[len(raw)-1] ^= 1
		s.write(t, false) // who makes the index anew looks at the checksums, and cuts the log off there
	}
	c.Start(0)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := site.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}
