// Package pack writes and reads what durable chunks of routers are made of: varints and short strings. What is read is never believed: nothing is
// longer than the bytes that are there.
package pack

import (
	"encoding/binary"
	"errors"
	"math"
)

// Errors of chunks that are read.
var (
	// ErrVersion says that a chunk is of a newer Isthmus.
	ErrVersion = errors.New("written by a newer version of Isthmus; upgrade this node")
	// ErrDamaged says that a chunk was cut short, or is none.
	ErrDamaged = errors.New("damaged; its writer must write it again")
	// ErrTooLarge says that what must be in one chunk does not fit.
	ErrTooLarge = errors.New("does not fit into a chunk")
)

// String appends a string, its length in bytes first.
func String(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

// Reader reads a chunk. The first fault stays, and all that is read behind it is zero.
type Reader struct {
	b   []byte
	err error
}

// Read begins with a chunk, of which the first byte is the version.
func Read(chunk []byte) (version byte, r Reader) {
	if len(chunk) == 0 {
		return 0, Reader{err: ErrDamaged}
	}
	return chunk[0], Reader{b: chunk[1:]}
}

// Err is the first fault.
func (r *Reader) Err() error { return r.err }

// Left is how many bytes are left to read; none behind a fault.
func (r *Reader) Left() int { return len(r.b) }

// Fail makes what was read a fault.
func (r *Reader) Fail() {
	if r.err == nil {
		r.b, r.err = nil, ErrDamaged
	}
}

// Uint reads a number that is at most limit.
func (r *Reader) Uint(limit int64) int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(limit) {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// Int reads a number that may be negative.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// String reads what [String] wrote.
func (r *Reader) String() string { return r.Bytes(r.Uint(math.MaxInt32)) }

// Bytes reads a string of so many bytes.
func (r *Reader) Bytes(n int64) string {
	if n > int64(len(r.b)) {
		r.Fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
