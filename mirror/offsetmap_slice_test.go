package mirror

import (
	"cmp"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// sliceMap is an offset map as simple as can be: a sorted list of runs that every question goes over.
type sliceMap struct{ runs []Run }

func (m *sliceMap) add(r Run) {
	if n := len(m.runs); n > 0 && m.runs[n-1].continues(r) {
		m.runs[n-1].Records += r.Records
		return
	}
	var pieces []Run // of the records that are not known
	for i := range r.Records {
		one := r.slice(r.Source+i, r.Source+i+1)
		switch n := len(pieces); {
		case slices.ContainsFunc(m.runs, func(k Run) bool {
			return k.Target-k.Source == one.Target-one.Source && k.Source <= one.Source && one.Source < k.sourceEnd()
		}):
		case n > 0 && pieces[n-1].continues(one):
			pieces[n-1].Records++
		default:
			pieces = append(pieces, one)
		}
	}
	for _, p := range pieces {
		m.put(p)
	}
}

func (m *sliceMap) put(r Run) {
	at, _ := slices.BinarySearchFunc(m.runs, r, func(a, b Run) int { return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target)) })
	m.runs = slices.Insert(m.runs, at, r)
	for _, i := range []int{at + 1, at} {
		if i > 0 && i < len(m.runs) && m.runs[i-1].continues(m.runs[i]) {
			m.runs[i-1].Records += m.runs[i].Records
			m.runs = slices.Delete(m.runs, i, i+1)
		}
	}
}

func (m *sliceMap) lookup(side int, at int64, origin string) (best int64, ok bool) {
	for _, r := range m.runs {
		if to := r.start(1-side) + max(0, at-r.start(side)); r.end(side) > at && (origin == "" || origin == r.Origin) && (!ok || to < best) {
			best, ok = to, true
		}
	}
	return best, ok
}

func (m *sliceMap) keep(left func(Run) Run) {
	var kept []Run
	for _, r := range m.runs {
		if r = left(r); r.Records > 0 {
			kept = append(kept, r)
		}
	}
	m.runs = kept
}

// like compares all that the two answer.
func (m *sliceMap) like(t *testing.T, o *OffsetMap) {
	t.Helper()
	if got := o.list(); !slices.Equal(got, m.runs) {
		t.Fatalf("the runs are\n%v, want\n%v", got, m.runs)
	}
	records, end := int64(0), int64(0)
	for _, r := range m.runs {
		records, end = records+r.Records, max(end, r.targetEnd())
	}
	if got, ok := o.End(); o.Len() != len(m.runs) || o.Records() != records || got != end || ok != (len(m.runs) > 0) {
		t.Fatalf("%d runs, %d records, end %d %v, want %d, %d, %d", o.Len(), o.Records(), got, ok, len(m.runs), records, end)
	}
	if first, ok := o.First(); ok != (len(m.runs) > 0) || ok && first != m.runs[0].Source {
		t.Fatalf("the first is %d %v", first, ok)
	}
	for at := int64(-1); at < 700; at += 3 {
		for side := range 2 {
			for _, origin := range []string{"", "eu", "ap", "nobody"} {
				want, wantOK := m.lookup(side, at, origin)
				if got, ok := o.lookup(side, at, origin); got != want || ok != wantOK {
					t.Fatalf("%d on side %d is %d %v of %q, want %d %v (unordered %v): %v", at, side, got, ok, origin, want, wantOK, o.unordered, m.runs)
				}
			}
		}
		i := slices.IndexFunc(m.runs, func(r Run) bool { return r.Target <= at && at < r.targetEnd() })
		if got, ok := o.SourceOf(at); ok != (i >= 0) || ok && got != m.runs[i].Source+at-m.runs[i].Target {
			t.Fatalf("target offset %d is of %d %v, want it of run %d of %v", at, got, ok, i, m.runs)
		}
	}
	for _, from := range []int64{0, 100, 333} {
		var since sliceMap
		since.runs = slices.Clone(m.runs)
		since.keep(func(r Run) Run { return r.slice(from, r.sourceEnd()) })
		if got := o.Since(from); !slices.Equal(got, since.runs) {
			t.Fatalf("since %d: %v, want %v", from, got, since.runs)
		}
		if got, want := o.counted(nil, "eu", from, from+50), countedOf(nil, m.runs, "eu", from, from+50); !slices.Equal(got, want) {
			t.Fatalf("counted from %d: %v, want %v", from, got, want)
		}
	}
}

// Whatever is done to it, the map in blocks is the list of runs, and what is read back of what is written of it too.
func FuzzOffsetMap_IsTheListOfItsRuns(f *testing.F) {
	f.Add([]byte{3, 0, 0, 2, 3, 200, 90, 1, 0, 5, 5, 9, 7, 60, 40, 0})
	f.Add([]byte{3, 0, 100, 2, 3, 0, 0, 2, 3, 50, 50, 3, 6, 0, 90, 40, 3, 10, 10, 1, 7, 99, 99, 0})
	f.Add([]byte{3, 100, 0, 1, 0, 1, 1, 1, 4, 0, 0, 2, 3, 0, 200, 5, 5, 120, 90, 0, 3, 90, 90, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		var o OffsetMap
		var m sliceMap
		epoch := int16(0)
		add := func(source, target, records int64, origin string) {
			r := Run{Source: source, Target: target, Records: records, Origin: origin, Epoch: epoch, Count: source}
			o.Add(r)
			m.add(r)
		}
		for ; len(data) >= 4 && len(m.runs) < 300; data = data[4:] {
			a, b, c := int64(data[1]), int64(data[2]), int64(data[3])
			switch data[0] % 8 {
			case 0, 1:
				add(a, b, 1+c%20, "eu")
			case 2:
				add(a+256, b, 1+c%5, []string{"eu", "ap", "us", "sa", "af", "me"}[c%6])
			case 3, 4: // a stretch of runs with markers between them
				for i := range 10 + c%64 {
					add(a+4*i, b+3*i, 3, "eu")
				}
			case 5:
				o.dropFrom(2 * a)
				m.keep(func(r Run) Run { return r.slice(r.Source, 2*a) })
			case 6:
				i := Incarnation{Epoch: epoch + 1, Lanes: []Lane{{Origin: "eu"}}, anchor: &anchorage{sourceCut: 2 * a, targetCut: noCut}}
				if c%2 == 0 {
					i.anchor.targetCut = 2 * b
				}
				epoch++
				o.cut(i)
				m.keep(i.keeps)
			case 7:
				o.DropBefore(a, b)
				m.keep(func(r Run) Run {
					if r.sourceEnd() <= a && r.targetEnd() <= b {
						r.Records = 0
					}
					return r
				})
			}
		}
		m.like(t, &o)
		var stored []durableChunk
		for k, c := range cutUp(mapChunk{Pump: somePump, Runs: m.runs}) {
			if stored = append(stored, durableChunk{value: c.encode()}); k%2 == 0 {
				stored[k].value = c.encodeOld()
			}
		}
		slices.Reverse(stored)
		read, err := mapOf(stored, nil)
		if err != nil {
			t.Fatal(err)
		}
		var again sliceMap
		for _, r := range m.runs { // what a cut has left may be joined
			again.add(r)
		}
		if got := read.list(); !slices.Equal(got, again.runs) {
			t.Fatalf("read back\n%v, want\n%v", got, again.runs)
		}
	})
}

// transactional is the map of a source whose transactions have about a hundred records: a marker behind each.
func transactional(runs int, regular bool) (out []Run) {
	rng := rand.New(rand.NewPCG(6, 6))
	var at Run
	for range runs {
		n := int64(100)
		if !regular {
			n = 50 + int64(rng.IntN(100))
		}
		at = Run{Source: at.sourceEnd() + 1, Target: at.targetEnd(), Records: n, Origin: "eu", Count: at.Count + at.Records}
		out = append(out, at)
	}
	return out
}

func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A million runs: at most 24 bytes of memory and 4 of storage for each.
func TestOffsetMap_OfAMillionRunsIsSmall(t *testing.T) {
	runs := transactional(1_000_000, false)
	before := heapBytes()
	var m OffsetMap
	for _, r := range runs {
		m.Add(r)
	}
	memory := float64(heapBytes()-before) / float64(len(runs))
	stored := 0
	for _, c := range cutUp(mapChunk{Pump: somePump, Runs: runs}) {
		stored += len(c.encode())
	}
	disk := float64(stored) / float64(len(runs))
	t.Logf("%.2f bytes of memory and %.2f of storage for a run", memory, disk)
	if memory > 24 || disk > 4 {
		t.Errorf("%.2f bytes of memory and %.2f of storage for a run, want at most 24 and 4", memory, disk)
	}
	runtime.KeepAlive(&m)
	runtime.KeepAlive(runs)
}

func BenchmarkOffsetMap(b *testing.B) {
	const many = 1_000_000
	runs := transactional(many, false)
	var m OffsetMap
	for _, r := range runs {
		m.Add(r)
	}
	sources, targets := runs[many-1].sourceEnd(), runs[many-1].targetEnd()
	var chunks []durableChunk
	for _, c := range cutUp(mapChunk{Pump: somePump, Runs: runs}) {
		chunks = append(chunks, durableChunk{value: c.encode()})
	}
	broken := m
	broken.blocks, broken.tail = slices.Clone(m.blocks), slices.Clone(m.tail)
	broken.Add(Run{Source: sources, Target: 5, Records: 10, Origin: "eu"})
	if !broken.unordered {
		b.Fatal("in order")
	}
	for _, tc := range []struct {
		name string
		of   *OffsetMap
		most int64
		ask  func(*OffsetMap, int64) (int64, bool)
	}{{"Forward", &m, sources, (*OffsetMap).Forward}, {"Inverse", &m, targets, (*OffsetMap).Inverse}, {"SourceOf", &m, targets, (*OffsetMap).SourceOf},
		{"ForwardUnordered", &broken, sources, (*OffsetMap).Forward}} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				tc.ask(tc.of, rng.Int64N(tc.most))
			}
		})
	}
	b.Run("Add", func(b *testing.B) {
		b.ReportAllocs()
		var m OffsetMap
		var at Run
		for b.Loop() {
			at = Run{Source: at.sourceEnd() + 1, Target: at.targetEnd(), Records: 100, Origin: "eu", Count: at.Count + at.Records}
			m.Add(at)
		}
	})
	b.Run("LoadMillion", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if m, err := mapOf(chunks, nil); err != nil || m.Len() != many {
				b.Fatal(m.Len(), err)
			}
		}
		b.ReportMetric(float64(len(chunks)), "chunks")
	})
	b.Run("LoadMillionOfTwoOwners", func(b *testing.B) {
		b.ReportAllocs()
		twice := slices.Concat(chunks, chunks)
		for b.Loop() {
			if m, err := mapOf(twice, nil); err != nil || m.Len() != many {
				b.Fatal(m.Len(), err)
			}
		}
	})
	b.Run("DropMillionBefore", func(b *testing.B) {
		for b.Loop() {
			m := m
			m.DropBefore(sources/2, targets/2)
		}
	})
}

// Wherever a map is cut, at either end or in the middle of a block, it is the list of its runs, and so is what is added then.
func TestOffsetMap_CutAnywhereIsTheListOfItsRuns(t *testing.T) {
	const all = 5 * blockRuns
	var places []int64
	for at := int64(0); at <= 4*all; at += 37 {
		places = append(places, at, at/(4*blockRuns)*4*blockRuns) // and between blocks
	}
	for _, at := range places {
		for name, drop := range map[string]struct {
			of   func(*OffsetMap)
			list func(Run) Run
		}{
			"before": {func(m *OffsetMap) { m.DropBefore(at, 3*at/4) }, func(r Run) Run {
				if r.sourceEnd() <= at && r.targetEnd() <= 3*at/4 {
					r.Records = 0
				}
				return r
			}},
			"from": {func(m *OffsetMap) { m.dropFrom(at) }, func(r Run) Run { return r.slice(r.Source, at) }},
		} {
			var o OffsetMap
			var m sliceMap
			add := func(r Run) {
				o.Add(r)
				m.add(r)
			}
			for i := range int64(all) {
				add(run(4*i, 3*i, 3))
			}
			drop.of(&o)
			m.keep(drop.list)
			m.like(t, &o)
			add(run(4*all, 3*all, 5))
			add(run(at, at, 2))
			if m.like(t, &o); t.Failed() {
				t.Fatalf("%s %d", name, at)
			}
		}
	}
}
