package batch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// ofSize makes one uncompressed batch of about n bytes.
func ofSize(tb testing.TB, n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var recs []Record
	for size := 0; size < n; size += 1000 {
		v := make([]byte, min(990, n))
		for i := range v {
			v[i] = byte(r.Uint32())
		}
		recs = append(recs, Record{Timestamp: 1_700_000_000_000, Value: v})
	}
	return mustEncode(tb, recs, None, Stamp{})
}

func BenchmarkNext(b *testing.B) {
	for _, size := range []int{13_000, 200_000} {
		one := ofSize(b, size)
		var all []byte
		for len(all) < 1<<20 {
			all = append(all, one...)
		}
		b.Run(fmt.Sprintf("MB/%dkB", size/1000), func(b *testing.B) {
			b.SetBytes(int64(len(all)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := all; len(rest) > 0; {
					_, _, after, err := Next(rest)
					if err != nil {
						b.Fatal(err)
					}
					rest = after
				}
			}
		})
	}
}

func BenchmarkPatch(b *testing.B) {
	for _, size := range []int{1000, 13_000, 200_000, 1 << 20} {
		raw := ofSize(b, size)
		b.Run(fmt.Sprintf("%dkB", size/1000), func(b *testing.B) {
			b.ReportAllocs()
			var seq int32
			for b.Loop() {
				seq++
				Patch(raw, Stamp{ProducerID: 1 << 62, Sequence: seq})
			}
		})
	}
}

func BenchmarkVerifyCRC(b *testing.B) {
	raw := ofSize(b, 200_000)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		VerifyCRC(raw)
	}
}

func BenchmarkDecode(b *testing.B) {
	benchCodecs(b, func(b *testing.B, recs []Record, raw []byte, _ Codec) {
		for b.Loop() {
			if _, err := Decode(raw, testLimit); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	benchCodecs(b, func(b *testing.B, recs []Record, raw []byte, c Codec) {
		dst := make([]byte, 0, 2*len(raw))
		for b.Loop() {
			if _, err := Encode(dst, recs, c, Stamp{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchCodecs(b *testing.B, f func(*testing.B, []Record, []byte, Codec)) {
	recs := makeRecords(rand.New(rand.NewPCG(1, 1)), 200, 1000)
	for _, c := range allCodecs {
		raw := mustEncode(b, recs, c, Stamp{})
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(mustEncode(b, recs, None, Stamp{}))))
			b.ReportAllocs()
			f(b, recs, raw, c)
		})
	}
}
