package mirror

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// BenchmarkWalk is the way of healthy batches from an answer to the queue: what is done for each, beside moving its bytes.
func BenchmarkWalk(b *testing.B) {
	b.Run("client", func(b *testing.B) { benchWalk(b, func(*Link) int64 { return 7 }) })
	b.Run("router client", func(b *testing.B) {
		benchWalk(b, func(l *Link) int64 { return l.routing().topo.RouterClientID("r", 7, 1) })
	})
}

func benchWalk(b *testing.B, idOf func(*Link) int64) {
	link := linkOf(b, fabricOf(b, "eu>us"), "eu>us", Config{}, time.Now)
	f := newFlow(link, "orders")
	got := &broker.Fetched{Topic: "orders", DivergingEnd: -1, PreferredReplica: -1}
	const batches = 100
	id := idOf(link)
	for i := range int64(batches) {
		recs := make([]batch.Record, 10)
		for j := range recs {
			recs[j] = record(10*i + int64(j))
			recs[j].Value = make([]byte, 1000)
		}
		got.Batches = append(got.Batches, rawBatch(batchSpec{base: 10 * i, id: id, sequence: int32(10 * i), records: recs})...)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := f.walk(got, 0, func(s *sourceBatch) error {
			out, err := prepare(s, nil, 1<<20, 1<<20, time.Time{})
			n += len(out)
			return err
		})
		if err != nil || n != batches {
			b.Fatal(n, err)
		}
	}
}
