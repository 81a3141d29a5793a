package batch

import (
	"encoding/binary"
	"hash/crc32"
)

// Stamp is what a producer writes into the header of a batch: who, and the how manieth.
type Stamp struct {
	// ProducerID is the idempotent producer's id.
	ProducerID int64
	// Epoch is the producer's epoch; a higher one fences the lower.
	Epoch int16
	// Sequence is the sequence number of the first record; it wraps from 2^31-1 to 0.
	Sequence int32
}

// cleared are the attributes that a forwarded batch must not have.
const cleared = attrLogAppendTime | attrTransactional | attrDeleteHorizon

// Patch makes raw, one whole batch as [Next] gave it, ready to be produced under stamp s.
// In place: base offset 0, leader epoch -1, no transactional, delete-horizon or
// LogAppendTime bit, and the stamp. Records keep the times they store, so a LogAppendTime
// batch, whose visible time is in its header, must be decoded and encoded instead.
//
// The checksum is corrected for the changed bytes only. The records are not read, which
// makes the cost independent of their size, and keeps an error that was in raw visible to
// the broker which gets it.
func Patch(raw []byte, s Stamp) {
	_ = raw[HeaderSize-1]
	before := crc32.Update(0, castagnoli, raw[crcFrom:HeaderSize])

	binary.BigEndian.PutUint64(raw[atBaseOffset:], 0)
	binary.BigEndian.PutUint32(raw[atLeaderEpoch:], 1<<32-1)
	attr := binary.BigEndian.Uint16(raw[atAttributes:])
	binary.BigEndian.PutUint16(raw[atAttributes:], attr&^cleared)
	binary.BigEndian.PutUint64(raw[atProducerID:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(raw[atProducerEpoch:], uint16(s.Epoch))
	binary.BigEndian.PutUint32(raw[atBaseSequence:], uint32(s.Sequence))

	after := crc32.Update(0, castagnoli, raw[crcFrom:HeaderSize])
	crc := binary.BigEndian.Uint32(raw[atCRC:])
	crc ^= shift(before^after, len(raw)-HeaderSize)
	binary.BigEndian.PutUint32(raw[atCRC:], crc)
}

// VerifyCRC reports whether the checksum of raw, one whole batch, is right. It reads all
// of it.
func VerifyCRC(raw []byte) bool {
	if len(raw) < HeaderSize {
		return false
	}
	return binary.BigEndian.Uint32(raw[atCRC:]) == crc32.Checksum(raw[crcFrom:], castagnoli)
}
