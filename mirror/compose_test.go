package mirror

import "testing"

// relayed is three logs that records go along, A→B→C, one number for each record, and holes (-1). What is known of a record's way is what was
// true when it was copied: holes come later too.
type relayed struct {
	a, b, c  []int
	ab, bc   OffsetMap
	ofB, ofC [][2]int // offset → the copied offset, of each copy
	nextA    int
	nextB    int
	n        int
}

func (w *relayed) produce(log *[]int, own bool) {
	w.n++
	if own {
		*log = append(*log, w.n)
		return
	}
	*log = append(*log, -1)
}

func hop(from []int, next *int, to *[]int, m *OffsetMap, of *[][2]int) {
	if *next >= len(from) {
		return
	}
	if r := from[*next]; r >= 0 {
		m.Add(Run{Source: int64(*next), Target: int64(len(*to)), Records: 1, Origin: "x", Count: int64(len(*of))})
		*of = append(*of, [2]int{len(*to), *next})
		*to = append(*to, r)
	}
	*next++
}

// place is by going over all records: the least offset of C that holds a copy of what lies on B at or after the least copy of what lies
// on A at or after at.
func (w *relayed) place(at int) (c int, ok bool) {
	b, c := -1, -1
	for _, k := range w.ofB {
		if k[1] >= at && (b < 0 || k[0] < b) {
			b = k[0]
		}
	}
	for _, k := range w.ofC {
		if b >= 0 && k[1] >= b && (c < 0 || k[0] < c) {
			c = k[0]
		}
	}
	return c, c >= 0
}

func (w *relayed) check(t *testing.T, ordered bool) {
	t.Helper()
	for at := range len(w.a) + 2 {
		want, wantOK := w.place(at)
		got, exact, ok := Compose(&w.ab, &w.bc, int64(at))
		if ok != wantOK || ok && got != int64(want) {
			t.Fatalf("%d on A is %d %v on C, want %d %v\nA %v\nB %v\nC %v", at, got, ok, want, wantOK, w.a, w.b, w.c)
		}
		there := false // the record at the offset is at got
		for _, ab := range w.ofB {
			for _, bc := range w.ofC {
				if ab[1] >= at && ab[0] == bc[1] && ok && int64(bc[0]) < got {
					t.Fatalf("%d on A is %d on C, which skips offset %d of A at %d", at, got, ab[1], bc[0])
				}
				there = there || ab[1] == at && ab[0] == bc[1] && int64(bc[0]) == got
			}
		}
		if exact && !there || ordered && ok && there != exact {
			t.Fatalf("%d on A is %d on C, exact %v, but the record is there: %v", at, got, exact, there)
		}
	}
}

func (w *relayed) step(what byte) (ordered bool) {
	switch what % 9 {
	case 0, 1:
		w.produce(&w.a, true)
	case 2: // a marker
		w.produce(&w.a, false)
	case 3: // B's own
		w.produce(&w.b, what%2 == 0)
	case 4: // C's own
		w.produce(&w.c, true)
	case 5, 6:
		for range 1 + what%4 {
			hop(w.a, &w.nextA, &w.b, &w.ab, &w.ofB)
		}
	case 7:
		for range 1 + what%4 {
			hop(w.b, &w.nextB, &w.c, &w.bc, &w.ofC)
		}
	case 8: // a cleaner takes something, before or after it is copied
		for _, log := range [][]int{w.a, w.b} {
			if len(log) > 0 {
				log[int(what)%len(log)] = -1
			}
		}
		if what > 200 && w.nextA > 0 { // and the first link breaks the order: copies again
			w.nextA -= min(w.nextA, 3)
			return false
		}
	}
	return true
}

func FuzzCompose(f *testing.F) {
	f.Add([]byte{0, 0, 2, 0, 5, 5, 3, 5, 4, 7, 7, 0, 8, 6, 7, 16, 16})
	f.Add([]byte{0, 1, 0, 1, 5, 5, 3, 206, 5, 5, 7, 7, 16, 34, 4, 7})
	f.Add([]byte{2, 2, 0, 6, 15, 7, 4, 4, 16, 0, 0, 0, 24, 7, 16, 26, 215, 24, 33, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		var w relayed
		ordered := true
		for _, b := range data[:min(len(data), 150)] {
			ordered = w.step(b) && ordered
		}
		w.check(t, ordered)
	})
}

// From eu over us to ap: us has a record of its own at offset 2, and lost its offset 5 to a cleaner before ap got it; ap has one of its own first.
func TestCompose(t *testing.T) {
	var ab, bc OffsetMap
	for _, r := range []Run{run(0, 0, 2), run(3, 3, 3), run(10, 6, 2)} { // 2 and 6 to 9 are holes of eu
		ab.Add(r)
	}
	for _, r := range []Run{run(0, 1, 5), run(6, 6, 1)} {
		bc.Add(r)
	}
	for _, tc := range []struct {
		name  string
		at, c int64
		exact bool
		ok    bool
	}{
		{"a record", 0, 1, true, true},
		{"behind the middle's own", 3, 4, true, true},
		{"a hole of the source: as the record behind it", 2, 4, false, true},
		{"a record that the middle lost", 5, 6, false, true},
		{"a hole, and what is behind it", 7, 6, false, true},
		{"a record behind it", 10, 6, true, true},
		{"in the middle, not at the end of the way", 11, 0, false, false},
		{"the log end", 12, 0, false, false},
	} {
		if c, exact, ok := Compose(&ab, &bc, tc.at); c != tc.c || exact != tc.exact || ok != tc.ok {
			t.Errorf("%s: offset %d is %d, exact %v, %v, want %d, %v, %v", tc.name, tc.at, c, exact, ok, tc.c, tc.exact, tc.ok)
		}
	}
}
