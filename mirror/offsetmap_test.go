package mirror

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveMap is an offset map as a list of pairs.
type naiveMap map[[2]int64]Run // source and target of a record → its fact

func (n naiveMap) add(r Run) {
	for i := range r.Records {
		key := [2]int64{r.Source + i, r.Target + i}
		if _, ok := n[key]; !ok {
			n[key] = r.slice(r.Source+i, r.Source+i+1)
		}
	}
}

func (n naiveMap) first(side int, from int64) (best int64, ok bool) {
	for k := range n {
		if k[side] >= from && (!ok || k[1-side] < best) {
			best, ok = k[1-side], true
		}
	}
	return best, ok
}

func (n naiveMap) end() (end int64, ok bool) {
	for k := range n {
		end, ok = max(end, k[1]+1), true
	}
	return end, ok
}

// sameAs compares everything a map answers with the naive one.
func (n naiveMap) sameAs(t *testing.T, m *OffsetMap) {
	t.Helper()
	if m.Records() != int64(len(n)) {
		t.Errorf("%d records, want %d", m.Records(), len(n))
	}
	for at := int64(0); at < 80; at++ {
		if got, ok := m.Forward(at); true {
			if want, wantOK := n.first(0, at); got != want || ok != wantOK {
				t.Fatalf("forward %d: %d %v, want %d %v: %+v", at, got, ok, want, wantOK, m.list())
			}
		}
		if got, ok := m.Inverse(at); true {
			if want, wantOK := n.first(1, at); got != want || ok != wantOK {
				t.Fatalf("inverse %d: %d %v, want %d %v: %+v", at, got, ok, want, wantOK, m.list())
			}
		}
	}
	if got, ok := m.End(); true {
		if want, wantOK := n.end(); got != want || ok != wantOK {
			t.Errorf("end %d %v, want %d %v", got, ok, want, wantOK)
		}
	}
	for _, from := range []int64{0, 17, 40} {
		got := make(naiveMap)
		for _, r := range m.Since(from) {
			if r.Source < from {
				t.Errorf("since %d: run at %d", from, r.Source)
			}
			got.add(r)
		}
		for k := range n {
			if _, ok := got[k]; ok != (k[0] >= from) {
				t.Errorf("since %d: record %v is there: %v", from, k, ok)
			}
		}
	}
	for _, r := range m.list() {
		for j := range r.Records {
			if want := n[[2]int64{r.Source + j, r.Target + j}]; want != r.slice(r.Source+j, r.Source+j+1) {
				t.Errorf("record %d of %+v, want %+v", j, r, want)
			}
		}
	}
}

func FuzzOffsetMap(f *testing.F) {
	f.Add([]byte{0, 0, 5, 5, 5, 5, 20, 30, 9})
	f.Add([]byte{10, 10, 30, 0, 0, 40, 15, 10, 20})
	f.Add([]byte{0, 0, 10, 20, 20, 10, 10, 10, 10})
	f.Add([]byte{0, 0, 60, 50, 60, 5, 50, 51, 20, 55, 56, 5})
	f.Add([]byte{0, 0, 11, 5, 6, 1, 8, 8, 1}) // known, though it looks like a continuation
	f.Fuzz(func(t *testing.T, data []byte) {
		var m OffsetMap
		n := make(naiveMap)
		for ; len(data) >= 3 && len(n) < 400; data = data[3:] {
			r := Run{Source: int64(data[0] % 64), Target: int64(data[1] % 64), Records: int64(data[2] % 12), Origin: "eu"}
			r.Count = r.Source // a fact has one count, or it would be another one
			m.Add(r)
			n.add(r)
		}
		n.sameAs(t, &m)
		for i := 1; i < len(m.list()); i++ {
			if m.list()[i-1].continues(m.list()[i]) {
				t.Errorf("runs %+v and %+v are one", m.list()[i-1], m.list()[i])
			}
		}
		m.DropBefore(20, 30)
		for k := range n {
			kept := slices.ContainsFunc(m.list(), func(r Run) bool {
				return r.Source <= k[0] && k[0] < r.sourceEnd() && r.Target-r.Source == k[1]-k[0]
			})
			if !kept && (k[0] >= 20 || k[1] >= 30) {
				t.Errorf("record %v was dropped though one side still has it", k)
			}
			if !kept {
				delete(n, k)
			}
		}
		n.sameAs(t, &m)
	})
}

// Two owners saw overlapping parts of one history; merged in any order the maps are
// what one who saw everything has.
func TestOffsetMap_MergeOfTwoOwners(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		var facts []Run
		var at Run
		for range 30 {
			at = Run{Source: at.sourceEnd() + int64(rng.IntN(2)), Target: at.targetEnd() + int64(rng.IntN(3)), Records: 1 + int64(rng.IntN(5)), Count: at.Count + at.Records}
			facts = append(facts, at)
		}
		var whole, merged OffsetMap
		for _, r := range facts {
			whole.Add(r)
		}
		cut := 5 + rng.IntN(20)
		parts := slices.Concat(facts[:cut+3], facts[cut:])
		if rng.IntN(2) == 0 {
			rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		}
		for _, r := range parts {
			merged.Add(r)
		}
		if !slices.Equal(whole.list(), merged.list()) || merged.unordered {
			t.Fatalf("merged %+v\nwhole %+v", merged.list(), whole.list())
		}
	}
}

func TestOffsetMap_DropBeforeRestoresOrder(t *testing.T) {
	var m OffsetMap
	m.Add(Run{Source: 0, Target: 50, Records: 5})
	m.Add(Run{Source: 5, Target: 10, Records: 5})
	m.Add(Run{Source: 20, Target: 60, Records: 5})
	if !m.unordered {
		t.Fatal("targets go back, the map does not know")
	}
	m.DropBefore(5, 60)
	if m.unordered || m.Len() != 2 {
		t.Errorf("%d runs, unordered %v", m.Len(), m.unordered)
	}
}

func TestCounted(t *testing.T) {
	runs := []Run{{Source: 0, Target: 0, Records: 10, Origin: "eu"}, {Source: 12, Target: 10, Records: 5, Origin: "eu", Count: 10},
		{Source: 8, Target: 20, Records: 4, Origin: "eu", Count: 8}, {Source: 17, Target: 15, Records: 3, Origin: "ap", Count: 9}}
	want := []Run{{Source: 7, Target: 7, Records: 3, Origin: "eu", Count: 7}, {Source: 10, Target: 22, Records: 2, Origin: "eu", Count: 10},
		{Source: 12, Target: 10, Records: 2, Origin: "eu", Count: 10}}
	if got := inSourceOrder(countedOf(nil, runs, "eu", 7, 12)); !slices.Equal(got, want) {
		t.Errorf("counted 7 to 12 are %+v, want %+v", got, want)
	}
}

func TestOffsetMap_HoledTellsMarkersFromWhatIsKnown(t *testing.T) {
	run := func(source, records, count int64) Run {
		return Run{Source: source, Target: 1000 + count, Records: records, Origin: "eu", Count: count}
	}
	for _, tc := range []struct {
		name string
		runs []Run
		gone []span
		want bool
	}{
		{"dense", []Run{run(0, 10, 0)}, nil, false},
		{"a marker", []Run{run(0, 10, 0), run(11, 5, 10)}, nil, true},
		{"copied, not mapped", []Run{run(0, 10, 0), run(15, 5, 15)}, nil, false},
		{"deleted, in the ledger", []Run{run(0, 10, 0), run(30, 5, 10)}, []span{{10, 20}}, false},
		{"both", []Run{run(0, 10, 0), run(30, 5, 14)}, []span{{14, 16}}, false},
		{"less in the ledger", []Run{run(0, 10, 0), run(30, 5, 10)}, []span{{11, 40}}, true},
	} {
		var m OffsetMap
		for _, r := range tc.runs {
			m.Add(r)
		}
		if got := m.holed(tc.gone); got != tc.want {
			t.Errorf("%s: holed = %v, want %v (runs %v, gone %v)", tc.name, got, tc.want, m.list(), tc.gone)
		}
	}
}
