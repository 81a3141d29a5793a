package batch

import "bytes"

// Equal reports whether a consumer would see the same record: time, key, value and
// headers in their order, nulls told from empty values. Offsets are not compared.
func Equal(a, b Record) bool {
	if a.Timestamp != b.Timestamp || !sameBytes(a.Key, b.Key) || !sameBytes(a.Value, b.Value) ||
		len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		if a.Headers[i].Key != b.Headers[i].Key || !sameBytes(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

// sameBytes compares and tells null from empty.
func sameBytes(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

// payloadBits are the attributes that change what the records section means.
const payloadBits = attrCodec | attrLogAppendTime | attrControl

// SamePayload reports whether a and b, whole batches, hold the same records because their
// bytes are the same: record count, codec, timestamp type, base and max timestamp and the
// records section. It decodes nothing, so false does not mean that the records differ;
// compare those with [Decode] and [Equal].
func SamePayload(a, b []byte) bool {
	ha, a, _, errA := Next(a)
	hb, b, _, errB := Next(b)
	return errA == nil && errB == nil &&
		ha.Records == hb.Records &&
		ha.Attributes&payloadBits == hb.Attributes&payloadBits &&
		ha.BaseTimestamp == hb.BaseTimestamp &&
		ha.MaxTimestamp == hb.MaxTimestamp &&
		bytes.Equal(a[HeaderSize:], b[HeaderSize:])
}
