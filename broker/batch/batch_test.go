package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

var allCodecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

const testLimit = 64 << 20

// makeRecords makes n records with every shape of key, value and header.
func makeRecords(r *rand.Rand, n, valueSize int) []Record {
	recs := make([]Record, n)
	for i := range recs {
		rec := &recs[i]
		rec.Timestamp = 1_700_000_000_000 + r.Int64N(100_000) - 50_000
		switch r.IntN(4) {
		case 0:
		case 1:
			rec.Key = []byte{}
		default:
			rec.Key = fmt.Appendf(nil, "key-%d", r.IntN(1000))
		}
		if r.IntN(8) > 0 {
			rec.Value = bytes.Repeat(fmt.Appendf(nil, "value %d;", r.IntN(100)), valueSize/8+1)[:r.IntN(valueSize+1)]
		}
		for range r.IntN(3) {
			h := RecordHeader{Key: strings.Repeat("h", r.IntN(4))}
			if r.IntN(2) > 0 {
				h.Value = make([]byte, r.IntN(10))
			}
			rec.Headers = append(rec.Headers, h)
		}
	}
	return recs
}

func mustEncode(t testing.TB, recs []Record, c Codec, s Stamp) []byte {
	t.Helper()
	raw, err := Encode(nil, recs, c, s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fixCRC gives raw the checksum that its bytes have.
func fixCRC(raw []byte) {
	binary.BigEndian.PutUint32(raw[atCRC:], crc32.Checksum(raw[crcFrom:], castagnoli))
}

func TestEncode_RoundTrip(t *testing.T) {
	stamp := Stamp{ProducerID: 1<<62 | 7, Epoch: 3, Sequence: 1<<31 - 1}
	for _, c := range allCodecs {
		for _, n := range []int{1, 2, 100, 3000} {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			in := makeRecords(r, n, 300)
			prefix := []byte("prefix")
			out, err := Encode(prefix, in, c, stamp)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(out, prefix) {
				t.Fatalf("%v: dst was overwritten", c)
			}
			raw := out[len(prefix):]
			h, whole, rest, err := Next(raw)
			if err != nil || len(rest) != 0 || len(whole) != len(raw) {
				t.Fatalf("%v: next: rest %d, %v", c, len(rest), err)
			}
			if h.Codec() != c || !h.Dense() || h.BaseOffset != 0 || h.NextOffset() != int64(n) || h.LeaderEpoch != -1 ||
				h.ProducerID != stamp.ProducerID || h.ProducerEpoch != stamp.Epoch || h.BaseSequence != stamp.Sequence ||
				h.BaseTimestamp != in[0].Timestamp || h.LogAppendTime() || h.Transactional() || h.Control() || h.DeleteHorizon() {
				t.Fatalf("%v: header %+v", c, h)
			}
			got, err := Decode(raw, testLimit)
			if err != nil {
				t.Fatal(err)
			}
			newest := in[0].Timestamp
			for i := range in {
				newest = max(newest, in[i].Timestamp)
				if got[i].Offset != int64(i) || !Equal(got[i], in[i]) {
					t.Fatalf("%v: record %d: got %+v, want %+v", c, i, got[i], in[i])
				}
			}
			if h.MaxTimestamp != newest {
				t.Fatalf("%v: max timestamp %d, want %d", c, h.MaxTimestamp, newest)
			}
		}
	}
}

func TestEncode_Timestamps(t *testing.T) {
	for _, times := range [][]int64{{-1}, {-1, -1}, {-1, 1700000000000}, {1700000000000, -1}, {5, 3, 4}, {-1 << 63, 1<<63 - 1}} {
		var recs []Record
		want := times[0]
		for _, ts := range times {
			recs = append(recs, Record{Timestamp: ts})
			want = max(want, ts)
		}
		raw := mustEncode(t, recs, None, Stamp{})
		h, _ := ParseHeader(raw)
		got, err := Decode(raw, testLimit)
		if err != nil || h.MaxTimestamp != want {
			t.Fatalf("%v: max %d, %v", times, h.MaxTimestamp, err)
		}
		for i := range got {
			if got[i].Timestamp != times[i] {
				t.Errorf("%v: record %d has %d", times, i, got[i].Timestamp)
			}
		}
	}
}

func TestEncode_Refuses(t *testing.T) {
	if out, err := Encode([]byte("x"), nil, None, Stamp{}); err == nil || string(out) != "x" {
		t.Errorf("no records: %q, %v", out, err)
	}
	if out, err := Encode([]byte("x"), []Record{{}}, 6, Stamp{}); err == nil || string(out) != "x" {
		t.Errorf("unknown codec: %q, %v", out, err)
	}
	// One value many times costs no memory and adds up to more than a batch can be.
	big := make([]byte, 64<<20)
	if _, err := Encode(nil, []Record{{Value: big}, {Value: big}}, Codec(7), Stamp{}); err == nil || errors.Is(err, ErrTooLarge) {
		t.Errorf("128 MiB: %v", err)
	}
	recs := make([]Record, 32)
	for i := range recs {
		recs[i].Value = big
	}
	if _, err := Encode(nil, recs, None, Stamp{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("2 GiB: %v", err)
	}
}

func TestParseHeader_Errors(t *testing.T) {
	good := mustEncode(t, []Record{{Value: []byte("v")}, {}}, None, Stamp{})
	binary.BigEndian.PutUint64(good, 77)
	set := func(at int, b ...byte) []byte {
		raw := bytes.Clone(good)
		copy(raw[at:], b)
		return raw
	}
	ff := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	tests := []struct {
		name string
		in   []byte
		kind error
		text string
	}{
		{"empty", nil, ErrShort, "offset -1"},
		{"no offset", good[:7], ErrShort, "offset -1"},
		{"no header", good[:HeaderSize-1], ErrShort, "offset 77"},
		{"v0", set(atMagic, 0)[:26], ErrMagic, "offset 77"},
		{"v1", set(atMagic, 1), ErrMagic, "offset 77"},
		{"magic 3", set(atMagic, 3), ErrCorrupt, "magic 3"},
		{"negative offset", set(atBaseOffset, ff...), ErrCorrupt, "base offset -1"},
		{"negative length", set(atLength, ff[:4]...), ErrCorrupt, "length -1"},
		{"length under header", set(atLength, 0, 0, 0, minLength-1), ErrCorrupt, "length 48"},
		{"length over int", set(atLength, 0x7f, 0xff, 0xff, 0xff), ErrCorrupt, "length"},
		{"negative delta", set(atLastOffsetDelta, ff[:4]...), ErrCorrupt, "delta -1"},
		{"negative count", set(atRecords, ff[:4]...), ErrCorrupt, "-1 records"},
		{"count over delta", set(atRecords, 0, 0, 0, 3), ErrCorrupt, "3 records"},
		{"count over bytes", set(atLastOffsetDelta, 0, 1, 0, 0), nil, ""},
		{"offset overflow", set(atBaseOffset, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), ErrCorrupt, "delta 1"},
	}
	for _, test := range tests {
		_, err := ParseHeader(test.in)
		if !errors.Is(err, test.kind) || test.kind != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	tooMany := set(atLastOffsetDelta, 0, 1, 0, 0)
	copy(tooMany[atRecords:], []byte{0, 1, 0, 0})
	if _, err := ParseHeader(tooMany); !errors.Is(err, ErrCorrupt) {
		t.Errorf("count over bytes: %v", err)
	}
}

func TestNext_Walks(t *testing.T) {
	var all []byte
	var want []int
	for i, c := range allCodecs {
		raw := mustEncode(t, makeRecords(rand.New(rand.NewPCG(2, 2)), 10*(i+1), 50), c, Stamp{})
		want = append(want, len(raw))
		all = append(all, raw...)
	}
	cut := append(bytes.Clone(all), all[:100]...)
	rest := cut
	for i := range want {
		h, raw, after, err := Next(rest)
		if err != nil || len(raw) != want[i] || h.Size() != want[i] || h.Codec() != allCodecs[i] || cap(raw) != len(raw) {
			t.Fatalf("batch %d: %d bytes, %v", i, len(raw), err)
		}
		rest = after
	}
	_, raw, after, err := Next(rest)
	if !errors.Is(err, ErrShort) || raw != nil || len(after) != 100 {
		t.Errorf("cut batch: %d bytes, rest %d, %v", len(raw), len(after), err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Offset != 0 {
		t.Errorf("cut batch: %#v", err)
	}
}

// sparse takes away the records that keep refuses, as log compaction does: the header
// and the deltas stay.
func sparse(t *testing.T, raw []byte, keep func(int) bool) []byte {
	t.Helper()
	h, _ := ParseHeader(raw)
	out := bytes.Clone(raw[:HeaderSize])
	rest := raw[HeaderSize:]
	var n uint32
	for i := 0; len(rest) > 0; i++ {
		_, _, after, ok := decodeRecord(rest, h)
		if !ok {
			t.Fatal("bad record")
		}
		if keep(i) {
			out = append(out, rest[:len(rest)-len(after)]...)
			n++
		}
		rest = after
	}
	binary.BigEndian.PutUint32(out[atRecords:], n)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthFrom))
	fixCRC(out)
	return out
}

func TestDecode_Compacted(t *testing.T) {
	in := makeRecords(rand.New(rand.NewPCG(3, 3)), 10, 20)
	raw := mustEncode(t, in, None, Stamp{})
	binary.BigEndian.PutUint64(raw, 1000)
	holes := sparse(t, raw, func(i int) bool { return i%3 == 1 })
	h, err := ParseHeader(holes)
	if err != nil || h.Dense() || h.NextOffset() != 1010 || h.Records != 3 {
		t.Fatalf("%+v, %v", h, err)
	}
	got, err := Decode(holes, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if want := 3*i + 1; r.Offset != int64(1000+want) || !Equal(r, in[want]) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	empty := sparse(t, raw, func(int) bool { return false })
	if got, err := Decode(empty, testLimit); err != nil || len(got) != 0 {
		t.Errorf("empty: %v, %v", got, err)
	}
}

func TestDecode_LogAppendTime(t *testing.T) {
	raw := mustEncode(t, makeRecords(rand.New(rand.NewPCG(4, 4)), 5, 20), LZ4, Stamp{})
	raw[atAttributes+1] |= attrLogAppendTime
	binary.BigEndian.PutUint64(raw[atMaxTimestamp:], 4242)
	fixCRC(raw)
	got, err := Decode(raw, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if r.Timestamp != 4242 {
			t.Errorf("timestamp %d", r.Timestamp)
		}
	}
}

func TestDecode_Refuses(t *testing.T) {
	recs := []Record{{Key: []byte("k"), Value: []byte("v"), Headers: []RecordHeader{{Key: "h"}}}, {}}
	good := mustEncode(t, recs, None, Stamp{})
	edit := func(f func([]byte) []byte) []byte {
		raw := f(bytes.Clone(good))
		binary.BigEndian.PutUint32(raw[atLength:], uint32(len(raw)-lengthFrom))
		fixCRC(raw)
		return raw
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	tests := []struct {
		name string
		raw  []byte
		kind error
	}{
		{"checksum", flipped, ErrCorrupt},
		{"cut", good[:len(good)-1], ErrShort},
		{"trailing", edit(func(b []byte) []byte { return append(b, 0) }), ErrCorrupt},
		{"missing record", edit(func(b []byte) []byte { return b[:len(b)-7] }), ErrCorrupt},
		{"delta over last", edit(func(b []byte) []byte { b[len(b)-4] = 4; return b }), ErrCorrupt},
		{"delta repeated", edit(func(b []byte) []byte { b[len(b)-4] = 0; return b }), ErrCorrupt},
		{"header count", edit(func(b []byte) []byte { b[len(b)-1] = 2; return b }), ErrCorrupt},
		{"key length", edit(func(b []byte) []byte { b[len(b)-3] = 100; return b }), ErrCorrupt},
		{"key length -2", edit(func(b []byte) []byte { b[len(b)-3] = 3; return b }), ErrCorrupt},
		{"null header key", edit(func(b []byte) []byte { b[len(b)-10] = 1; return b }), ErrCorrupt},
		{"codec 5", edit(func(b []byte) []byte { b[atAttributes+1] |= 5; return b }), ErrCorrupt},
		{"not gzip", edit(func(b []byte) []byte { b[atAttributes+1] |= 1; return b }), ErrCorrupt},
		{"not snappy", edit(func(b []byte) []byte { b[atAttributes+1] |= 2; return b }), ErrCorrupt},
		{"not lz4", edit(func(b []byte) []byte { b[atAttributes+1] |= 3; return b }), ErrCorrupt},
		{"not zstd", edit(func(b []byte) []byte { b[atAttributes+1] |= 4; return b }), ErrCorrupt},
	}
	for _, test := range tests {
		got, err := Decode(test.raw, testLimit)
		if !errors.Is(err, test.kind) || got != nil {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

func TestDecode_Limit(t *testing.T) {
	recs := []Record{{Value: make([]byte, 1<<20)}}
	for _, c := range allCodecs {
		raw := mustEncode(t, recs, c, Stamp{})
		size := len(mustEncode(t, recs, None, Stamp{})) - HeaderSize
		if _, err := Decode(raw, size); err != nil {
			t.Errorf("%v: at the limit: %v", c, err)
		}
		for _, limit := range []int{0, 1, 1000, size - 1} {
			if _, err := Decode(raw, limit); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v: limit %d: %v", c, limit, err)
			}
		}
	}
}

func TestDecode_DoesNotAlias(t *testing.T) {
	for _, c := range allCodecs {
		raw := mustEncode(t, []Record{{Key: []byte("key"), Value: []byte("value")}}, c, Stamp{})
		got, err := Decode(raw, testLimit)
		if err != nil {
			t.Fatal(err)
		}
		clear(raw)
		if string(got[0].Key) != "key" || string(got[0].Value) != "value" {
			t.Errorf("%v: records alias the batch: %q %q", c, got[0].Key, got[0].Value)
		}
	}
}

func TestControl(t *testing.T) {
	marker := func(key []byte, attrs byte) []byte {
		raw := mustEncode(t, []Record{{Key: key, Value: []byte{0, 0, 0, 0, 0, 1}}}, None, Stamp{})
		raw[atAttributes+1] |= attrs
		fixCRC(raw)
		return raw
	}
	const control = attrControl | attrTransactional
	tests := []struct {
		name       string
		raw        []byte
		commit, ok bool
	}{
		{"commit", marker([]byte{0, 0, 0, 1}, control), true, true},
		{"abort", marker([]byte{0, 0, 0, 0}, control), false, true},
		{"leader change", marker([]byte{0, 0, 0, 2}, control), false, false},
		{"data", marker([]byte{0, 0, 0, 1}, attrTransactional), false, false},
		{"short key", marker([]byte{0, 0, 0}, control), false, false},
		{"garbage", []byte("garbage"), false, false},
	}
	for _, test := range tests {
		if commit, ok := Control(test.raw); commit != test.commit || ok != test.ok {
			t.Errorf("%s: %v, %v", test.name, commit, ok)
		}
	}
}

func TestEqual(t *testing.T) {
	base := Record{Offset: 1, Timestamp: 2, Key: []byte("k"), Value: []byte{}, Headers: []RecordHeader{{"a", nil}, {"b", []byte("1")}}}
	tests := []struct {
		name string
		edit func(*Record)
		want bool
	}{
		{"same", func(*Record) {}, true},
		{"offset", func(r *Record) { r.Offset = 9 }, true},
		{"time", func(r *Record) { r.Timestamp = 9 }, false},
		{"key", func(r *Record) { r.Key = []byte("x") }, false},
		{"null key", func(r *Record) { r.Key = nil }, false},
		{"null value", func(r *Record) { r.Value = nil }, false},
		{"header order", func(r *Record) { r.Headers = []RecordHeader{r.Headers[1], r.Headers[0]} }, false},
		{"empty header value", func(r *Record) { r.Headers = []RecordHeader{{"a", []byte{}}, r.Headers[1]} }, false},
		{"fewer headers", func(r *Record) { r.Headers = r.Headers[:1] }, false},
	}
	for _, test := range tests {
		other := base
		test.edit(&other)
		if got := Equal(base, other); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestSamePayload(t *testing.T) {
	recs := makeRecords(rand.New(rand.NewPCG(5, 5)), 20, 40)
	a := mustEncode(t, recs, Zstd, Stamp{ProducerID: 1})
	b := mustEncode(t, recs, Zstd, Stamp{ProducerID: 2, Epoch: 2, Sequence: 2})
	binary.BigEndian.PutUint64(b, 55)
	if !SamePayload(a, b) {
		t.Error("other stamp and offset: not the same")
	}
	other := mustEncode(t, recs, LZ4, Stamp{})
	if SamePayload(a, other) {
		t.Error("other codec: the same")
	}
	shifted := makeRecords(rand.New(rand.NewPCG(5, 5)), 20, 40)
	for i := range shifted {
		shifted[i].Timestamp++
	}
	if SamePayload(a, mustEncode(t, shifted, Zstd, Stamp{})) {
		t.Error("other base timestamp: the same")
	}
	if SamePayload(a, a[:len(a)-1]) || SamePayload(nil, nil) {
		t.Error("short: the same")
	}
}

func TestHeader_Accessors(t *testing.T) {
	h := Header{BaseOffset: 10, Length: 100, LastOffsetDelta: 4, Records: 5, Attributes: 0x7f}
	got := []any{h.Size(), h.LastOffset(), h.NextOffset(), h.Dense(), h.Codec().String(), h.Transactional(), h.Control(), h.LogAppendTime(), h.DeleteHorizon()}
	want := []any{112, int64(14), int64(15), true, "codec 7", true, true, true, true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
