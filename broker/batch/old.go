package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Where the fields of a message of the old formats are. v1 has a time before the key, v0 has none.
const (
	atOldAttributes = 17
	atOldTime       = 18
	oldKeyV0        = 18
	oldKeyV1        = 26
	// oldCRCFrom is where the bytes begin that the checksum of an old message covers: CRC-32, not CRC-32C.
	oldCRCFrom = 16
	// oldLeast is the size field of a message without key and value.
	oldLeast = 14
	// oldLogAppendTime is the attribute of v1 that says that the time is the broker's.
	oldLogAppendTime = 1 << 3
)

// NextOld takes one message of the formats v0 and v1 off b, where [Next] says ErrMagic: brokers keep what was written before
// Kafka 0.11 as it was. A compressed message holds others and is taken with all of them. The header is what a v2 batch of the
// same records would have; records that v0 wrote have the time -1. Like [Decode] it verifies the checksum, takes a small multiple of
// maxBytes of memory at most, and its records never alias b.
//
// Errors are those of Next and Decode. lz4 within v0 is ErrCorrupt: its frames have a wrong checksum (KAFKA-3160).
func NextOld(b []byte, maxBytes int) (h Header, recs []Record, raw, rest []byte, err error) {
	m, raw, rest, err := nextMessage(b)
	if err != nil {
		return Header{}, nil, nil, b, err
	}
	recs = []Record{m.record()}
	if m.codec != None {
		if recs, err = m.unpack(maxBytes); err != nil {
			return Header{}, nil, nil, b, err
		}
	}
	first, last := recs[0], recs[len(recs)-1]
	if last.Offset-first.Offset > 1<<31-2 || first.Offset < 0 {
		return Header{}, nil, nil, b, failure(raw, ErrCorrupt, fmt.Sprintf("offsets %d to %d in one message", first.Offset, last.Offset))
	}
	h = Header{BaseOffset: first.Offset, Length: int32(len(raw) - lengthFrom), LeaderEpoch: -1, Magic: m.magic, CRC: m.crc,
		Attributes: uint16(m.codec), LastOffsetDelta: int32(last.Offset - first.Offset), BaseTimestamp: first.Timestamp, MaxTimestamp: first.Timestamp,
		ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, Records: int32(len(recs))}
	for _, r := range recs {
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
	}
	return h, recs, raw, rest, nil
}

// message is one message of an old format.
type message struct {
	offset     int64
	crc        uint32
	magic      int8
	codec      Codec
	appended   bool // the time is the broker's, and that of all messages within
	time       int64
	key, value []byte // parts of the input
}

func (m *message) record() Record {
	return Record{Offset: m.offset, Timestamp: m.time, Key: copyOf(m.key), Value: copyOf(m.value)}
}

// copyOf keeps null null.
func copyOf(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// nextMessage takes one message off b without a look into its value.
func nextMessage(b []byte) (m message, raw, rest []byte, err error) {
	if len(b) <= atMagic {
		return m, nil, b, failure(b, ErrShort, "")
	}
	size, magic := int32(binary.BigEndian.Uint32(b[atLength:])), int8(b[atMagic])
	least := int32(oldLeast)
	switch magic {
	case 0:
	case 1:
		least += 8
	default:
		return m, nil, b, failure(b, ErrCorrupt, fmt.Sprintf("magic %d among old messages", magic))
	}
	switch {
	case size < least:
		return m, nil, b, failure(b, ErrCorrupt, fmt.Sprintf("message of %d bytes", size))
	case int64(len(b)) < lengthFrom+int64(size):
		return m, nil, b, failure(b, ErrShort, "")
	}
	raw, rest = b[:lengthFrom+int(size)], b[lengthFrom+int(size):]
	m = message{offset: int64(binary.BigEndian.Uint64(raw)), crc: binary.BigEndian.Uint32(raw[lengthFrom:]), magic: magic, time: -1}
	if m.crc != crc32.ChecksumIEEE(raw[oldCRCFrom:]) {
		return m, nil, b, failure(raw, ErrCorrupt, "checksum does not match")
	}
	m.codec = Codec(raw[atOldAttributes] & attrCodec)
	fields := raw[oldKeyV0:]
	if magic == 1 {
		m.time, m.appended = int64(binary.BigEndian.Uint64(raw[atOldTime:])), raw[atOldAttributes]&oldLogAppendTime != 0
		fields = raw[oldKeyV1:]
	}
	var ok, okValue bool
	m.key, fields, ok = oldBytes(fields)
	m.value, fields, okValue = oldBytes(fields)
	if !ok || !okValue || len(fields) != 0 || m.offset < 0 {
		return m, nil, b, failure(raw, ErrCorrupt, "lengths within an old message")
	}
	return m, raw, rest, nil
}

// oldBytes takes a length and so many bytes, -1 for null.
func oldBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case n == -1:
		return nil, b, true
	case n < 0 || int64(n) > int64(len(b)):
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// unpack returns the messages within a compressed one.
func (m *message) unpack(maxBytes int) (recs []Record, err error) {
	corrupt := func(format string, args ...any) error {
		return &Error{Kind: ErrCorrupt, Offset: m.offset, Detail: fmt.Sprintf(format, args...)}
	}
	body, err := decompress(m.value, m.codec, maxBytes)
	switch {
	case errors.Is(err, errOverLimit):
		return nil, &Error{Kind: ErrTooLarge, Offset: m.offset, Detail: fmt.Sprintf("more than %d bytes of messages", maxBytes)}
	case err != nil:
		return nil, corrupt("decompress %v: %v", m.codec, err)
	}
	for len(body) > 0 {
		in, _, rest, err := nextMessage(body)
		if err != nil {
			return nil, corrupt("message %d within: %v", len(recs), err)
		}
		if in.codec != None || in.magic != m.magic {
			return nil, corrupt("message %d within is of format %d, %v", len(recs), in.magic, in.codec)
		}
		if m.appended {
			in.time = m.time
		}
		if n := len(recs); n > 0 && in.offset <= recs[n-1].Offset {
			return nil, corrupt("offset %d within after %d", in.offset, recs[n-1].Offset)
		}
		recs = append(recs, in.record())
		body = rest
	}
	if len(recs) == 0 {
		return nil, corrupt("nothing within")
	}
	if m.magic == 1 { // offsets within are relative, and the outer one is that of the last
		base := m.offset - recs[len(recs)-1].Offset
		for i := range recs {
			recs[i].Offset += base
		}
	}
	return recs, nil
}
