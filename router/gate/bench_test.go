package gate

import "testing"

func TestGate_DoesNotAllocate(t *testing.T) {
	left := many(1000)
	g := newGate(t, left...)
	i := 0
	if n := testing.AllocsPerRun(500, func() {
		p := &left[i%len(left)]
		b := Batch{ID: p.ID, First: after(p.Last, 1), Records: 10}
		g.Batch(1, b)
		g.Batch(1, Batch{ID: p.ID, First: p.Batches[0].First, Records: 100})
		g.Batch(1, Batch{ID: 5})
		g.Acked(b)
		i++
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGate(b *testing.B) {
	left := many(100_000)
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newGate(b, left...)
		}
	})
	g := newGate(b, left...)
	i := 0
	b.Run("follows", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := &left[i*7919%len(left)]
			g.Batch(uint64(i), Batch{ID: p.ID, First: after(p.Last, 1), Records: 10})
			i++
		}
	})
	b.Run("repeated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := &left[i*7919%len(left)]
			g.Batch(1, Batch{ID: p.ID, First: p.Batches[0].First, Records: 100})
			i++
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.Batch(1, Batch{ID: int64(i), First: 5, Records: 10})
			i++
		}
	})
	b.Run("all-leave", func(b *testing.B) { // per producer
		b.ReportAllocs()
		n := 0
		g := newGate(b, left...)
		for b.Loop() {
			if n == len(left) {
				g, n = newGate(b, left...), 0
			}
			for k := range int32(Remembered) {
				g.Acked(Batch{ID: left[n].ID, First: after(left[n].Last, int64(k)+1), Records: 1})
			}
			n++
		}
	})
	b.Run("merge", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Merge(left, left[:1000], 0)
		}
	})
	parts := []Partition{{"orders", 0, left}}
	chunks, err := Encode(parts)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Encode(parts); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, c := range chunks {
				if _, err := Decode(c); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
