package real

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// How long a partition may stand still when an instance is killed: one whose slot it served, and one whose slot another serves.
const (
	ofTheKilled = 3 * time.Second
	ofTheOther  = time.Second
)

// TestTwoNodes_OneIsKilled: of two instances of a router one is killed with kill -9. Clients of the other do not notice, its own are back on the other
// within three seconds, and no acknowledged record of idempotent producers is lost or doubled.
func TestTwoNodes_OneIsKilled(t *testing.T) {
	kafka.Require(t)
	site := node.StartSitesWith(t, kafka.Options{Name: "home", Brokers: 3, HeapMB: 320})["home"]
	ports := map[string]int{"n1": node.FreeRow(t, 1+slots), "n2": node.FreeRow(t, 1+slots)}
	more := ""
	for _, n := range []string{"n1", "n2"} {
		more += fmt.Sprintf("[[router]]\nname = \"shop\"\nnode = %q\nlisten = \"127.0.0.1:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"home\"\n", n, ports[n], ports[n]+1, ports[n]+slots)
	}
	fleet := node.NewFleet(t, node.Fleet{Name: "doors", Sites: []*node.Site{site}, DCs: map[string]string{"home": "a", "n1": "a", "n2": "a"}, Nodes: []string{"n1", "n2"}, More: more})
	n1, n2 := fleet.Node("n1"), fleet.Node("n2")
	n1.Start()
	n2.Start()
	const partitions = 6
	site.Create(t, "orders", partitions)
	seeds := kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", ports["n1"]), fmt.Sprintf("127.0.0.1:%d", ports["n2"]))
	cl, err := kgo.NewClient(seeds, kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	first := make(map[int32]string) // by which node a partition is written
	node.Until(t, time.Minute, "both instances serve slots", func(ctx context.Context) error {
		m, err := kadm.NewClient(cl).Metadata(ctx, "orders")
		if err != nil {
			return err
		}
		used := make(map[string]bool)
		for _, p := range m.Topics["orders"].Partitions {
			i := slices.IndexFunc(m.Brokers, func(b kadm.BrokerDetail) bool { return b.NodeID == p.Leader })
			if i < 0 {
				return fmt.Errorf("partition %d has no leader", p.Partition)
			}
			first[p.Partition] = "n2"
			if int(m.Brokers[i].Port) <= ports["n1"]+slots && int(m.Brokers[i].Port) > ports["n1"] {
				first[p.Partition] = "n1"
			}
			used[first[p.Partition]] = true
		}
		if len(used) < 2 || len(first) < partitions {
			return fmt.Errorf("partitions are written by %v", first)
		}
		return nil
	})
	var all sync.WaitGroup
	stop := make(chan struct{})
	writers := make([]*steady, partitions)
	for p := range writers {
		writers[p] = &steady{partition: int32(p)}
		all.Go(func() { writers[p].run(t, seeds, stop) })
	}
	node.Until(t, time.Minute, "all are written", func(context.Context) error {
		for _, w := range writers {
			if n := w.count(); n < 100 {
				return fmt.Errorf("partition %d has %d records", w.partition, n)
			}
		}
		return nil
	})
	for _, w := range writers {
		w.reset()
	}
	n1.Kill()
	killed := time.Now()
	node.Until(t, time.Minute, "all go on", func(context.Context) error {
		if time.Since(killed) < 5*time.Second {
			return fmt.Errorf("it is %v ago", time.Since(killed))
		}
		for _, w := range writers {
			if !w.since(killed) {
				return fmt.Errorf("partition %d stands still", w.partition)
			}
		}
		return nil
	})
	close(stop)
	all.Wait()
	for _, w := range writers {
		limit := ofTheOther
		if first[w.partition] == "n1" {
			limit = ofTheKilled
		}
		t.Logf("partition %d, written by %s: %d records, stood for %v at most", w.partition, first[w.partition], w.count(), w.longest)
		if w.longest > limit {
			t.Errorf("partition %d, written by %s, stood for %v, want %v at most", w.partition, first[w.partition], w.longest, limit)
		}
	}
	eachOnce(t, site, writers)
}

// steady writes to one partition, one record after the other, and notes how long it stood still.
type steady struct {
	partition int32

	mu      sync.Mutex
	acked   int
	last    time.Time
	longest time.Duration
}

func (w *steady) run(t *testing.T, seeds kgo.Opt, stop chan struct{}) {
	cl, err := kgo.NewClient(seeds, kgo.MetadataMinAge(100*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := cl.ProduceSync(ctx, &kgo.Record{Partition: w.partition, Value: fmt.Append(nil, i)}).FirstErr()
		cancel()
		if err != nil {
			t.Errorf("record %d of partition %d: %v", i, w.partition, err)
			return
		}
		w.mu.Lock()
		if now := time.Now(); !w.last.IsZero() {
			w.longest, w.last = max(w.longest, now.Sub(w.last)), now
		} else {
			w.last = now
		}
		w.acked++
		w.mu.Unlock()
	}
}

func (w *steady) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// reset forgets how long it stood.
func (w *steady) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = 0
}

// since reports whether a record was acknowledged a while after a moment.
func (w *steady) since(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.After(t.Add(4 * time.Second))
}

// eachOnce checks that what was acknowledged is at the home, each record once and in order.
func eachOnce(t *testing.T, site *node.Site, writers []*steady) {
	t.Helper()
	in, err := kgo.NewClient(kgo.SeedBrokers(site.Bootstrap()...), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	next, total := make(map[int32]int), 0
	for _, w := range writers {
		total += w.count()
	}
	ctx := deadline(t)
	for got := 0; got < total; {
		fs := in.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", got, total, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != fmt.Sprint(next[r.Partition]) {
				t.Errorf("record %q of partition %d at offset %d, want %d", r.Value, r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition]++
			got++
		})
	}
	for _, w := range writers {
		if next[w.partition] != w.count() {
			t.Errorf("partition %d has %d records, %d were acknowledged", w.partition, next[w.partition], w.count())
		}
	}
}
