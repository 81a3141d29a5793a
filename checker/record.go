package checker

import (
	"crypto/sha256"
	"encoding/binary"
)

// Record is what a checker needs to know of one record of a log.
type Record struct {
	Topic     string
	Partition int32
	// Offset is the record's offset in the log it was read from.
	Offset int64
	// Timestamp is in milliseconds since 1970, as a consumer sees it.
	Timestamp int64
	// TimestampType is 0 for the producer's time (CreateTime), 1 for the broker's
	// (LogAppendTime).
	TimestampType int8
	// UID is the unique id that the producer put into the record.
	UID string
	// Origin is the cluster where the record was first produced. Empty is the cluster
	// itself in a source log and "find it by the uid" in a target log.
	Origin string
	// Via is the cluster at the other end of the link that wrote this copy, empty for
	// what a client wrote and where it is not known.
	Via string
	// Txn names the transaction that the record was committed with, empty for none. A target's records need not have it.
	Txn string
	// Life counts how often the source's log began anew before the record: its topic was made again, or the log truncated. A
	// target's records need not have it.
	Life int32
	// Hash is that of the contents and the time, see Hash.
	Hash [16]byte
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Hash is the hash of all that a copy must keep: key, value, headers in their order and
// timestamp. Null (nil) and empty are not the same. It is the same in every process.
func Hash(key, value []byte, headers []Header, timestamp int64) [16]byte {
	d := sha256.New()
	var n [8]byte
	number := func(v int64) {
		binary.BigEndian.PutUint64(n[:], uint64(v))
		d.Write(n[:])
	}
	// Lengths go first, so that no two records run together to the same bytes.
	field := func(b []byte) {
		if b == nil {
			number(-1)
			return
		}
		number(int64(len(b)))
		d.Write(b)
	}
	number(timestamp)
	field(key)
	field(value)
	number(int64(len(headers)))
	for _, h := range headers {
		field([]byte(h.Key))
		field(h.Value)
	}
	var sum [sha256.Size]byte
	return [16]byte(d.Sum(sum[:0])[:16])
}
