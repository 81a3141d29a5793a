package mirror

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// held is a fetched frame whose bytes batches still point into. The frame and
// its share of the budget go back when the last of them lets go.
type held struct {
	frame  *broker.Frame
	budget *budget
	size   int64
	track  track // whose part of the budget it is of
	refs   atomic.Int32
	of     *share // a copy for a slow broker counts there; nil = a frame
}

func holdFrame(f *broker.Frame, b *budget, t track) *held {
	h := &held{frame: f, budget: b, size: f.Size(), track: t}
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
		if h.of != nil {
			h.of.own.Add(-h.size)
		} else {
			h.frame.Release()
		}
		h.budget.put(h.track, h.size)
	}
}

// span is a stretch of source offsets whose records lie side by side in an
// outBatch.
type span struct{ first, records int64 }

// outBatch is one batch on its way to the target.
type outBatch struct {
	pump    *pump
	hold    *held  // the frame that bytes points into or was made from: it keeps its place in the budget; nil = none
	bytes   []byte // one v2 batch; patched when it is sent, and afterwards a length only
	origin  string
	records int32
	spans   []span
	next    int64 // source offset after its last record (after its source batch, if end)
	alone   bool  // the target refused what was in it before: it is packed anew, and not with others
	end     bool  // it holds the last record of its source batch: a checkpoint may be here
	maxTime int64 // largest record timestamp, ms; -1 none
	leader  int32 // leader epoch of the source batch, for the checkpoint
	seen    time.Time
	clients []clientCopy // the batches of routers' clients that end in it

	dispatch
}

// dispatch is what a batch gets when it is sent.
type dispatch struct {
	via        *window
	generation uint64
	epoch      int16
	count      int64 // records of its origin copied before it
	sent       time.Time
	crc        uint32 // as it was sent: the bytes may be gone when it is acknowledged
}

// unhold gives the frame back when the batch is on the wire; its bytes must not be read any more.
func (b *outBatch) unhold() {
	b.hold.release()
	b.hold = nil
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

// errTooLate: a record is dated later than the target's
// message.timestamp.after.max.ms allows.
type errTooLate struct {
	offset, next int64 // it is in [offset, next)
	time, most   int64 // ms
}

func (e *errTooLate) Error() string {
	return fmt.Sprintf("a record at source offset %d to %d has the time %d ms, the target topic takes none after %d: raise message.timestamp.after.max.ms there",
		e.offset, e.next-1, e.time, e.most)
}

// remedy says what to do about a refusal that only somebody can cure.
func remedy(err error) string {
	if errors.Is(err, kerr.UnsupportedCompressionType) {
		return ": the target does not take the source's codec: set compression.type of its topic to one that it takes"
	}
	if errors.Is(err, kerr.InvalidTimestamp) {
		return ": raise message.timestamp.before.max.ms (or after.max.ms) of the target topic to the source's"
	}
	return ""
}

// prepare turns one source batch into what goes to the target: itself, or its
// records in new batches. It does not stamp them.
func prepare(s *sourceBatch, h *held, maxBytes, decodeCap int, seen time.Time) ([]*outBatch, error) {
	if err := unknownCodec(s.header); err != nil {
		return nil, err
	}
	if s.act == actCopy && s.suspect == nil {
		h.retain()
		return []*outBatch{{
			hold: h, bytes: s.raw, origin: s.origin, records: s.header.Records,
			spans: []span{{s.header.BaseOffset, int64(s.header.Records)}},
			next:  s.header.NextOffset(), end: true, maxTime: s.header.MaxTimestamp, seen: seen, leader: s.header.LeaderEpoch,
			clients: s.clientCopies(0),
		}}, nil
	}
	records, err := s.decode(decodeCap)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	var out []*outBatch
	codec := s.of(s.header)
	if s.suspect != nil && s.suspect.plain {
		codec = batch.None
	}
	for _, part := range s.suspect.parts(records) {
		packed, err := encodeWithin(part, codec, maxBytes)
		if err != nil {
			return nil, err
		}
		for _, b := range packed {
			b.alone = s.suspect != nil
		}
		out = append(out, packed...)
	}
	for _, b := range out {
		b.origin, b.seen, b.leader = s.origin, seen, s.header.LeaderEpoch
		h.retain()
		b.hold = h
	}
	last := out[len(out)-1]
	last.next, last.end, last.clients = s.header.NextOffset(), true, s.clientCopies(-1)
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
		for _, c := range p.clients {
			if c.at >= 0 {
				c.at += m.records
			}
			m.clients = append(m.clients, c)
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
