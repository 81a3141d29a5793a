package mirror

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// logModel is a partition as its clients see it: who wrote what, and how each transaction ended.
type logModel struct {
	batches []modelBatch
	open    map[int64]int64 // producer → first offset of its open transaction
	end     int64
	aborted []modelAbort // what a broker keeps: the index of aborted transactions
}

type modelBatch struct {
	base, last int64
	id         int64
	raw        []byte
	txn        bool
	control    bool
	aborted    bool // known once its transaction has ended
}

type modelAbort struct{ id, first, last int64 }

// data appends a batch of a producer.
func (m *logModel) data(id, n int64, txn bool) {
	attributes := int16(0)
	if txn {
		attributes = 1 << 4
		if _, ok := m.open[id]; !ok {
			m.open[id] = m.end
		}
	}
	m.batches = append(m.batches, modelBatch{base: m.end, last: m.end + n - 1, id: id, txn: txn,
		raw: rawBatch(batchSpec{base: m.end, id: id, attributes: attributes, records: records(m.end, n)})})
	m.end += n
}

// marker ends a transaction.
func (m *logModel) marker(id int64, commit bool) {
	first, open := m.open[id]
	m.batches = append(m.batches, modelBatch{base: m.end, last: m.end, id: id, control: true, raw: abortMarker(m.end, id, commit)})
	if open && !commit {
		m.aborted = append(m.aborted, modelAbort{id, first, m.end})
		for i := range m.batches {
			if b := &m.batches[i]; b.txn && b.id == id && b.base >= first {
				b.aborted = true
			}
		}
	}
	delete(m.open, id)
	m.end++
}

// stable is the last stable offset.
func (m *logModel) stable() int64 {
	lso := m.end
	for _, first := range m.open {
		lso = min(lso, first)
	}
	return lso
}

// fetch answers a read_committed fetch as a broker does: whole batches from the one that holds the offset on, up to the last
// stable offset, and the aborted transactions that reach into what is returned.
func (m *logModel) fetch(from int64) (got broker.Fetched, seen []modelBatch) {
	lso := m.stable()
	upTo := from
	for _, b := range m.batches {
		if b.last < from || b.base >= lso {
			continue
		}
		got.Batches = append(got.Batches, b.raw...)
		seen = append(seen, b)
		upTo = b.last + 1
	}
	for _, a := range m.aborted {
		if a.last >= from && a.first < upTo {
			got.Aborted = append(got.Aborted, broker.Aborted{ProducerID: a.id, FirstOffset: a.first})
		}
	}
	slices.Reverse(got.Aborted) // brokers do not promise an order
	return got, seen
}

// FuzzWalk: whatever producers do at once in transactions and outside of them, and from wherever a fetch begins, exactly the
// records of committed transactions and of none go on, each once, in order.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{0x14, 0x25, 0x18, 0x29, 0x10, 0x2c, 0x14, 0x1c}, byte(0))
	f.Add([]byte{0x14, 0x1c, 0x14, 0x18, 0x14, 0x1c, 0x10}, byte(3))
	f.Add([]byte{0x14, 0x1c, 0x14, 0x18, 0x10}, byte(0)) // an aborted transaction, then a committed one of the same producer
	f.Add([]byte{0x1c, 0x1c, 0x28, 0x14, 0x24, 0x34, 0x2c, 0x18, 0x3c}, byte(1))
	link := linkOf(f, fabricOf(f, "eu>us"), "eu>us", Config{}, time.Now)
	f.Fuzz(func(t *testing.T, script []byte, at byte) {
		if len(script) > 60 {
			return
		}
		m := logModel{open: make(map[int64]int64)}
		for _, op := range script { // producer, what it does, how many records
			id, n := int64(op>>4&3)+1, int64(op&3)+1
			switch op >> 2 & 3 {
			case 0:
				m.data(id, n, false)
			case 1:
				m.data(id, n, true)
			case 2:
				m.marker(id, true)
			case 3:
				m.marker(id, false)
			}
		}
		from := int64(at) % (m.end + 1)
		got, seen := m.fetch(from)
		var want []int64
		for _, b := range seen {
			for o := max(b.base, from); o <= b.last && !b.control && !b.aborted; o++ {
				want = append(want, o)
			}
		}
		var copied []int64
		err := newFlow(link, "orders").walk(&got, from, func(s *sourceBatch) error {
			if s.act == actSkip {
				return nil
			}
			out, err := prepare(s, nil, 0, 1<<20, time.Time{})
			for _, b := range out {
				for _, r := range b.spans {
					for i := range r.records {
						copied = append(copied, r.first+i)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(copied, want) {
			t.Fatalf("from %d: copied %v, want %v, aborted %v of %+v", from, copied, want, got.Aborted, seen)
		}
	})
}
