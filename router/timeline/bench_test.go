package timeline

import (
	"fmt"
	"testing"
)

// many is a map of so many runs, as of a source with a marker every hundred records; jumps says whether one lies before the others.
func many(b testing.TB, n int, jumps bool) (Timeline, map[int64][]Run, *Map) {
	line, err := Begin(0, "eu", 0).Next(Planned("us", int64(n)*101, int64(n)*100+1000))
	if err != nil {
		b.Fatal(err)
	}
	runs := make([]Run, n)
	for i := range runs {
		runs[i] = Run{From: int64(i) * 101, To: int64(i)*100 + 500, Count: 100}
	}
	if jumps {
		runs[n/2].To = 0
	}
	all := map[int64][]Run{0: runs}
	m, err := Build(line, all)
	if err != nil {
		b.Fatal(err)
	}
	return line, all, m
}

func TestMap_LookUpsDoNotAllocate(t *testing.T) {
	for _, jumps := range []bool{false, true} {
		_, _, m := many(t, 1000, jumps)
		kept := Commit{Virtual: 5000, Real: 5000}
		if n := testing.AllocsPerRun(100, func() {
			p, _ := m.Place(40_000, 600)
			_, _, _ = p.Batch(1, 2), p.Offset(3), m.Least(700)
			_, _, _ = m.Below(800), m.Start(900), m.Commit(1000)
			_, _ = m.Committed(5400, &kept)
		}); n > 0 {
			t.Errorf("jumps %v: %v allocations", jumps, n)
		}
	}
}

func BenchmarkMap(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		for _, jumps := range []bool{false, true} {
			line, runs, m := many(b, n, jumps)
			end := int64(n) * 101
			for name, look := range map[string]func(int64) int64{
				"place": func(v int64) int64 { p, _ := m.Place(v, 0); return p.Real },
				"least": m.Least,
				"below": m.Below,
			} {
				b.Run(fmt.Sprintf("%s/%d/jumps=%v", name, n, jumps), func(b *testing.B) {
					b.ReportAllocs()
					sum, v := int64(0), int64(0)
					for b.Loop() {
						v = (v*6364136223846793005 + 1442695040888963407) & (1<<62 - 1)
						sum += look(v % end)
					}
					if sum < 0 {
						b.Error(sum)
					}
				})
			}
			b.Run(fmt.Sprintf("build/%d/jumps=%v", n, jumps), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Build(line, runs); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
