package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// HeaderSize is the size in bytes of a v2 batch header, everything before the records.
const HeaderSize = 61

// Where the fields of a header are; the picture is in doc.go.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atRecords         = 57
)

const (
	// lengthFrom is where the bytes begin that the length field counts.
	lengthFrom = 12
	// crcFrom is where the bytes begin that the checksum covers.
	crcFrom = atAttributes
	// minLength is the length field of a batch without records.
	minLength = HeaderSize - lengthFrom
	// minRecord is the smallest record on the wire: length, attributes, two
	// deltas, two null lengths and a header count of a byte each.
	minRecord = 7
)

// The bits of the attributes.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 1 << 3
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
	attrDeleteHorizon = 1 << 6
)

// What can be wrong with a batch. The functions of this package return them wrapped
// in an [Error]; test with errors.Is.
var (
	// ErrShort says that the bytes end before the batch does. At the end of a
	// Fetch answer this is normal: a broker cuts at its byte limit.
	ErrShort = errors.New("batch is cut short")
	// ErrMagic says that the batch has the old message format v0 or v1, which
	// this package does not read.
	ErrMagic = errors.New("message format is older than v2")
	// ErrCorrupt says that the bytes cannot be a batch: impossible lengths or
	// counts, a wrong checksum, or records that do not decode.
	ErrCorrupt = errors.New("batch is corrupt")
	// ErrTooLarge says that the records section, decompressed, is over the limit
	// that was given to [Decode], or that records do not fit in one batch.
	ErrTooLarge = errors.New("batch is too large")
)

// Error is what is wrong with one batch, and with which.
type Error struct {
	// Kind is ErrShort, ErrMagic, ErrCorrupt or ErrTooLarge.
	Kind error
	// Offset is the base offset in the header of the batch, -1 where the bytes
	// end before it.
	Offset int64
	// Detail says what was found, in the words of the wire format; may be empty.
	Detail string
}

// Error says what, at which offset and why.
func (e *Error) Error() string {
	s := fmt.Sprintf("read batch at offset %d: %v", e.Offset, e.Kind)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

// Header is the decoded header of a batch. Timestamps are in milliseconds since 1970;
// names are those of the Kafka protocol.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after the length field
	LeaderEpoch     int32 // -1 unknown
	Magic           int8
	CRC             uint32
	Attributes      uint16
	LastOffsetDelta int32
	BaseTimestamp   int64
	MaxTimestamp    int64
	ProducerID      int64 // -1 none
	ProducerEpoch   int16 // -1 none
	BaseSequence    int32 // -1 none
	Records         int32 // less than LastOffsetDelta+1 after compaction, also 0
}

// Size is the size in bytes of the whole batch, with its header.
func (h Header) Size() int { return lengthFrom + int(h.Length) }

// LastOffset is the offset of the last record that the batch had when it was written.
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is the offset after the batch.
func (h Header) NextOffset() int64 { return h.LastOffset() + 1 }

// Dense reports whether every offset of the batch still has its record. Brokers accept
// only dense batches.
func (h Header) Dense() bool { return int64(h.LastOffsetDelta)+1 == int64(h.Records) }

// Codec is the compression of the records section.
func (h Header) Codec() Codec { return Codec(h.Attributes & attrCodec) }

// Transactional reports whether the batch belongs to a transaction.
func (h Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// Control reports whether the batch is a control batch (a transaction marker) and has
// no records for consumers.
func (h Header) Control() bool { return h.Attributes&attrControl != 0 }

// LogAppendTime reports whether the time of every record is MaxTimestamp, given by the
// broker, and not what the records say.
func (h Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// DeleteHorizon reports whether BaseTimestamp is the delete horizon of the log cleaner.
func (h Header) DeleteHorizon() bool { return h.Attributes&attrDeleteHorizon != 0 }

// ParseHeader decodes the header at the start of b and checks that its lengths and counts
// are possible. It needs only the header, not the whole batch, and does not check the
// checksum. Errors are of type [*Error]: ErrShort, ErrMagic or ErrCorrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) > atMagic {
		// Checked before the size: a v0 or v1 message can be shorter than a
		// v2 header, and has its magic at the same place.
		switch m := int8(b[atMagic]); m {
		case 2:
		case 0, 1:
			return Header{}, failure(b, ErrMagic, "")
		default:
			return Header{}, failure(b, ErrCorrupt, fmt.Sprintf("magic %d", m))
		}
	}
	if len(b) < HeaderSize {
		return Header{}, failure(b, ErrShort, "")
	}
	h := readHeader(b)
	if why := impossible(h); why != "" {
		return Header{}, failure(b, ErrCorrupt, why)
	}
	return h, nil
}

// readHeader decodes the first HeaderSize bytes of b without checks.
func readHeader(b []byte) Header {
	_ = b[HeaderSize-1]
	return Header{
		BaseOffset:      int64(binary.BigEndian.Uint64(b[atBaseOffset:])),
		Length:          int32(binary.BigEndian.Uint32(b[atLength:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])),
		Magic:           int8(b[atMagic]),
		CRC:             binary.BigEndian.Uint32(b[atCRC:]),
		Attributes:      binary.BigEndian.Uint16(b[atAttributes:]),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[atProducerID:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[atProducerEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[atBaseSequence:])),
		Records:         int32(binary.BigEndian.Uint32(b[atRecords:])),
	}
}

// impossible names the field of h that no batch can have, or returns "".
func impossible(h Header) string {
	switch {
	case h.BaseOffset < 0:
		return fmt.Sprintf("base offset %d", h.BaseOffset)
	case h.Length < minLength || h.Length > math.MaxInt32-lengthFrom:
		return fmt.Sprintf("length %d", h.Length)
	case h.LastOffsetDelta < 0 || h.BaseOffset > math.MaxInt64-1-int64(h.LastOffsetDelta):
		return fmt.Sprintf("last offset delta %d", h.LastOffsetDelta)
	case h.Records < 0 || int64(h.Records) > int64(h.LastOffsetDelta)+1:
		return fmt.Sprintf("%d records with last offset delta %d", h.Records, h.LastOffsetDelta)
	case h.Codec() == None && int64(h.Records)*minRecord > int64(h.Length)-minLength:
		return fmt.Sprintf("%d records in %d bytes", h.Records, h.Length-minLength)
	}
	return ""
}

// failure builds the error about the batch at the start of b.
func failure(b []byte, kind error, detail string) error {
	e := &Error{Kind: kind, Offset: -1, Detail: detail}
	if len(b) >= 8 {
		e.Offset = int64(binary.BigEndian.Uint64(b))
	}
	return e
}

// Next takes the first batch off b: its header, its bytes and what comes after it. It
// decodes nothing and copies nothing, raw and rest are parts of b. If the batch is not
// whole, the error is ErrShort; on any error raw is nil and rest is b.
func Next(b []byte) (h Header, raw, rest []byte, err error) {
	h, err = ParseHeader(b)
	if err != nil {
		return Header{}, nil, b, err
	}
	n := h.Size()
	if len(b) < n {
		return Header{}, nil, b, failure(b, ErrShort, "")
	}
	return h, b[:n:n], b[n:], nil
}

// CRC is the checksum that the header of raw, one whole batch, has: of what is behind it in the batch, without the base offset
// and the leader epoch. Whether it is right is [VerifyCRC]'s to say.
func CRC(raw []byte) uint32 { return binary.BigEndian.Uint32(raw[atCRC:]) }
