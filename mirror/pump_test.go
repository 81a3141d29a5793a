package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// bench is one pump that the test drives by hand, with a clock of its own.
type bench struct {
	t    *testing.T
	link *Link
	pump *pump
	now  time.Time
	// value is the size of a record's value: too much to be merged, unless a test sets it.
	value int
}

// newBench has a pump that has just found its place at source offset 0.
func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.UnixMilli(1_700_000_000_000), value: mergeBelow}
	b.link = linkOf(t, fabricOf(t, "ap>eu", "eu>us", "us>eu"), "eu>us", Config{PumpBytes: 1 << 20}, func() time.Time { return b.now })
	f := newFlow(b.link, "orders")
	f.lim.Store(&limits{partitions: 1})
	b.pump = b.link.newPump(f, Checkpoint{Pump: somePump, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
	b.pump.led(newFetcher(b.link, 0), newWindow(b.link, 0), 0, 0, 0, b.now)
	b.pump.window.open.Store(true)
	b.pump.fetcher.open.Store(true)
	b.find(nil)
	return b
}

// find runs one search to its end, with the finding that change makes of the base.
func (b *bench) find(change func(*found)) {
	b.t.Helper()
	s, ok := b.pump.beginSearch(b.now)
	if !ok {
		b.t.Fatalf("no search in state %s", b.pump.state)
	}
	b.end(s, change, nil)
}

func (b *bench) end(s search, change func(*found), err error) {
	f := found{place: s.base.clone(), targetEnd: s.base.TargetFrom}
	if change != nil {
		change(&f)
	}
	b.pump.endSearch(s, f, err, b.now)
}

// offer hands over source batches, each of n records, from where the pump reads.
func (b *bench) offer(id int64, at int64, sizes ...int64) {
	b.t.Helper()
	got := &broker.Fetched{DivergingEnd: -1, PreferredReplica: -1}
	for _, n := range sizes {
		recs := records(at, n)
		for i := range recs {
			recs[i].Timestamp, recs[i].Value = b.now.UnixMilli(), make([]byte, b.value)
		}
		got.Batches = append(got.Batches, rawBatch(batchSpec{base: at, id: id, records: recs})...)
		at += n
	}
	got.HighWatermark = at
	b.pump.offer(got, b.pump.fetchAt, nil, b.now)
}

func (b *bench) next() *outBatch {
	b.pump.pack(b.pump.window, b.now)
	return b.pump.next(b.pump.window, b.now)
}

func (b *bench) ack(o *outBatch, base int64) {
	b.pump.result(o, broker.ProduceResult{BaseOffset: base, LogAppendTime: -1}, b.now)
}

// prove brings the pump past its solo batch.
func (b *bench) prove() {
	b.t.Helper()
	b.offer(1, b.pump.fetchAt, 1)
	o := b.next()
	if o == nil {
		b.t.Fatalf("nothing to send: %s %s", b.pump.state, b.pump.reason)
	}
	b.ack(o, b.pump.acked.TargetFrom)
}

func (b *bench) state(want State) {
	b.t.Helper()
	if b.pump.state != want {
		b.t.Fatalf("state %s (%s), want %s", b.pump.state, b.pump.reason, want)
	}
}

func TestPump_OneBatchAloneAfterFinding(t *testing.T) {
	b := newBench(t)
	b.offer(1, 0, 2, 2, 2, 2, 2, 2, 2, 2)
	first := b.next()
	if first == nil || b.next() != nil {
		t.Fatal("want exactly one batch before the first acknowledgement")
	}
	b.ack(first, 0)
	sent := 0
	for b.next() != nil {
		sent++
	}
	if sent != pumpInFlight {
		t.Errorf("%d batches in flight, want %d", sent, pumpInFlight)
	}
	for i, o := range b.pump.out.inflight {
		if h := header(t, o.bytes); int64(h.BaseSequence) != 2+2*int64(i) || h.ProducerID != b.pump.flow.producerID("eu") {
			t.Errorf("batch %d has sequence %d of id %d", i, h.BaseSequence, h.ProducerID)
		}
	}
}

func TestPump_NoPipelineAcrossAChangeOfOrigin(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.offer(1, 1, 2)
	b.offer(b.link.routing().topo.MirrorID("ap", "ap"), 3, 2)
	b.offer(1, 5, 2)
	for _, origin := range []string{"eu", "ap", "eu"} {
		o := b.next()
		if o == nil || o.origin != origin {
			t.Fatalf("next %+v, want one of %s", o, origin)
		}
		if b.next() != nil {
			t.Fatal("a batch of another origin in flight beside it")
		}
		b.ack(o, b.pump.acked.TargetFrom)
	}
	if got := b.pump.acked; got.SourceNext != 7 || got.lane("eu").Count != 5 || got.lane("ap").Count != 2 {
		t.Errorf("acknowledged %+v", got)
	}
}

// While records are so old that the broker may forget the id, one batch is in flight,
// and the one after them goes alone too.
func TestPump_OldRecordsOneInFlight(t *testing.T) {
	b := newBench(t)
	b.prove()
	young := b.now
	b.now = young.Add(-20 * time.Hour)
	b.offer(1, 1, 1, 1)
	b.now = young
	b.pump.out.proved = young
	b.offer(1, 3, 1, 1, 1)
	for i := range 3 {
		o := b.next()
		if o == nil || b.next() != nil {
			t.Fatalf("batch %d: want exactly one in flight", i)
		}
		b.ack(o, b.pump.acked.TargetFrom)
	}
	if first, second := b.next(), b.next(); first == nil || second == nil {
		t.Error("young batches are not pipelined behind a young acknowledgement")
	}
}

func TestPump_AnotherOwnerMakesItYield(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.offer(1, 1, 2)
	o := b.next()
	b.pump.result(o, broker.ProduceResult{Err: kerr.OutOfOrderSequenceNumber, BaseOffset: -1, LogAppendTime: -1}, b.now)
	b.state(StateFinding)
	progress := func(f *found) {
		f.place.setLane(Lane{Origin: "eu", Count: f.place.lane("eu").Count + 2})
		f.place.SourceNext += 2
		f.advanced = true
	}
	b.find(progress)
	b.state(StateYielded)
	if b.pump.fetchAt != 3 || b.pump.fenced != 1 {
		t.Errorf("reads on at %d, fenced %d", b.pump.fetchAt, b.pump.fenced)
	}
	b.now = b.now.Add(10 * time.Second)
	b.find(progress)
	b.state(StateYielded)
	b.now = b.now.Add(10 * time.Second)
	b.find(nil) // the other one makes no progress: our turn
	b.state(StateRunning)
}

// Refusals of a batch that goes alone are counted: they lead to a new epoch in the end.
func TestPump_RefusalsInARow(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		b.offer(1, 0, 2)
		b.pump.result(b.next(), broker.ProduceResult{Err: kerr.OutOfOrderSequenceNumber, BaseOffset: -1, LogAppendTime: -1}, b.now)
		b.now = b.now.Add(time.Minute)
		s, ok := b.pump.beginSearch(b.now)
		if !ok || s.refused != i+1 || !s.contended {
			t.Fatalf("search %+v after %d refusals", s, i+1)
		}
		b.end(s, nil, nil)
	}
	b.prove()
	if b.pump.out.refused != 0 {
		t.Error("refusals from before a fresh acknowledgement still count")
	}
}

func TestPump_DuplicateAckIsNotCounted(t *testing.T) {
	for name, r := range map[string]broker.ProduceResult{
		"kafka": {BaseOffset: 5, LogAppendTime: 1_700_000_000_000},
		"kfake": {BaseOffset: 5, LogAppendTime: -1, LogStart: -1},
	} {
		b := newBench(t)
		b.offer(1, 0, 2)
		b.pump.result(b.next(), r, b.now)
		if b.state(StateFinding); b.pump.acked.SourceNext != 0 {
			t.Errorf("%s: acknowledged up to %d", name, b.pump.acked.SourceNext)
		}
	}
	if duplicateAck(broker.ProduceResult{LogAppendTime: -1}) {
		t.Error("a fresh acknowledgement is taken for a duplicate's")
	}
}

// What an idle pump keeps queued while it looks at its place may be dropped meanwhile;
// then it must be read again.
func TestPump_DroppedQueueIsReadAgain(t *testing.T) {
	for name, meanwhile := range map[string]func(*bench, search){
		"nothing happens": func(b *bench, s search) { b.end(s, nil, nil) },
		"no leader, then one": func(b *bench, s search) {
			b.pump.wait(CauseLeader, "no leader", b.now)
			b.pump.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
			b.end(s, nil, nil)
		},
		"no leader for long": func(b *bench, s search) {
			b.pump.wait(CauseLeader, "no leader", b.now)
			b.end(s, nil, nil)
			b.pump.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
			b.find(nil)
		},
		"a halt that heals": func(b *bench, s search) {
			b.end(s, nil, &haltError{"truncated-target", "for a moment"})
			b.now = b.now.Add(time.Minute)
			b.find(nil)
		},
		"an error": func(b *bench, s search) {
			b.end(s, nil, errors.New("timeout"))
			b.now = b.now.Add(time.Minute)
			b.find(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.prove()
			b.now = b.now.Add(2 * staleAfter)
			b.offer(1, 1, 2, 2)
			if b.next() != nil {
				t.Fatal("wrote after a long silence without a look at the target")
			}
			s, ok := b.pump.beginSearch(b.now)
			if !ok || !s.keep {
				t.Fatalf("search %+v, %v", s, ok)
			}
			meanwhile(b, s)
			b.state(StateRunning)
			if b.pump.fetchAt == b.pump.acked.SourceNext {
				b.offer(1, 1, 2, 2)
			}
			for o := b.next(); o != nil; o = b.next() {
				b.ack(o, b.pump.acked.TargetFrom)
			}
			if got := b.pump.offsets.Since(0); len(got) != 1 || got[0].Records != 5 || b.pump.acked.SourceNext != 5 {
				t.Errorf("copied %+v up to %d, want 5 records", got, b.pump.acked.SourceNext)
			}
		})
	}
}

func TestPump_LeaderChangesDuringTheSearch(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.pump.led(b.pump.fetcher, b.pump.window, 0, 1, 0, b.now)
	s, _ := b.pump.beginSearch(b.now)
	b.pump.led(b.pump.fetcher, b.pump.window, 0, 2, 0, b.now)
	b.end(s, nil, nil)
	b.state(StateFinding)
	b.find(nil)
	b.state(StateRunning)
}

func TestPump_RecreatedTopicUnderTheSameLeader(t *testing.T) {
	b := newBench(t)
	b.pump.acked.SourceTopicID = [16]byte{1}
	b.pump.identified([16]byte{1}, [16]byte{}, b.now)
	b.state(StateRunning)
	b.pump.identified([16]byte{2}, [16]byte{}, b.now)
	b.state(StateFinding)
}

// The answer that names where the logs diverge holds no batches. The search
// then says whether the source was truncated or made anew.
func TestPump_DivergingSourceIsLookedAt(t *testing.T) {
	b := newBench(t)
	b.pump.offer(&broker.Fetched{DivergingEpoch: 3, DivergingEnd: 0}, b.pump.fetchAt, nil, b.now)
	b.state(StateFinding)
}

func TestPump_FormerLeadersSayNothing(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.offer(1, 1, 2, 2)
	oldFetcher, oldWindow := b.pump.fetcher, b.pump.window
	b.pump.led(newFetcher(b.link, 1), newWindow(b.link, 1), 1, 1, 1, b.now)
	b.find(nil)
	b.offer(1, 1, 2, 2)
	if _, ok := b.pump.want(oldFetcher); ok || b.pump.readBy(oldFetcher) {
		t.Error("the former source leader is still asked")
	}
	if _, ok := b.pump.want(b.pump.fetcher); !ok {
		t.Error("the source leader is not asked")
	}
	if len(b.pump.window.listed) != 1 {
		t.Error("not ready at the new target leader")
	}
	if b.pump.next(oldWindow, b.now) != nil {
		t.Error("the former target leader gets a batch")
	}
	b.pump.disconnected(oldWindow, errors.New("gone"), b.now)
	b.state(StateRunning)
	if b.next() == nil {
		t.Error("the target leader gets none")
	}
}

// In a topic that others write to, each look costs a search: one is enough to know that
// the broker has not forgotten the id.
func TestPump_ExaminedGapEndsTheSoloBatch(t *testing.T) {
	b := newBench(t)
	b.offer(1, 0, 1, 1, 1, 1)
	b.ack(b.next(), 10) // ten local records meanwhile
	b.state(StateFinding)
	if b.pump.out.examineFrom != 0 || b.pump.out.examineTo != 10 {
		t.Errorf("examines [%d, %d)", b.pump.out.examineFrom, b.pump.out.examineTo)
	}
	b.find(nil)
	if first, second := b.next(), b.next(); first == nil || second == nil {
		t.Error("still one batch at a time")
	}
	if b.pump.fetchAt != 4 {
		t.Error("the queue was dropped")
	}
}

// What grows on its way is bounded by what it is there, not by what it was on the wire.
func TestPump_TakesNoMoreOfAnAnswerThanItMayHold(t *testing.T) {
	b := newBench(t)
	b.pump.flow.lim.Store(&limits{partitions: 1, packing: packing{fixed: true}})
	const batches, unpacked = 40, 100_000
	got := &broker.Fetched{DivergingEnd: -1}
	for i := range int64(batches) {
		r := batch.Record{Timestamp: b.now.UnixMilli(), Value: make([]byte, unpacked)}
		raw, err := batch.Encode(nil, []batch.Record{r}, batch.Zstd, batch.Stamp{})
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint64(raw, uint64(i))
		got.Batches = append(got.Batches, raw...)
	}
	b.pump.offer(got, 0, nil, b.now)
	if held, most := b.pump.out.bytes, b.link.cfg.PumpBytes; held < most || held > most+2*unpacked {
		t.Errorf("%d bytes are held, want a little more than %d", held, most)
	}
	if want := int64(len(b.pump.out.queue)); b.pump.fetchAt != want || want == batches {
		t.Errorf("reads on at %d, want %d: what was not taken", b.pump.fetchAt, want)
	}
	b.state(StateRunning)
}

func TestPump_MergeStopsBeforeARecordTheTargetRefuses(t *testing.T) {
	b := newBench(t)
	b.pump.flow.lim.Store(&limits{partitions: 1, afterMax: time.Hour.Milliseconds()})
	for i, ahead := range []time.Duration{0, 0, 2 * time.Hour} {
		r := record(int64(i))
		r.Timestamp = b.now.Add(ahead).UnixMilli()
		b.pump.offer(&broker.Fetched{DivergingEnd: -1, Batches: rawBatch(batchSpec{base: int64(i), records: []batch.Record{r}})}, int64(i), nil, b.now)
	}
	o := b.next()
	if o == nil || o.records != 2 {
		t.Fatalf("next %+v, want the two good records", o)
	}
	b.ack(o, 0)
	if b.next() != nil {
		t.Error("the refused record is sent")
	}
	b.state(StateRetrying) // a worker looks at the record once more
	if b.pump.cause != CauseLate || !strings.Contains(b.pump.reason, "a record at source offset 2 ") || !strings.Contains(b.pump.reason, "message.timestamp.after.max.ms") {
		t.Errorf("the reason %q does not say what is where, and what to do", b.pump.reason)
	}
	if b.pump.acked.SourceNext != 2 {
		t.Errorf("halted at %d", b.pump.acked.SourceNext)
	}
}

// A small batch that cannot be decoded spoils the group that it would be merged into. The good ones before it get there first.
func TestPump_OneBadBatchOfAMergedGroupGoesLast(t *testing.T) {
	b := newBench(t)
	b.prove()
	for at := range int64(3) {
		s := batchSpec{base: 1 + at, id: 1, records: []batch.Record{record(1 + at)}}
		s.records[0].Timestamp = b.now.UnixMilli()
		if at == 2 {
			s.attributes = int16(batch.Gzip) // it is not
		}
		b.pump.offer(&broker.Fetched{DivergingEnd: -1, PreferredReplica: -1, Batches: rawBatch(s)}, 1+at, nil, b.now)
	}
	for want := int64(1); want <= 3; want++ {
		o := b.next()
		if o == nil || len(o.spans) != 1 || o.spans[0] != (span{want, 1}) {
			t.Fatalf("%s (%s): next %+v, want the record at source offset %d", b.pump.state, b.pump.reason, o, want)
		}
	}
}

// The map of a partition with holes has very many runs; a question about a few records does not copy it.
func TestPump_CountedTakesOfTheMapWhatItNeeds(t *testing.T) {
	b := newBench(t)
	const runs, questions = 10_000, 100
	for i := range int64(runs) {
		b.pump.offsets.Add(Run{Source: 2 * i, Target: i, Records: 1, Origin: "eu", Count: i})
	}
	more := []Run{{Source: 2 * runs, Target: runs, Records: 5, Origin: "eu", Count: runs}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range questions {
		if got := b.pump.counted(more, "eu", runs-1, runs+1); len(got) != 2 || got[0].Source != 2*runs-2 || got[1].Source != 2*runs || got[1].Records != 1 {
			t.Fatalf("counted %d runs, want the last record of the map and the first of what is new", len(got))
		}
	}
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) / questions; used > runs {
		t.Errorf("a question about two records takes %d bytes", used)
	}
}

// A pump that is looked at before its time is looked at again when it comes.
func TestPump_EarlyLookIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, time.Now)
		f := newFlow(l, "orders")
		p := l.newPump(f, Checkpoint{Pump: somePump})
		p.led(newFetcher(l, 0), newWindow(l, 0), 0, 0, 0, time.Now())
		take := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := l.agenda.take(ctx); err != nil {
				t.Fatal("the pump is on no agenda")
			}
		}
		take()
		p.mu.Lock()
		p.state, p.nextTry = StateHalted, time.Now().Add(10*time.Second)
		p.mu.Unlock()
		if _, ok := p.beginSearch(time.Now()); ok {
			t.Fatal("looked at too early")
		}
		take()
		if _, ok := p.beginSearch(time.Now()); !ok {
			t.Error("not looked at in time")
		}
	})
}

func TestPump_LagGrowsWhileItStandsStill(t *testing.T) {
	b := newBench(t)
	b.offer(1, 0, 3)
	for _, after := range []time.Duration{0, time.Second, time.Minute} {
		if st := b.pump.status(b.now.Add(after)); st.Lag != after || st.LagRecords != 3 {
			t.Errorf("after %v: lag %v of %d records", after, st.Lag, st.LagRecords)
		}
	}
	for o := b.next(); o != nil; o = b.next() {
		b.ack(o, b.pump.acked.TargetFrom)
	}
	if st := b.pump.status(b.now.Add(time.Hour)); st.Lag != 0 || st.LagRecords != 0 || st.SeenAgo != time.Hour {
		t.Errorf("caught up: %+v", st.Behind)
	}
}

// Every frame goes back to the budget whatever becomes of its batches.
func TestPump_FramesGoBack(t *testing.T) {
	for name, then := range map[string]func(*bench){
		"acknowledged": func(b *bench) {
			for o := b.next(); o != nil; o = b.next() {
				b.ack(o, b.pump.acked.TargetFrom)
			}
		},
		"refused": func(b *bench) {
			b.pump.result(b.next(), broker.ProduceResult{Err: kerr.NotEnoughReplicas, BaseOffset: -1}, b.now)
		},
		"void, answered later": func(b *bench) {
			o := b.next()
			b.pump.wait(CauseTopic, "gone", b.now)
			b.ack(o, 0)
		},
		"halted":       func(b *bench) { b.pump.wait(CauseTopic, "gone", b.now) },
		"disconnected": func(b *bench) { b.pump.disconnected(b.pump.window, errors.New("gone"), b.now) },
	} {
		b := newBench(t)
		h := &held{frame: new(broker.Frame), budget: newBudget(1000, nil), size: 600}
		h.budget.held[h.track] += h.size
		h.refs.Store(2) // the test keeps one, so that the frame itself stays out of it
		raw := rawBatch(batchSpec{base: 0, records: records(0, 3)})
		raw = append(raw, rawBatch(batchSpec{base: 3, last: 9, records: []batch.Record{record(3), record(9)}})...)
		b.pump.offer(&broker.Fetched{DivergingEnd: -1, Batches: raw}, 0, h, b.now)
		if got := h.refs.Load(); got != 4 {
			t.Errorf("%s: %d references while two batches are queued, one of them rebuilt", name, got)
		}
		then(b)
		if got := h.refs.Load(); got != 2 {
			t.Errorf("%s: %d references are left", name, got-2)
		}
	}
}

func TestPump_BatchesOfSplitSourceEndOnce(t *testing.T) {
	b := newBench(t)
	b.pump.flow.lim.Store(&limits{partitions: 1, maxBytes: 600})
	recs := records(0, 8)
	for i := range recs {
		recs[i].Value = fmt.Appendf(nil, "%0200d", i)
	}
	b.pump.offer(&broker.Fetched{DivergingEnd: -1, Batches: rawBatch(batchSpec{records: recs})}, 0, nil, b.now)
	at := int64(0)
	for o := b.next(); o != nil; o = b.next() {
		b.ack(o, at)
		at += int64(o.records)
		if safe := b.pump.safe.SourceNext; safe != 0 && safe != 8 {
			t.Errorf("a checkpoint inside a source batch, at %d", safe)
		}
	}
	if b.pump.safe.SourceNext != 8 || b.pump.acked.lane("eu").Count != 8 {
		t.Errorf("safe %+v", b.pump.safe)
	}
}
