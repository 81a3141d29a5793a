package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The format of a change, as it is gossiped and stored:
//
//	format version        1 byte
//	version               time
//	author, reason        text
//	undoes                0, or 1 and a time
//	number of entries     uvarint
//	each entry            key (text), flags (1 byte: 1 deleted, 2 has a base), value (text), base (time) if it has one
//
// A time is wall and counter (uvarint) and node (text); a text is its length (uvarint) and its bytes. Each change has exactly one
// encoding: numbers are as short as they can be, and no flag says what is not so.
const changeFormat = 1

const (
	flagDeleted = 1 << iota
	flagBase
)

// ErrFormat is wrapped by the error of [DecodeChange] for a format that this version of Isthmus does not know.
var ErrFormat = errors.New("unknown format of a change")

var errCut = errors.New("it ends too early")

// EncodeChange appends a change to dst. [Change.Check] must have passed.
func EncodeChange(dst []byte, c Change) []byte {
	dst = append(dst, changeFormat)
	dst = appendTime(dst, c.Version)
	dst = appendText(appendText(dst, c.Author), c.Reason)
	if c.Undoes.IsZero() {
		dst = append(dst, 0)
	} else {
		dst = appendTime(append(dst, 1), c.Undoes)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Entries)))
	for _, e := range c.Entries {
		flags := byte(0)
		if e.Deleted {
			flags |= flagDeleted
		}
		if !e.Base.IsZero() {
			flags |= flagBase
		}
		dst = appendText(append(appendText(dst, e.Key), flags), e.Value)
		if !e.Base.IsZero() {
			dst = appendTime(dst, e.Base)
		}
	}
	return dst
}

// encodedBytes is how long EncodeChange makes a change.
func encodedBytes(c Change) int { return len(EncodeChange(nil, c)) }

// DecodeChange reads one change and returns what is behind it. What it returns passed [Change.Check], holds copies only and took
// no more memory than a small multiple of the text.
func DecodeChange(b []byte) (c Change, rest []byte, err error) {
	d := decoder{b: b}
	switch format := d.byte(); {
	case d.err == nil && format > changeFormat:
		return Change{}, nil, fmt.Errorf("decode a change: %w: %d, this node knows %d; upgrade it", ErrFormat, format, changeFormat)
	case d.err == nil && format != changeFormat:
		return Change{}, nil, fmt.Errorf("decode a change: %w: %d, this node knows %d", ErrFormat, format, changeFormat)
	}
	c.Version = d.time()
	c.Author, c.Reason = d.text(MaxAuthorBytes), d.text(MaxReasonBytes)
	if d.flag(1) != 0 {
		c.Undoes = d.time()
	}
	entries := d.number(MaxEntries)
	for range entries {
		if d.err != nil {
			break
		}
		c.Entries = append(c.Entries, d.entry())
	}
	if d.err == nil {
		d.err = c.Check()
	}
	if size := len(b) - len(d.b); d.err == nil && size > MaxChangeBytes {
		d.err = fmt.Errorf("it has %d bytes, the limit is %d", size, MaxChangeBytes)
	}
	if d.err != nil {
		return Change{}, nil, fmt.Errorf("decode a change: %w", d.err)
	}
	return c, d.b, nil
}

// decoder reads the words of the format. After an error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errCut)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// flag reads a byte that is at most high.
func (d *decoder) flag(high byte) byte {
	v := d.byte()
	if v > high {
		d.fail(fmt.Errorf("a flag is %d, at most %d is known", v, high))
		return 0
	}
	return v
}

// number reads a number of at most high, in its shortest form.
func (d *decoder) number(high uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.fail(errCut)
		return 0
	case n < 0 || v > high:
		d.fail(fmt.Errorf("a number is above %d", high))
		return 0
	case n > 1 && d.b[n-1] == 0:
		d.fail(errors.New("a number is longer than it has to be"))
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(limit int) string {
	n := d.number(uint64(limit))
	if n > uint64(len(d.b)) {
		d.fail(errCut)
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

// time reads a time that is not zero.
func (d *decoder) time() Time {
	t := Time{Wall: int64(d.number(1<<63 - 1)), Counter: uint32(d.number(1<<32 - 1)), Node: d.text(maxNodeBytes)}
	if t.IsZero() {
		d.fail(errors.New("a version is zero"))
	}
	if !utf8.ValidString(t.Node) {
		d.fail(errNoText)
		return Time{}
	}
	return t
}

func (d *decoder) entry() (e Entry) {
	e.Key = d.text(MaxKeyBytes)
	flags := d.flag(flagDeleted | flagBase)
	e.Deleted = flags&flagDeleted != 0
	if v := d.text(MaxValueBytes); v != "" {
		e.Value = []byte(v)
	}
	if flags&flagBase != 0 {
		e.Base = d.time()
	}
	return e
}
