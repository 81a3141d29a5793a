package batch

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func addSeeds(f *testing.F) {
	for i, c := range allCodecs {
		raw := mustEncode(f, makeRecords(rand.New(rand.NewPCG(1, uint64(i))), 5, 30), c, Stamp{ProducerID: 1})
		f.Add(raw)
		f.Add(append(raw, raw[:70]...))
	}
	f.Add([]byte{})
}

func FuzzNext(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			h, raw, rest, err := Next(b)
			if err != nil {
				if raw != nil || len(rest) != len(b) {
					t.Fatal("error with bytes taken")
				}
				return
			}
			if len(raw) != h.Size() || len(raw) < HeaderSize || len(raw)+len(rest) != len(b) {
				t.Fatalf("took %d of %d, left %d", len(raw), len(b), len(rest))
			}
			if h.NextOffset() <= h.BaseOffset {
				t.Fatalf("goes back: %+v", h)
			}
			Control(raw)
			b = rest
		}
	})
}

// FuzzDecode gives every input a good checksum, so that the decoders behind it are
// reached; what decodes must survive a round trip.
func FuzzDecode(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, raw, _, err := Next(b)
		if err != nil {
			return
		}
		fixCRC(raw)
		const limit = 1 << 20
		recs, err := Decode(raw, limit)
		if err != nil || len(recs) == 0 {
			return
		}
		again, err := Encode(nil, recs, None, Stamp{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(again, 4*limit)
		if err != nil || len(got) != len(recs) {
			t.Fatalf("%d records became %d, %v", len(recs), len(got), err)
		}
		for i := range got {
			if !Equal(got[i], recs[i]) {
				t.Fatalf("record %d: %+v became %+v", i, recs[i], got[i])
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint16(10), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, codec uint8, n, size uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		recs := makeRecords(r, int(n%200)+1, int(size%2000))
		raw := mustEncode(t, recs, Codec(codec%5), Stamp{})
		got, err := Decode(raw, testLimit)
		if err != nil || len(got) != len(recs) {
			t.Fatalf("%d records, %v", len(got), err)
		}
		for i := range got {
			if !Equal(got[i], recs[i]) {
				t.Fatalf("record %d: %+v, want %+v", i, got[i], recs[i])
			}
		}
	})
}

func FuzzPatch(f *testing.F) {
	f.Add(make([]byte, HeaderSize), int64(1), int16(1), int32(1))
	f.Add(bytes.Repeat([]byte{0xa5}, 500), int64(-1), int16(-1), int32(-1))
	f.Fuzz(func(t *testing.T, raw []byte, id int64, epoch int16, seq int32) {
		if len(raw) < HeaderSize {
			return
		}
		raw = bytes.Clone(raw)
		fixCRC(raw)
		Patch(raw, Stamp{id, epoch, seq})
		if !VerifyCRC(raw) {
			t.Fatalf("checksum of %d bytes is wrong", len(raw))
		}
	})
}
