package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Everything durable starts with one format version byte. A newer node reads
// what an older one wrote; an unknown version stops the pump that needs it.
const formatVersion = 1

// ErrNewerFormat is returned for durable state that a newer Isthmus wrote.
var ErrNewerFormat = errors.New("state was written by a newer isthmus: upgrade this node")

var errShortState = errors.New("state record is cut short")

// encoder appends the few shapes that state records are made of: varints
// (signed, zigzag) and length-prefixed bytes.
type encoder []byte

func (e *encoder) int(v int64)    { *e = binary.AppendVarint(*e, v) }
func (e *encoder) bytes(b []byte) { e.int(int64(len(b))); *e = append(*e, b...) }
func (e *encoder) str(s string)   { e.int(int64(len(s))); *e = append(*e, s...) }

// decoder reads what encoder wrote; the first fault sticks and every later read
// returns zero.
type decoder struct {
	b   []byte
	err error
}

func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if len(b) == 0 {
		d.err = errShortState
		return d
	}
	if b[0] != formatVersion {
		d.err = fmt.Errorf("format %d, this build knows %d: %w", b[0], formatVersion, ErrNewerFormat)
	}
	d.b = b[1:]
	return d
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.err = errShortState
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.int()
	if d.err != nil {
		return nil
	}
	if n < 0 || n > int64(len(d.b)) {
		d.err = errShortState
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) str() string { return string(d.bytes()) }

func (d *decoder) id() (id [16]byte) {
	b := d.bytes()
	if d.err == nil && len(b) != len(id) {
		d.err = errShortState
		return id
	}
	copy(id[:], b)
	return id
}

// count reads a list length; each element takes at least one byte.
func (d *decoder) count() int {
	n := d.int()
	if d.err == nil && (n < 0 || n > int64(len(d.b))) {
		d.err = errShortState
		return 0
	}
	return int(n)
}
