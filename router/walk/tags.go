package walk

import "encoding/binary"

// unread is added to the number of a tag that nobody may read: no message has a meaning for what it becomes, and it still takes one byte.
const unread = 64

// tag goes over a section of tags, one in a step. Those that tell of leaders are patched; all others pass as they are.
func (w *Walker) tag(b []byte, which int) (int, error) {
	if w.tags < 0 {
		count, n, err := w.uvarint(b)
		if err != nil {
			return 0, err
		}
		w.tags = int(count)
		w.tagged()
		return n, nil
	}
	number, n, err := w.uvarint(b)
	if err != nil {
		return 0, err
	}
	size, m, err := w.uvarint(b[n:])
	if err != nil {
		return 0, err
	}
	n += m
	need := 0
	switch {
	case which == ofEndpoints && number == 0 && n == m+1:
		b[0] = unread
	case which == ofProduced && number == 0, which == ofFetched && number == 1:
		need = 4 + 4
	case which == ofFetched && (number == 0 || number == 2):
		need = 4 + 8
	}
	if need > int(size) {
		return 0, w.errorf("tag %d has %d bytes", number, size)
	}
	if len(b) < n+need {
		return 0, errMore
	}
	if need > 0 {
		w.leader(which, number, b[n:])
	}
	w.over = int(size)
	w.tags--
	w.tagged()
	return n, nil
}

// tagged ends a section behind its last tag.
func (w *Walker) tagged() {
	if w.tags == 0 {
		w.tags = -1
		w.pc++
	}
}

// leader patches what a tag of a partition says.
func (w *Walker) leader(which int, number uint64, b []byte) {
	switch {
	case which == ofFetched && number == 0: // diverging: epoch, end offset
		binary.BigEndian.PutUint32(b, 1<<32-1)
		w.offset(Watermark, b[4:])
	case which == ofFetched && number == 2: // snapshot: end offset, epoch
		w.offset(Watermark, b)
		binary.BigEndian.PutUint32(b[8:], 1<<32-1)
	default: // current leader: id, epoch
		w.int32(node, b)
		binary.BigEndian.PutUint32(b[4:], 1<<32-1)
	}
}
