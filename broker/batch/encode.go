package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"
)

// maxSize is the largest batch whose length field does not overflow.
const maxSize = math.MaxInt32 - lengthFrom

// sections holds buffers for records sections before they are compressed.
var sections = sync.Pool{New: func() any { return new([]byte) }}

// Encode appends to dst one batch with recs, as [Patch] would leave it: base offset 0,
// CreateTime, dense offset deltas from 0 whatever the offsets of the records are, and
// stamp s. Timestamps are stored relative to that of the first record. There must be at
// least one record; more than fits in one batch is ErrTooLarge. On an error dst is
// returned as it was.
func Encode(dst []byte, recs []Record, c Codec, s Stamp) ([]byte, error) {
	if len(recs) == 0 {
		return dst, errors.New("encode batch: no records")
	}
	size, newest := 0, recs[0].Timestamp
	for i := range recs {
		n := recordSize(&recs[i], int64(i), recs[0].Timestamp)
		size += varintSize(int64(n)) + n
		newest = max(newest, recs[i].Timestamp)
		if n > maxSize || size > maxSize-HeaderSize {
			return dst, fmt.Errorf("encode batch: %w", ErrTooLarge)
		}
	}
	start := len(dst)
	out, err := appendSection(appendHeader(dst, recs, newest, c, s), recs, size, c)
	if err != nil {
		return dst[:start], fmt.Errorf("encode batch: %w", err)
	}
	raw := out[start:]
	if len(raw) > maxSize {
		return dst[:start], fmt.Errorf("encode batch: %w", ErrTooLarge)
	}
	binary.BigEndian.PutUint32(raw[atLength:], uint32(len(raw)-lengthFrom))
	binary.BigEndian.PutUint32(raw[atCRC:], crc32.Checksum(raw[crcFrom:], castagnoli))
	return out, nil
}

// appendHeader appends the header; length and checksum are filled in by Encode.
func appendHeader(dst []byte, recs []Record, newest int64, c Codec, s Stamp) []byte {
	var h [HeaderSize]byte
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], 1<<32-1)
	h[atMagic] = 2
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(c))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(len(recs)-1))
	binary.BigEndian.PutUint64(h[atBaseTimestamp:], uint64(recs[0].Timestamp))
	binary.BigEndian.PutUint64(h[atMaxTimestamp:], uint64(newest))
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], uint16(s.Epoch))
	binary.BigEndian.PutUint32(h[atBaseSequence:], uint32(s.Sequence))
	binary.BigEndian.PutUint32(h[atRecords:], uint32(len(recs)))
	return append(dst, h[:]...)
}

// appendSection appends the records, size bytes before compression.
func appendSection(dst []byte, recs []Record, size int, c Codec) ([]byte, error) {
	if c == None {
		return appendRecords(dst, recs), nil
	}
	buf := sections.Get().(*[]byte)
	defer sections.Put(buf)
	if cap(*buf) < size {
		*buf = make([]byte, 0, size)
	}
	*buf = appendRecords((*buf)[:0], recs)
	return compress(dst, *buf, c)
}

func appendRecords(dst []byte, recs []Record) []byte {
	base := recs[0].Timestamp
	for i := range recs {
		r := &recs[i]
		dst = binary.AppendVarint(dst, int64(recordSize(r, int64(i), base)))
		dst = append(dst, 0)
		dst = binary.AppendVarint(dst, r.Timestamp-base)
		dst = binary.AppendVarint(dst, int64(i))
		dst = appendBytes(dst, r.Key)
		dst = appendBytes(dst, r.Value)
		dst = binary.AppendVarint(dst, int64(len(r.Headers)))
		for _, h := range r.Headers {
			dst = binary.AppendVarint(dst, int64(len(h.Key)))
			dst = append(dst, h.Key...)
			dst = appendBytes(dst, h.Value)
		}
	}
	return dst
}

// appendBytes appends a length and the bytes, or -1 for null.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// recordSize is the size of a record on the wire without the length before it.
func recordSize(r *Record, delta, base int64) int {
	n := 1 + varintSize(r.Timestamp-base) + varintSize(delta) + bytesSize(r.Key) + bytesSize(r.Value)
	n += varintSize(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	return n
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

// varintSize is the size of v as a zigzag varint.
func varintSize(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
