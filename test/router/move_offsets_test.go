package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// line is what a reader without a group saw of each partition, as "offset value".
type line struct {
	*kgo.Client
	mu   sync.Mutex
	of   map[int32][]string
	errs []error
}

// reads has a client of the router read all partitions from their starts.
func (w *world) reads(opts ...kgo.Opt) *line {
	at := make(map[int32]kgo.Offset)
	for p := range int32(6) {
		at[p] = kgo.NewOffset().AtStart()
	}
	l := &line{Client: w.client([]int{0}, append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": at}))...), of: make(map[int32][]string)}
	go func() {
		for {
			fs := l.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			l.mu.Lock()
			fs.EachError(func(_ string, _ int32, err error) { l.errs = append(l.errs, err) })
			fs.EachRecord(func(r *kgo.Record) {
				l.of[r.Partition] = append(l.of[r.Partition], fmt.Sprint(r.Offset, " ", string(r.Value)))
			})
			l.mu.Unlock()
		}
	}()
	return l
}

// saw checks that it saw so many records of each partition, each once, in order, under the offset that is its value, and no error.
func (l *line) saw(t *testing.T, who string, n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i, " ", i))
	}
	for p := range int32(6) {
		if !slices.Equal(l.of[p], want) {
			t.Errorf("%s saw of partition %d %v", who, p, l.of[p])
		}
	}
	for _, err := range l.errs {
		t.Errorf("%s: %v", who, err)
	}
}

// atUs is where the new home has what the old one, of n records in each partition, has: one behind.
func atUs(t *testing.T, n int64) *positions.Book {
	t.Helper()
	next, err := timeline.Begin(0, "eu", 0).Next(timeline.Planned("us", n, n+1))
	if err != nil {
		t.Fatal(err)
	}
	m, err := timeline.Build(next, map[int64][]timeline.Run{0: {{From: 0, To: 1, Count: n}}})
	if err != nil {
		t.Fatal(err)
	}
	return positions.New(map[string][]*timeline.Map{"orders": {m, m, m, m, m, m}})
}

// TestRouter_MoveOffsets: a home that has the same records at other offsets is served under those that clients know, whatever they ask: readers that were there before and new ones, with
// and without fetch sessions, producers, positions of groups, lists and deletions.
func TestRouter_MoveOffsets(t *testing.T) {
	const eu, us = "127.0.0.1:9001", "127.0.0.1:9011"
	inMovingHomes(t, func(t *testing.T, w *world, d *door, to *broker.Cluster) {
		w.both(0, 50, eu, us)
		before, sessions := w.reads(kgo.DisableFetchSessions()), w.reads()
		defer before.Close()
		defer sessions.Close()
		time.Sleep(5 * time.Second)
		d.drain(t)
		if err := d.router.Move(t.Context(), "", router.Home{Generation: 1, Cluster: to, Positions: atUs(t, 50)}); err != nil {
			t.Fatal(err)
		}
		out := w.client([]int{0}, kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer out.Close()
		for i := 50; i < 100; i++ {
			for p := range int32(6) {
				r, err := out.ProduceSync(t.Context(), &kgo.Record{Partition: p, Value: []byte(fmt.Sprint(i))}).First()
				if err != nil || r.Offset != int64(i) {
					t.Fatalf("record %d of partition %d is acknowledged at offset %d, %v", i, p, r.Offset, err)
				}
			}
		}
		fresh := w.reads()
		defer fresh.Close()
		time.Sleep(20 * time.Second)
		before.saw(t, "who read before", 100)
		sessions.saw(t, "who read before in sessions", 100)
		fresh.saw(t, "who came later", 100)
		w.positionsAre(out, us)
	})
}

// positionsAre checks what is told and done about offsets through the router, where the home has everything one behind and ends at 101.
func (w *world) positionsAre(cl *kgo.Client, home string) {
	w.t.Helper()
	ctx, adm, direct := w.t.Context(), kadm.NewClient(cl), kadm.NewClient(w.direct(home))
	ends, err := adm.ListEndOffsets(ctx, "orders")
	if o, _ := ends.Lookup("orders", 3); err != nil || o.Offset != 100 {
		w.t.Errorf("the end is told as %d, %v", o.Offset, err)
	}
	var commit kadm.Offsets
	commit.AddOffset("orders", 3, 70, -1)
	if err := adm.CommitAllOffsets(ctx, "tool", commit); err != nil {
		w.t.Error(err)
	}
	real, err := direct.FetchOffsets(ctx, "tool")
	if o, _ := real.Lookup("orders", 3); err != nil || o.At != 71 {
		w.t.Errorf("the home has the position %d, %v", o.At, err)
	}
	told, err := adm.FetchOffsets(ctx, "tool")
	if o, _ := told.Lookup("orders", 3); err != nil || o.At != 70 {
		w.t.Errorf("the position is told as %d, %v", o.At, err)
	}
	var gone kadm.Offsets
	gone.AddOffset("orders", 3, 10, -1)
	deleted, err := adm.DeleteRecords(ctx, gone)
	if o, _ := deleted.Lookup("orders", 3); err != nil || o.Err != nil || o.LowWatermark != 10 {
		w.t.Errorf("deleted to %+v, %v", o, err)
	}
	starts, err := direct.ListStartOffsets(ctx, "orders")
	if o, _ := starts.Lookup("orders", 3); err != nil || o.Offset != 11 {
		w.t.Errorf("the home's log starts at %d, %v", o.Offset, err)
	}
	late := w.client([]int{0}, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": {3: kgo.NewOffset().AtStart()}}))
	defer late.Close()
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var first *kgo.Record
	for first == nil && wait.Err() == nil {
		late.PollFetches(wait).EachRecord(func(r *kgo.Record) {
			if first == nil {
				first = r
			}
		})
	}
	if first == nil || first.Offset != 10 || string(first.Value) != "10" {
		w.t.Errorf("the first record is %+v", first)
	}
}
