package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Record is one record of a batch.
type Record struct {
	// Offset is the record's offset in its log.
	Offset int64
	// Timestamp is in milliseconds since 1970; -1 is none.
	Timestamp int64
	// Key and Value may be null (nil) or empty (not nil), which are not the same.
	Key, Value []byte
	// Headers are in the order of the wire; keys may repeat.
	Headers []RecordHeader
}

// RecordHeader is one header of a record; its value may be null (nil).
type RecordHeader struct {
	Key   string
	Value []byte
}

// Decode returns the records of raw, one whole batch. The checksum is verified first. It
// takes a small multiple of maxBytes of memory at most: a records section that unpacks to
// more is ErrTooLarge. Everything else that is wrong is ErrCorrupt, of type [*Error].
//
// Records of a LogAppendTime batch get the time of its header. Records share one fresh
// buffer and never alias raw. A batch that compaction left empty gives no records and no
// error; control batches are decoded like others, see [Control].
func Decode(raw []byte, maxBytes int) ([]Record, error) {
	h, raw, _, err := Next(raw)
	if err != nil {
		return nil, err
	}
	if !VerifyCRC(raw) {
		return nil, failure(raw, ErrCorrupt, "checksum does not match")
	}
	section := raw[HeaderSize:]
	if h.Records == 0 && len(section) == 0 {
		return nil, nil
	}
	body, err := decompress(section, h.Codec(), maxBytes)
	switch {
	case errors.Is(err, errOverLimit):
		return nil, failure(raw, ErrTooLarge, fmt.Sprintf("more than %d bytes of records", maxBytes))
	case err != nil:
		return nil, failure(raw, ErrCorrupt, fmt.Sprintf("decompress %v: %v", h.Codec(), err))
	case int64(h.Records)*minRecord > int64(len(body)):
		return nil, failure(raw, ErrCorrupt, fmt.Sprintf("%d records in %d bytes", h.Records, len(body)))
	}
	recs := make([]Record, h.Records)
	rest, last := body, int64(-1)
	for i := range recs {
		delta, r, after, ok := decodeRecord(rest, h)
		if !ok || delta <= last || delta > int64(h.LastOffsetDelta) {
			return nil, failure(raw, ErrCorrupt, fmt.Sprintf("record %d of %d", i, h.Records))
		}
		recs[i], rest, last = r, after, delta
	}
	if len(rest) != 0 {
		return nil, failure(raw, ErrCorrupt, fmt.Sprintf("%d bytes after the last record", len(rest)))
	}
	return recs, nil
}

// decodeRecord decodes the record at the start of b.
func decodeRecord(b []byte, h Header) (delta int64, r Record, rest []byte, ok bool) {
	d := decoder{b: b}
	n := d.length()
	if d.bad || n < 0 {
		return 0, Record{}, nil, false
	}
	rest = d.b[n:]
	d.b = d.b[:n]
	d.take(1) // attributes of the record: unused in v2
	r.Timestamp = h.BaseTimestamp + d.varint()
	if h.LogAppendTime() {
		r.Timestamp = h.MaxTimestamp
	}
	delta = d.varint()
	r.Offset = h.BaseOffset + delta
	r.Key = d.bytes()
	r.Value = d.bytes()
	r.Headers = d.headers()
	return delta, r, rest, !d.bad && len(d.b) == 0
}

// decoder reads the fields of a record; after the first that is not there it is bad and
// gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// length reads a length, -1 for null, that the bytes left can hold.
func (d *decoder) length() int {
	v := d.varint()
	if v < -1 || v > math.MaxInt32 || v > int64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.length()
	if n < 0 || d.bad {
		return nil
	}
	return d.take(n)
}

func (d *decoder) headers() []RecordHeader {
	n := d.varint()
	// A header is at least two lengths of a byte each.
	if n < 0 || n > int64(len(d.b))/2 {
		d.fail()
	}
	if d.bad || n == 0 {
		return nil
	}
	hs := make([]RecordHeader, n)
	for i := range hs {
		k := d.length()
		if k < 0 { // a header's key cannot be null
			d.fail()
		}
		if d.bad {
			return nil
		}
		hs[i] = RecordHeader{Key: string(d.take(k)), Value: d.bytes()}
	}
	return hs
}

func (d *decoder) fail() {
	d.bad, d.b = true, nil
}

// Control says what raw, one whole batch, is the marker of: a commit or an abort. ok is
// false for everything else, also for control batches of other kinds and damaged ones.
func Control(raw []byte) (commit, ok bool) {
	h, raw, _, err := Next(raw)
	if err != nil || !h.Control() {
		return false, false
	}
	if h.Records != 1 || h.Codec() != None {
		return false, false
	}
	_, r, _, ok := decodeRecord(raw[HeaderSize:], h)
	// Key: version int16, type int16.
	if !ok || len(r.Key) < 4 {
		return false, false
	}
	switch binary.BigEndian.Uint16(r.Key[2:]) {
	case 0:
		return false, true
	case 1:
		return true, true
	}
	return false, false
}
