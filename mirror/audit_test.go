package mirror

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// sentBatch is a batch as it was sent and acknowledged.
func sentBatch(first, n int64, generation uint64) *outBatch {
	raw, err := batch.Encode(nil, records(first, n), batch.None, batch.Stamp{ProducerID: 7, Sequence: int32(first)})
	if err != nil {
		panic(err)
	}
	b := &outBatch{bytes: raw, records: int32(n), spans: []span{{first, n}}, next: first + n, origin: "eu"}
	b.generation, b.crc = generation, batch.CRC(raw)
	return b
}

// A stretch is of batches that follow each other, of one generation, and ends when it is large enough.
func TestAuditing_Stretches(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	a := auditing{again: now}
	if a.add(sentBatch(0, 5, 1), 100, now.Add(-time.Millisecond)) || a.open.Records != 0 {
		t.Error("a stretch began too early")
	}
	if !a.add(sentBatch(5, 5, 1), 105, now) || a.add(sentBatch(10, 5, 1), 110, now) {
		t.Error("want one stretch to begin")
	}
	if a.add(sentBatch(15, 5, 2), 115, now) || a.open.Records != 10 {
		t.Errorf("%d records, want those of one generation", a.open.Records)
	}
	if s := a.open; s.from != 105 || s.to != 115 || s.first != 5 || s.next != 15 {
		t.Errorf("stretch %+v", s)
	}
	a.open.Bytes = auditBytes
	a.add(sentBatch(15, 5, 1), 115, now)
	if a.open.to != 115 {
		t.Error("a stretch that is large enough grew")
	}
}

// The digest tells every batch, its number of records and its place; the order in which batches are summed up does not matter.
func TestAuditSum_TellsWhatIsOther(t *testing.T) {
	sum := func(bs ...[3]int64) (s AuditSum) {
		for _, b := range bs {
			s.add(uint32(b[0]), int32(b[1]), 10, b[2])
		}
		return s
	}
	a, b := [3]int64{0xdeadbeef, 3, 100}, [3]int64{0xfeedface, 4, 103}
	want := sum(a, b)
	if sum(b, a) != want {
		t.Error("the order of summing matters")
	}
	for name, other := range map[string]AuditSum{
		"a missing one":   sum(a),
		"one bit":         sum(a, [3]int64{0xfeedfacf, 4, 103}),
		"another place":   sum(a, [3]int64{0xfeedface, 4, 104}),
		"swapped places":  sum([3]int64{0xdeadbeef, 3, 103}, [3]int64{0xfeedface, 4, 100}),
		"another count":   sum(a, [3]int64{0xfeedface, 5, 103}),
		"one of them two": sum(a, a),
	} {
		if other.Digest == want.Digest {
			t.Errorf("%s has the same digest", name)
		}
	}
}

// The windows of a topic are bounded, and count what was copied in each.
func TestAuditQueue_Windows(t *testing.T) {
	q := newAuditQueue()
	now := time.UnixMilli(1_700_000_000_000).Truncate(AuditWindow)
	for i := range int64(30) {
		q.window("orders", i*100+50, now.Add(time.Duration(i)*AuditWindow), func(w *AuditedWindow) { w.Source.Records++ })
		q.window("orders", i*100+100, now.Add(time.Duration(i)*AuditWindow+time.Second), func(w *AuditedWindow) { w.Source.Records++ })
	}
	windows := q.windows()
	if len(windows) != auditKeep {
		t.Fatalf("%d windows are kept", len(windows))
	}
	for i, w := range windows {
		if w.Copied != 100 || w.Source.Records != 2 || !w.Start.Equal(now.Add(time.Duration(20+i)*AuditWindow)) {
			t.Errorf("window %+v", w)
		}
	}
}

// What the audit costs for each batch, with a stretch that grows and without one.
func BenchmarkAudit(b *testing.B) {
	now := time.UnixMilli(1_700_000_000_000)
	one := sentBatch(0, 5, 1)
	for name, a := range map[string]auditing{"none open": {again: now.Add(time.Hour)}, "growing": {}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.add(one, 100, now)
				a.open.Bytes = 0
			}
		})
	}
}

// What an acknowledgement costs: the map, the position, the meters, and the audit.
func BenchmarkAck(b *testing.B) {
	topo := fabricOf(b, "eu>us")
	now := time.UnixMilli(1_700_000_000_000)
	l := linkOf(b, topo, "eu>us", Config{}, func() time.Time { return now })
	for _, audited := range []bool{false, true} {
		b.Run(fmt.Sprintf("audited %t", audited), func(b *testing.B) {
			p := l.newPump(newFlow(l, "orders"), Checkpoint{Pump: somePump, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
			if !audited {
				p.audit.again = now.Add(time.Hour)
			}
			out := sentBatch(0, 5, 1)
			b.ReportAllocs()
			at := int64(0)
			for b.Loop() {
				out.spans[0].first, out.next, out.count = at, at+5, at
				p.creditLocked(out, at, now)
				p.audit.open.Bytes = 0
				at += 5
			}
		})
	}
}

// Verifying without I/O: how many records a second are compared, byte for byte and decoded.
func BenchmarkComparer(b *testing.B) {
	source := records(0, 100_000)
	for name, sizes := range map[string][]int{"batches alike": {500}, "batches cut otherwise": {333}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c := newComparing(streamOf(source, 500), streamOf(source, sizes...), nil)
				b.StartTimer()
				if d, err := c.run(); d != nil || err != nil || c.records != 100_000 {
					b.Fatal(d, err, c.records)
				}
			}
			b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// What could not be read back is tried again, not for ever, and not instead of what was written since.
func TestAudit_TriesAgain(t *testing.T) {
	b := newBench(t)
	p := b.pump
	p.auditLocked(sentBatch(0, 5, 1), 100, b.now)
	for i := 1; ; i++ {
		queued := b.link.audits.first() != nil
		if queued != (i <= auditTries) {
			t.Fatalf("queued %t after %d tries", queued, i-1)
		}
		if !queued {
			break
		}
		if s, _ := p.auditNext(); b.now.Before(s.due) {
			b.now = s.due
		}
		b.link.audits.drop()
		s := p.auditTake(b.now)
		if s.Records != 5 || s.from != 100 {
			t.Fatalf("stretch %+v", s)
		}
		p.auditAgain(s, b.now)
	}
	p.auditLocked(sentBatch(5, 5, 1), 105, b.now.Add(time.Minute))
	p.auditAgain(readback{AuditSum: AuditSum{Records: 1}}, b.now)
	if s := p.auditTake(b.now); s.from != 105 || s.tries != 0 {
		t.Errorf("stretch %+v, want the newer one", s)
	}
}
