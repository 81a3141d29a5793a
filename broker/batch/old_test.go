package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// oldMessage writes a message of format v0 or v1 with another implementation, and its checksum.
func oldMessage(magic int8, attributes int8, r Record) []byte {
	var raw []byte
	if magic == 0 {
		raw = (&kmsg.MessageV0{Offset: r.Offset, Magic: 0, Attributes: attributes, Key: r.Key, Value: r.Value}).AppendTo(nil)
	} else {
		raw = (&kmsg.MessageV1{Offset: r.Offset, Magic: 1, Attributes: attributes, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}).AppendTo(nil)
	}
	binary.BigEndian.PutUint32(raw[atLength:], uint32(len(raw)-lengthFrom))
	binary.BigEndian.PutUint32(raw[lengthFrom:], crc32.ChecksumIEEE(raw[oldCRCFrom:]))
	return raw
}

// packedOld is a compressed message of others. In v1 the offsets within count from 0, with the holes that compaction left.
func packedOld(t testing.TB, magic int8, attributes int8, c Codec, time int64, recs []Record) []byte {
	t.Helper()
	var body []byte
	for _, r := range recs {
		if magic == 1 {
			r.Offset -= recs[0].Offset
		}
		body = append(body, oldMessage(magic, 0, r)...)
	}
	packed, err := compress(nil, body, c)
	if err != nil {
		t.Fatal(err)
	}
	return oldMessage(magic, attributes|int8(c), Record{Offset: recs[len(recs)-1].Offset, Timestamp: time, Value: packed})
}

var oldRecords = []Record{{Offset: 70, Timestamp: 5, Key: []byte("k"), Value: []byte("v")}, {Offset: 71, Timestamp: -1, Value: []byte{}},
	{Offset: 75, Timestamp: 3, Key: []byte{}}}

func TestNextOld(t *testing.T) {
	timed := func(ms int64) []Record {
		out := append([]Record(nil), oldRecords...)
		for i := range out {
			out[i].Timestamp = ms
		}
		return out
	}
	for name, tc := range map[string]struct {
		raw   []byte
		want  []Record
		codec Codec
	}{
		"v0":                      {oldMessage(0, 0, oldRecords[0]), timed(-1)[:1], None},
		"v1":                      {oldMessage(1, 0, oldRecords[0]), oldRecords[:1], None},
		"v1, the broker's time":   {oldMessage(1, oldLogAppendTime, oldRecords[0]), oldRecords[:1], None},
		"v0 gzip":                 {packedOld(t, 0, 0, Gzip, 0, oldRecords), timed(-1), Gzip},
		"v0 snappy":               {packedOld(t, 0, 0, Snappy, 0, oldRecords), timed(-1), Snappy},
		"v1 gzip":                 {packedOld(t, 1, 0, Gzip, 9, oldRecords), oldRecords, Gzip},
		"v1 snappy":               {packedOld(t, 1, 0, Snappy, 9, oldRecords), oldRecords, Snappy},
		"v1 lz4":                  {packedOld(t, 1, 0, LZ4, 9, oldRecords), oldRecords, LZ4},
		"v1 lz4, broker's time":   {packedOld(t, 1, oldLogAppendTime, LZ4, 9, oldRecords), timed(9), LZ4},
		"v1, null key and value":  {oldMessage(1, 0, Record{Offset: 70, Timestamp: 1}), []Record{{Offset: 70, Timestamp: 1}}, None},
		"v1, empty key and value": {oldMessage(1, 0, Record{Key: []byte{}, Value: []byte{}}), []Record{{Key: []byte{}, Value: []byte{}}}, None},
	} {
		h, got, raw, rest, err := NextOld(append(bytes.Clone(tc.raw), "next"...), 1<<20)
		if err != nil || !reflect.DeepEqual(got, tc.want) || !bytes.Equal(raw, tc.raw) || string(rest) != "next" {
			t.Errorf("%s: %+v, rest %q, %v; want %+v", name, got, rest, err, tc.want)
			continue
		}
		last := tc.want[len(tc.want)-1].Offset
		if h.BaseOffset != tc.want[0].Offset || h.LastOffset() != last || int(h.Records) != len(tc.want) || h.Codec() != tc.codec ||
			h.Size() != len(tc.raw) || h.ProducerID != -1 || h.LogAppendTime() || h.Control() || h.Transactional() {
			t.Errorf("%s: header %+v", name, h)
		}
		for cut := range tc.raw {
			if _, _, _, _, err := NextOld(tc.raw[:cut], 1<<20); !errors.Is(err, ErrShort) {
				t.Fatalf("%s cut at %d: %v", name, cut, err)
			}
		}
		tc.raw[len(tc.raw)-1] ^= 1
		if _, _, _, _, err := NextOld(tc.raw, 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
}

func TestNextOld_Refuses(t *testing.T) {
	large := []Record{{Offset: 1, Value: make([]byte, 1<<20)}}
	outer := func(body []byte) []byte {
		packed, err := compress(nil, body, Gzip)
		if err != nil {
			t.Fatal(err)
		}
		return oldMessage(1, int8(Gzip), Record{Offset: 9, Value: packed})
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"unpacks to too much": {packedOld(t, 1, 0, Gzip, 0, large), ErrTooLarge},
		"one in another":      {outer(packedOld(t, 1, 0, Gzip, 0, oldRecords)), ErrCorrupt},
		"another format":      {outer(oldMessage(0, 0, oldRecords[0])), ErrCorrupt},
		"nothing within":      {outer(nil), ErrCorrupt},
		"goes back":           {outer(append(oldMessage(1, 0, Record{Offset: 1}), oldMessage(1, 0, Record{Offset: 1})...)), ErrCorrupt},
		"half of one":         {outer(oldMessage(1, 0, oldRecords[0])[:20]), ErrCorrupt},
		"before 0":            {outer(append(oldMessage(1, 0, Record{}), oldMessage(1, 0, Record{Offset: 11})...)), ErrCorrupt},
		"v2":                  {mustEncode(t, oldRecords, None, Stamp{}), ErrCorrupt},
	} {
		if _, _, _, rest, err := NextOld(tc.raw, 1<<16); !errors.Is(err, tc.want) || len(rest) != len(tc.raw) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// FuzzNextOld: no bytes make it panic, and what it takes has offsets that rise.
func FuzzNextOld(f *testing.F) {
	for _, c := range []Codec{Gzip, Snappy, LZ4} {
		f.Add(packedOld(f, 1, 0, c, 9, oldRecords), true)
	}
	f.Add(packedOld(f, 0, 0, Gzip, 0, oldRecords), true)
	f.Add(oldMessage(0, 0, oldRecords[0]), false)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) > oldCRCFrom { // else hardly anything comes past the checksum
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[lengthFrom:], crc32.ChecksumIEEE(b[oldCRCFrom:]))
		}
		for len(b) > 0 {
			h, recs, raw, rest, err := NextOld(b, 1<<16)
			if err != nil {
				if len(rest) != len(b) {
					t.Fatal("error with bytes taken")
				}
				return
			}
			if len(raw)+len(rest) != len(b) || len(recs) == 0 || int(h.Records) != len(recs) || h.LastOffset() < h.BaseOffset {
				t.Fatalf("took %d, left %d of %d: %+v", len(raw), len(rest), len(b), h)
			}
			for i, r := range recs {
				if r.Offset < h.BaseOffset || r.Offset > h.LastOffset() || i > 0 && r.Offset <= recs[i-1].Offset {
					t.Fatalf("record %d at %d of %+v", i, r.Offset, h)
				}
			}
			b = rest
		}
	})
}
