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
	putStamp(raw, s)
	correct(raw, before, len(raw)-HeaderSize)
}

// Restamp overwrites the stamp of a batch and corrects its checksum as [Patch] does, and leaves all else. It needs only the header, of
// a batch that is as long as its header says: the records may still be on their way. A header that [ParseHeader] refuses must not be given.
func Restamp(header []byte, s Stamp) {
	_ = header[HeaderSize-1]
	before := crc32.Update(0, castagnoli, header[crcFrom:HeaderSize])
	putStamp(header, s)
	correct(header, before, int(int32(binary.BigEndian.Uint32(header[atLength:])))-minLength)
}

func putStamp(header []byte, s Stamp) {
	binary.BigEndian.PutUint64(header[atProducerID:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(header[atProducerEpoch:], uint16(s.Epoch))
	binary.BigEndian.PutUint32(header[atBaseSequence:], uint32(s.Sequence))
}

// correct makes the checksum right again: before is that of the header's covered part before it was changed, payload is how many bytes are
// behind the header.
func correct(header []byte, before uint32, payload int) {
	after := crc32.Update(0, castagnoli, header[crcFrom:HeaderSize])
	crc := binary.BigEndian.Uint32(header[atCRC:]) ^ shift(before^after, payload)
	binary.BigEndian.PutUint32(header[atCRC:], crc)
}

// VerifyCRC reports whether the checksum of raw, one whole batch, is right. It reads all
// of it.
func VerifyCRC(raw []byte) bool {
	if len(raw) < HeaderSize {
		return false
	}
	return binary.BigEndian.Uint32(raw[atCRC:]) == crc32.Checksum(raw[crcFrom:], castagnoli)
}

// SetPlace overwrites what a log says of where a batch lies in it, at the start of its header: the base offset and the leader epoch, -1 for
// none. The checksum does not cover either.
func SetPlace(header []byte, baseOffset int64, leaderEpoch int32) {
	_ = header[HeaderSize-1]
	binary.BigEndian.PutUint64(header[atBaseOffset:], uint64(baseOffset))
	binary.BigEndian.PutUint32(header[atLeaderEpoch:], uint32(leaderEpoch))
}

// CutShort makes a batch at whose header left bytes begin look longer than that, as the last one of an answer may be, so that readers stop before it.
func CutShort(header []byte, left int) {
	_ = header[HeaderSize-1]
	binary.BigEndian.PutUint32(header[atLength:], uint32(left))
}

// OldSize is the size in bytes of the message of format v0 or v1 at the start of b, of which [ParseHeader] said ErrMagic. It is not
// checked against anything, and may be negative.
func OldSize(b []byte) int {
	return lengthFrom + int(int32(binary.BigEndian.Uint32(b[atLength:])))
}
