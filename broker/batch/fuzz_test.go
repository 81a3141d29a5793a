package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func addSeeds(f *testing.F) {
	for i, c := range allCodecs {
		raw := mustEncode(f, makeRecords(rand.New(rand.NewPCG(1, uint64(i))), 5, 30), c, Stamp{ProducerID: 1})
		f.Add(raw)
		f.Add(append(raw, raw[:70]...))
	}
	f.Add([]byte{})
}

// FuzzNext walks any bytes. What it takes for a batch, kmsg reads with the same header, byte for byte; where the bytes
// just end, it says so, and it never takes fewer batches from more bytes.
func FuzzNext(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			h, raw, rest, err := Next(b)
			if err != nil {
				if raw != nil || len(rest) != len(b) {
					t.Fatal("error with bytes taken")
				}
				if !errors.Is(err, ErrShort) && len(b) >= HeaderSize { // more bytes do not cure it
					if _, _, _, again := Next(append(bytes.Clone(b), 0, 0, 0, 0)); again == nil || errors.Is(again, ErrShort) {
						t.Fatalf("%v, but with more bytes %v", err, again)
					}
				}
				return
			}
			if len(raw) != h.Size() || len(raw) < HeaderSize || len(raw)+len(rest) != len(b) || &raw[0] != &b[0] {
				t.Fatalf("took %d of %d, left %d", len(raw), len(b), len(rest))
			}
			if h.NextOffset() <= h.BaseOffset {
				t.Fatalf("goes back: %+v", h)
			}
			sameAsKmsg(t, h, raw)
			for _, cut := range []int{0, 11, atMagic, HeaderSize - 1, len(raw) - 1} {
				if _, _, _, err := Next(raw[:cut]); !errors.Is(err, ErrShort) {
					t.Fatalf("cut at %d of %d: %v", cut, len(raw), err)
				}
			}
			Control(raw)
			b = rest
		}
	})
}

// sameAsKmsg compares a header with what another implementation reads from the same bytes.
func sameAsKmsg(t *testing.T, h Header, raw []byte) {
	t.Helper()
	var k kmsg.RecordBatch
	if err := k.ReadFrom(raw); err != nil {
		t.Fatalf("kmsg does not read it: %v", err)
	}
	got := Header{
		BaseOffset: k.FirstOffset, Length: k.Length, LeaderEpoch: k.PartitionLeaderEpoch, Magic: k.Magic, CRC: uint32(k.CRC),
		Attributes: uint16(k.Attributes), LastOffsetDelta: k.LastOffsetDelta, BaseTimestamp: k.FirstTimestamp, MaxTimestamp: k.MaxTimestamp,
		ProducerID: k.ProducerID, ProducerEpoch: k.ProducerEpoch, BaseSequence: k.FirstSequence, Records: k.NumRecords,
	}
	if got != h || !bytes.Equal(k.Records, raw[HeaderSize:]) {
		t.Fatalf("we read %+v, kmsg %+v", h, got)
	}
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

// FuzzPatch compares with the slow way: change the fields, compute the checksum over everything. Damage that was in the
// batch before stays exactly as visible as it was.
func FuzzPatch(f *testing.F) {
	f.Add(make([]byte, HeaderSize), int64(1), int16(1), int32(1), uint32(0))
	f.Add(bytes.Repeat([]byte{0xa5}, 500), int64(-1), int16(-1), int32(-1), uint32(1))
	f.Add(bytes.Repeat([]byte{0xff}, 62), int64(1)<<62, int16(0), int32(1<<31-1), uint32(1<<31))
	f.Fuzz(func(t *testing.T, raw []byte, id int64, epoch int16, seq int32, damage uint32) {
		if len(raw) < HeaderSize {
			return
		}
		want := bytes.Clone(raw)
		binary.BigEndian.PutUint64(want[0:], 0)              // base offset
		binary.BigEndian.PutUint32(want[12:], 1<<32-1)       // leader epoch: -1
		want[22] &^= 1<<3 | 1<<4 | 1<<6                      // LogAppendTime, transactional, delete horizon
		binary.BigEndian.PutUint64(want[43:], uint64(id))    // producer id
		binary.BigEndian.PutUint16(want[51:], uint16(epoch)) // and its epoch
		binary.BigEndian.PutUint32(want[53:], uint32(seq))   // and sequence
		fixCRC(want)
		binary.BigEndian.PutUint32(want[17:], binary.BigEndian.Uint32(want[17:])^damage)

		got := bytes.Clone(raw)
		fixCRC(got)
		binary.BigEndian.PutUint32(got[17:], binary.BigEndian.Uint32(got[17:])^damage)
		Patch(got, Stamp{id, epoch, seq})
		if !bytes.Equal(got, want) {
			t.Fatalf("patched\n%x, want\n%x", got, want)
		}
		if VerifyCRC(got) != (damage == 0) {
			t.Fatalf("damage %08x was laundered, or a good batch was damaged", damage)
		}
	})
}
