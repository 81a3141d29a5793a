package broker

import "encoding/binary"

// writer appends Kafka's primitive types to a request.
type writer struct {
	b    []byte
	flex bool // compact lengths and tagged fields
}

func (w *writer) int8(v int8)   { w.b = append(w.b, byte(v)) }
func (w *writer) int16(v int16) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *writer) int32(v int32) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *writer) int64(v int64) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }
func (w *writer) id(v TopicID)  { w.b = append(w.b, v[:]...) }

// noTags ends a struct of a flexible version: no tagged fields.
func (w *writer) noTags() {
	if w.flex {
		w.b = append(w.b, 0)
	}
}

// count writes the length of an array.
func (w *writer) count(n int) {
	if w.flex {
		w.b = binary.AppendUvarint(w.b, uint64(n)+1)
		return
	}
	w.int32(int32(n))
}

// text writes a string that is not null.
func (w *writer) text(s string) {
	if w.flex {
		w.b = binary.AppendUvarint(w.b, uint64(len(s))+1)
	} else {
		w.int16(int16(len(s)))
	}
	w.b = append(w.b, s...)
}

// header begins a request: the room for its length, then request header version 1, or 2 when flexible.
func (w *writer) header(key, version int16, correlation int32, clientID string) {
	w.b = append(w.b[:0], 0, 0, 0, 0)
	w.int16(key)
	w.int16(version)
	w.int32(correlation)
	w.int16(int16(len(clientID))) // never compact, not even in a flexible header
	w.b = append(w.b, clientID...)
	w.noTags()
}

// finish fills in the length of a request of which extra bytes are not in w.
func (w *writer) finish(extra int) {
	binary.BigEndian.PutUint32(w.b, uint32(len(w.b)-4+extra))
}
