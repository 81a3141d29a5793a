package batch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestShift_IsZeroBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	zeroBytes := make([]byte, 1<<20)
	// Update inverts before and after; with both undone it is the bare CRC.
	bare := func(c uint32, n int) uint32 { return ^crc32.Update(^c, castagnoli, zeroBytes[:n]) }
	for _, n := range []int{0, 1, 2, 3, 7, 8, 255, 256, 65535, 65536, 1<<20 - 1, 1 << 20} {
		c := r.Uint32()
		if got, want := shift(c, n), bare(c, n); got != want {
			t.Errorf("over %d bytes: %08x, want %08x", n, got, want)
		}
	}
	// Lengths that are too long to hold: twice 2^29 zero bytes are 2^30.
	c := r.Uint32()
	if got, want := shift(c, 1<<30), shift(shift(c, 1<<29), 1<<29); got != want {
		t.Errorf("over 1 GiB: %08x, want %08x", got, want)
	}
}

func TestPatch_EqualsRecomputed(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		c := allCodecs[r.IntN(len(allCodecs))]
		raw := mustEncode(t, makeRecords(r, 1+r.IntN(50), 1+r.IntN(500)), c, Stamp{r.Int64(), int16(r.Uint32()), r.Int32()})
		binary.BigEndian.PutUint64(raw, uint64(r.Int64()))
		binary.BigEndian.PutUint32(raw[atLeaderEpoch:], r.Uint32())
		raw[atAttributes+1] |= byte(r.Uint32()) &^ (attrCodec | attrControl)
		fixCRC(raw)
		before := bytes.Clone(raw)
		s := Stamp{r.Int64(), int16(r.Uint32()), r.Int32()}
		Patch(raw, s)
		h := readHeader(raw)
		if !VerifyCRC(raw) {
			t.Fatalf("%v, %d bytes: wrong checksum", c, len(raw))
		}
		if h.BaseOffset != 0 || h.LeaderEpoch != -1 || h.Attributes&cleared != 0 || h.Codec() != c ||
			(Stamp{h.ProducerID, h.ProducerEpoch, h.BaseSequence}) != s {
			t.Fatalf("header %+v after patch with %+v", h, s)
		}
		if b := readHeader(before); h.BaseTimestamp != b.BaseTimestamp || h.MaxTimestamp != b.MaxTimestamp ||
			h.Records != b.Records || h.LastOffsetDelta != b.LastOffsetDelta || h.Length != b.Length {
			t.Fatalf("header %+v, was %+v", h, b)
		}
		if !bytes.Equal(raw[HeaderSize:], before[HeaderSize:]) {
			t.Fatal("records were touched")
		}
	}
}

// A damaged batch must not get a good checksum, or the target broker could not refuse it.
func TestPatch_KeepsDamageVisible(t *testing.T) {
	good := mustEncode(t, makeRecords(rand.New(rand.NewPCG(8, 8)), 3, 30), Snappy, Stamp{ProducerID: 9})
	for at := crcFrom; at < len(good); at++ {
		for bit := range 8 {
			raw := bytes.Clone(good)
			raw[at] ^= 1 << bit
			Patch(raw, Stamp{ProducerID: 1 << 62, Epoch: 1, Sequence: 4})
			if VerifyCRC(raw) {
				t.Fatalf("bit %d of byte %d: damage was laundered", bit, at)
			}
		}
	}
}

// With the delete horizon the base timestamp means something else to the cleaner, but
// records are decoded from it with and without the bit.
func TestPatch_DeleteHorizonKeepsTimes(t *testing.T) {
	in := makeRecords(rand.New(rand.NewPCG(9, 9)), 10, 30)
	for _, c := range allCodecs {
		// The cleaner writes the horizon as base timestamp and the deltas to it: an
		// extra first record makes Encode do that, and compaction drops the record.
		const horizon = 1_800_000_000_000
		raw := mustEncode(t, append([]Record{{Timestamp: horizon}}, in...), None, Stamp{})
		raw = sparse(t, raw, func(i int) bool { return i > 0 })
		packed, err := compress(bytes.Clone(raw[:HeaderSize]), raw[HeaderSize:], c)
		if err != nil {
			t.Fatal(err)
		}
		packed[atAttributes+1] |= attrDeleteHorizon | byte(c)
		binary.BigEndian.PutUint32(packed[atLength:], uint32(len(packed)-lengthFrom))
		fixCRC(packed)
		Patch(packed, Stamp{})
		h, _ := ParseHeader(packed)
		if h.DeleteHorizon() || h.BaseTimestamp != horizon {
			t.Fatalf("%v: header %+v", c, h)
		}
		got, err := Decode(packed, testLimit)
		if err != nil || len(got) != len(in) {
			t.Fatalf("%v: %d records, %v", c, len(got), err)
		}
		for i := range got {
			if !Equal(got[i], in[i]) {
				t.Errorf("%v: record %d: %+v, want %+v", c, i, got[i], in[i])
			}
		}
	}
}

func TestPatch_DoesNotAllocate(t *testing.T) {
	raw := mustEncode(t, makeRecords(rand.New(rand.NewPCG(1, 1)), 100, 100), None, Stamp{})
	if n := testing.AllocsPerRun(100, func() { Patch(raw, Stamp{Sequence: 1}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _, _ = Next(raw) }); n != 0 {
		t.Errorf("next: %v allocations", n)
	}
}

// TestRestamp_NeedsOnlyTheHeader: with the records cut off it makes the header that Patch makes of the whole batch, but for what only a log
// knows and what a client's batch may keep.
func TestRestamp_NeedsOnlyTheHeader(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 300 {
		raw := mustEncode(t, makeRecords(r, 1+r.IntN(50), 1+r.IntN(500)), allCodecs[r.IntN(len(allCodecs))], Stamp{r.Int64(), int16(r.Uint32()), r.Int32()})
		raw[atAttributes+1] |= attrTransactional
		SetPlace(raw, r.Int64N(1000), r.Int32())
		fixCRC(raw)
		was := readHeader(raw)
		s := Stamp{r.Int64(), int16(r.Uint32()), r.Int32()}
		header := bytes.Clone(raw[:HeaderSize])
		Restamp(header, s)
		copy(raw, header)
		if !VerifyCRC(raw) {
			t.Fatal("wrong checksum")
		}
		h := readHeader(raw)
		if (Stamp{h.ProducerID, h.ProducerEpoch, h.BaseSequence}) != s || !h.Transactional() {
			t.Fatalf("header %+v after restamp with %+v", h, s)
		}
		h.ProducerID, h.ProducerEpoch, h.BaseSequence, h.CRC = was.ProducerID, was.ProducerEpoch, was.BaseSequence, was.CRC
		if h != was {
			t.Fatalf("header %+v, was %+v", h, was)
		}
	}
}

func TestSetPlace_IsNotInTheChecksum(t *testing.T) {
	raw := mustEncode(t, makeRecords(rand.New(rand.NewPCG(9, 9)), 3, 10), None, Stamp{1, 2, 3})
	SetPlace(raw, 77, -1)
	h, err := ParseHeader(raw)
	if err != nil || !VerifyCRC(raw) || h.BaseOffset != 77 || h.LeaderEpoch != -1 {
		t.Errorf("%+v, %v", h, err)
	}
}
