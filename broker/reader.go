package broker

import "encoding/binary"

// reader takes Kafka's primitive types from an answer. After the first impossible one it is bad and yields zeros, so that a
// decoder checks once; no count or length is believed that the remaining bytes cannot hold.
type reader struct {
	src  []byte
	bad  bool
	flex bool // compact lengths and tagged fields
}

// take returns the next n bytes, aliasing the answer.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.src) || r.bad {
		r.fail()
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) fail() {
	r.bad, r.src = true, nil
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) id() (id TopicID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) uvarint() int {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		r.fail()
		return 0
	}
	r.src = r.src[n:]
	return int(v)
}

// count reads the length of an array whose elements take at least min bytes each; null counts as empty.
func (r *reader) count(min int) int {
	var n int
	if r.flex {
		n = r.uvarint() - 1
	} else {
		n = int(r.int32())
	}
	if n <= 0 {
		if n < -1 {
			r.fail()
		}
		return 0
	}
	if n > len(r.src)/min {
		r.fail()
		return 0
	}
	return n
}

// text reads a string, nil for null.
func (r *reader) text() []byte {
	var n int
	if r.flex {
		n = r.uvarint() - 1
	} else {
		n = int(r.int16())
	}
	if n == -1 {
		return nil
	}
	return r.take(n)
}

// bytes reads a byte array, nil for null.
func (r *reader) bytes() []byte {
	var n int
	if r.flex {
		n = r.uvarint() - 1
	} else {
		n = int(r.int32())
	}
	if n == -1 {
		return nil
	}
	return r.take(n)
}

// tags passes over the tagged fields of flexible versions and hands those to fn, which may be nil.
func (r *reader) tags(fn func(tag int, r *reader)) {
	if !r.flex {
		return
	}
	n := r.uvarint()
	if n > len(r.src)/2 { // a tag and a length are two bytes at least
		r.fail()
		return
	}
	for range n {
		tag := r.uvarint()
		body := r.take(r.uvarint())
		if r.bad {
			return
		}
		if fn != nil {
			sub := reader{src: body, flex: true}
			fn(tag, &sub)
			r.bad = r.bad || sub.bad
		}
	}
}
