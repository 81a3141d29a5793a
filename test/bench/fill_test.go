package bench

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// jsonLike is a value that lz4 packs about four to one.
func jsonLike(rng *rand.Rand) []byte {
	b := []byte(`{"order_id":"`)
	for len(b) < valueBytes-120 {
		b = fmt.Appendf(b, `%x","customer":{"id":%d,"segment":"retail","country":"DE"},"lines":[{"sku":"SKU-%d","quantity":1,"price":"%d.99"}],"ref":"`,
			rng.Uint32(), rng.IntN(1_000_000), rng.IntN(10_000), rng.IntN(100))
	}
	for len(b) < valueBytes-2 {
		b = append(b, 'a'+byte(rng.IntN(26)))
	}
	return append(b, `"}`...)
}

// stock makes batches to write again and again: encoding anew would take longer
// than everything else. They are many enough not to fit any cache.
func stock(t *testing.T, w workload) (stock [][]byte, each int64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	encode := func(n int) []byte {
		now := time.Now().UnixMilli()
		records := make([]batch.Record, n)
		for i := range records {
			records[i] = batch.Record{Timestamp: now, Value: jsonLike(rng)}
		}
		raw, err := batch.Encode(nil, records, w.codec, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	each = 1
	for range 3 { // to the wanted size
		if w.bytes > 0 {
			each = max(1, each*int64(w.bytes)/int64(len(encode(int(each)))))
		}
	}
	for bytes := 0; bytes < 32<<20 && len(stock) < 4096; {
		raw := encode(int(each))
		stock, bytes = append(stock, raw), bytes+len(raw)
	}
	return stock, each
}

// fill creates the topic at the source and writes the workload into it. It
// returns a result that says what there is to copy.
func (b *run) fill(topic string, w workload) (r result) {
	b.t.Helper()
	b.from.create(b.t, topic)
	conn, err := b.from.cluster.ProduceConn(b.t.Context(), b.from.leader(b.t, topic, partitions))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	batches, records := stock(b.t, w)
	at := 0
	drain := func(most int) {
		for conn.InFlight() > most {
			results, err := conn.Recv(b.t.Context())
			if err != nil {
				b.t.Fatal(err)
			}
			for _, r := range results {
				if r.Err != nil {
					b.t.Fatal(r.Err)
				}
			}
		}
	}
	request := make([]broker.ProduceBatch, partitions)
	for r.records < w.records {
		request = request[:0]
		for p := range int32(partitions) {
			raw := batches[at%len(batches)]
			at++
			request = append(request, broker.ProduceBatch{Topic: topic, Partition: p, Bytes: raw})
			r.records, r.wire = r.records+records, r.wire+int64(len(raw))
		}
		if err := conn.Send(b.t.Context(), request); err != nil {
			b.t.Fatal(err)
		}
		drain(4)
	}
	drain(0)
	r.batch = fmt.Sprintf("%.1f kB", float64(r.wire)/float64(at)/1000)
	return r
}
