package mirror

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// held is a fetched frame whose bytes batches still point into. The frame and
// its share of the budget go back when the last of them lets go.
type held struct {
	frame  *broker.Frame
	budget *budget
	size   int64
	refs   atomic.Int32
}

func holdFrame(f *broker.Frame, b *budget) *held {
	h := &held{frame: f, budget: b, size: f.Size()}
	h.refs.Store(1)
	return h
}

func (h *held) retain() {
	if h != nil {
		h.refs.Add(1)
	}
}

func (h *held) release() {
	if h != nil && h.refs.Add(-1) == 0 {
		h.frame.Release()
		h.budget.put(h.size)
	}
}

// span is a stretch of source offsets whose records lie side by side in an
// outBatch.
type span struct{ first, records int64 }

// outBatch is one batch on its way to the target.
type outBatch struct {
	pump    *pump
	hold    *held  // the frame that bytes points into or was made from: it keeps its place in the budget; nil = none
	bytes   []byte // one v2 batch; patched when it is sent
	origin  string
	records int32
	spans   []span
	next    int64 // source offset after its last record (after its source batch, if end)
	end     bool  // it holds the last record of its source batch: a checkpoint may be here
	maxTime int64 // largest record timestamp, ms; -1 none
	leader  int32 // leader epoch of the source batch, for the checkpoint
	seen    time.Time

	// set when it is sent
	generation uint64
	epoch      int16
	count      int64 // records of its origin copied before it
}

func (b *outBatch) release() {
	b.hold.release()
	b.hold, b.bytes = nil, nil
}

// errTooLarge: a single record does not fit the target's max.message.bytes.
type errTooLarge struct {
	offset      int64
	bytes, most int
}

func (e *errTooLarge) Error() string {
	return fmt.Sprintf("record at source offset %d needs a batch of %d bytes, the target topic takes %d: raise max.message.bytes there", e.offset, e.bytes, e.most)
}

// prepare turns one source batch into what goes to the target: itself, or its
// records in new batches. It does not stamp them.
func prepare(s *sourceBatch, h *held, maxBytes, decodeCap int, seen time.Time) ([]*outBatch, error) {
	if s.act == actCopy {
		h.retain()
		return []*outBatch{{
			hold: h, bytes: s.raw, origin: s.origin, records: s.header.Records,
			spans: []span{{s.header.BaseOffset, int64(s.header.Records)}},
			next:  s.header.NextOffset(), end: true, maxTime: s.header.MaxTimestamp, seen: seen, leader: s.header.LeaderEpoch,
		}}, nil
	}
	records, err := batch.Decode(s.raw, decodeCap)
	if err != nil {
		return nil, fmt.Errorf("decode source batch at offset %d: %w", s.header.BaseOffset, err)
	}
	for len(records) > 0 && records[0].Offset < s.from {
		records = records[1:]
	}
	if len(records) == 0 {
		return nil, nil
	}
	out, err := encodeWithin(records, s.header.Codec(), maxBytes)
	if err != nil {
		return nil, err
	}
	for _, b := range out {
		b.origin, b.seen, b.leader = s.origin, seen, s.header.LeaderEpoch
		h.retain()
		b.hold = h
	}
	last := out[len(out)-1]
	last.next, last.end = s.header.NextOffset(), true
	return out, nil
}

// encodeWithin encodes the records as one batch, or halves them until each part
// fits maxBytes.
func encodeWithin(records []batch.Record, codec batch.Codec, maxBytes int) ([]*outBatch, error) {
	raw, err := batch.Encode(nil, records, codec, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		return nil, fmt.Errorf("encode records from source offset %d: %w", records[0].Offset, err)
	}
	if maxBytes > 0 && len(raw) > maxBytes {
		if len(records) == 1 {
			return nil, &errTooLarge{offset: records[0].Offset, bytes: len(raw), most: maxBytes}
		}
		half := len(records) / 2
		front, err := encodeWithin(records[:half], codec, maxBytes)
		if err != nil {
			return nil, err
		}
		back, err := encodeWithin(records[half:], codec, maxBytes)
		return append(front, back...), err
	}
	b := &outBatch{bytes: raw, records: int32(len(records)), next: records[len(records)-1].Offset + 1, maxTime: -1}
	for _, r := range records {
		b.maxTime = max(b.maxTime, r.Timestamp)
		if n := len(b.spans); n > 0 && b.spans[n-1].first+b.spans[n-1].records == r.Offset {
			b.spans[n-1].records++
			continue
		}
		b.spans = append(b.spans, span{r.Offset, 1})
	}
	return []*outBatch{b}, nil
}

// mergeGroup makes one batch of neighbours that decide to join. The parts are
// still unpatched.
func mergeGroup(parts []*outBatch, decodeCap int) (*outBatch, error) {
	var records []batch.Record
	var codec batch.Codec
	m := &outBatch{pump: parts[0].pump, origin: parts[0].origin, seen: parts[0].seen, maxTime: -1}
	for _, p := range parts {
		h, err := batch.ParseHeader(p.bytes)
		if err != nil {
			return nil, fmt.Errorf("merge batches: %w", err)
		}
		if c := h.Codec(); c != 0 {
			codec = c
		}
		rs, err := batch.Decode(p.bytes, decodeCap)
		if err != nil {
			return nil, fmt.Errorf("merge batch at source offset %d: %w", p.spans[0].first, err)
		}
		records = append(records, rs...)
		for _, s := range p.spans {
			if n := len(m.spans); n > 0 && m.spans[n-1].first+m.spans[n-1].records == s.first {
				m.spans[n-1].records += s.records
				continue
			}
			m.spans = append(m.spans, s)
		}
		m.records += p.records
		m.next, m.end, m.leader, m.maxTime = p.next, p.end, p.leader, max(m.maxTime, p.maxTime)
	}
	raw, err := batch.Encode(nil, records, codec, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		return nil, fmt.Errorf("merge batches from source offset %d: %w", parts[0].spans[0].first, err)
	}
	m.bytes = raw
	return m, nil
}
