package timeline

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// back is the timeline of doc.go: eu was lost with a tail of 100..109, of which the mirror brought 100..104 to us as 1005..1009 and the rest later; us moved back as planned
// when eu had all of it behind its tail: 1000..1004 as 110..114, and 1020..1029 as 120..129. What lies at eu from 115 to 119 is of nobody.
func back(t *testing.T) *Map {
	t.Helper()
	line := next(t, Begin(0, "eu", 0), Change{Home: "us", End: 100, Bound: 150, First: 150, Real: 1000, Own: 1000})
	line = next(t, line, Planned("eu", 180, 130))
	m, err := Build(line, map[int64][]Run{1: {{1020, 120, 10}, {1000, 110, 5}, {1005, 100, 10}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBuild_LateTailAndBack(t *testing.T) {
	m := back(t)
	want := []Piece{{0, 0, 100}, {150, 110, 5}, {155, 100, 10}, {170, 120, 10}, {180, 130, 0}}
	got := slices.Collect(m.All())
	if n := len(got) - 1; n < 0 || got[n].Count < 1<<61 {
		t.Fatalf("got %+v, and the last has an end", got)
	}
	want[4].Count = 0
	if last := got[3]; last.Count > 10 { // the last two continue each other
		want = append(want[:3], Piece{170, 120, last.Count})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if m.Generation() != 2 || m.Len() != 4 || m.Moved() != 0 {
		t.Errorf("generation %d, %d pieces, %d moved", m.Generation(), m.Len(), m.Moved())
	}
	if gaps := m.Gaps(50, 130); !reflect.DeepEqual(gaps, []Piece{{0, 115, 5}}) {
		t.Errorf("gaps %+v", gaps)
	}
	if gaps := m.Gaps(9, 9); len(gaps) > 0 {
		t.Errorf("gaps %+v in nothing", gaps)
	}
}

func TestMap_Place(t *testing.T) {
	const open = math.MaxInt64
	m := back(t)
	for _, c := range []struct {
		name     string
		v, start int64
		want     Place
		ok       bool
	}{
		{"inside", 42, 0, Place{42, 42, 0, 100, 100}, true},
		{"the last before the lost tail", 99, 0, Place{99, 99, 0, 100, 100}, true},
		{"in the hole", 104, 0, Place{150, 110, 110, 115, 155}, true},
		{"before the tail", 154, 0, Place{154, 114, 110, 115, 155}, true},
		{"the tail jumps back", 155, 0, Place{155, 100, 100, 110, 165}, true},
		{"in the tail", 160, 0, Place{160, 105, 100, 110, 165}, true},
		{"behind the tail, where nothing is", 165, 0, Place{170, 120, 120, open, open}, true},
		{"in the generation that goes on", 185, 0, Place{185, 135, 120, open, open}, true},
		{"above all logs", math.MaxInt64, 0, Place{1 << 61, 1<<61 - 50, 120, open, open}, true},
		{"negative", -7, 0, Place{0, 0, 0, 100, 100}, true},
		{"log start in the first piece", 60, 50, Place{60, 60, 0, 100, 100}, true},
		{"before the log start", 40, 50, Place{50, 50, 0, 100, 100}, false},
		{"the first piece is deleted", 40, 100, Place{150, 110, 110, 115, 155}, false},
		{"in a hole above the start", 120, 105, Place{150, 110, 110, 115, 155}, false},
		{"half of the tail is deleted", 156, 105, Place{160, 105, 100, 110, 165}, true},
		{"the tail is deleted", 156, 112, Place{170, 120, 120, open, open}, true},
		{"all is deleted", 156, 140, Place{190, 140, 120, open, open}, false},
	} {
		if got, ok := m.Place(c.v, c.start); got != c.want || ok != c.ok {
			t.Errorf("%s: %d from %d on: %+v, %v, want %+v, %v", c.name, c.v, c.start, got, ok, c.want, c.ok)
		}
	}
}

func TestMap_ToVirtualAndBack(t *testing.T) {
	m := back(t)
	for real, want := range map[int64]int64{0: 0, 99: 99, 100: 150, 105: 150, 109: 150, 112: 152, 115: 170, 120: 170, 135: 185, -3: 0} {
		if got := m.Least(real); got != want {
			t.Errorf("least of %d: %d, want %d", real, got, want)
		}
	}
	for real, want := range map[int64]int64{0: 0, 1: 1, 50: 50, 100: 150, 114: 154, 116: 170, 140: 190} {
		if got := m.Start(real); got != want {
			t.Errorf("log start at %d: %d, want %d", real, got, want)
		}
	}
	for v, want := range map[int64]int64{0: 0, 42: 42, 100: 100, 120: 100, 152: 100, 155: 100, 160: 105, 165: 120, 175: 125, 200: 150} {
		if got := m.Below(v); got != want {
			t.Errorf("below %d: %d, want %d", v, got, want)
		}
	}
	// What was compacted before it was copied is no reason to tell a client that its position is out of range.
	line := next(t, Begin(0, "eu", 0), Planned("us", 100, 1000))
	m, err := Build(line, map[int64][]Run{0: {{From: 7, To: 905, Count: 90}}})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := m.Place(0, 0); !ok || p.Virtual != 7 || m.Start(905) != 0 || m.Start(906) != 8 {
		t.Errorf("place %+v, %v, log start %d and %d", p, ok, m.Start(905), m.Start(906))
	}
	if p, ok := m.Place(50, 1020); ok || p.Virtual != 120 || p.Real != 1020 {
		t.Errorf("place %+v, %v, behind all that was deleted", p, ok)
	}
}

func TestPlace_Batch(t *testing.T) {
	m := back(t)
	p, _ := m.Place(157, 0) // real 102 in 100..110
	for _, c := range []struct {
		first, last int64
		want        Show
	}{
		{95, 99, Before}, {98, 100, Part}, {100, 102, Whole}, {102, 109, Whole}, {108, 110, Part}, {110, 112, Behind}, {90, 120, Part},
	} {
		if got := p.Batch(c.first, c.last); got != c.want {
			t.Errorf("batch %d..%d: %d, want %d", c.first, c.last, got, c.want)
		}
	}
	for real, want := range map[int64]int64{100: 155, 102: 157, 109: 164, 90: 155, 110: 165, 500: 165} {
		if got := p.Offset(real); got != want {
			t.Errorf("offset of %d: %d, want %d", real, got, want)
		}
	}
}

func TestBuild_WhoHasARecord(t *testing.T) {
	// A record that eu had in its generation came late to us, so it is of the later generation, also back at eu.
	line := next(t, next(t, Begin(0, "eu", 0), Planned("us", 100, 1000)), Planned("eu", 120, 110))
	m, err := Build(line, map[int64][]Run{1: {{1000, 100, 10}, {1010, 40, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.All())[:4]; !reflect.DeepEqual(got, []Piece{{0, 0, 40}, {42, 42, 68}, {110, 40, 2}, {120, 110, got[3].Count}}) || m.Moved() != 2 {
		t.Errorf("got %+v, %d moved", got, m.Moved())
	}
	// At us both are in the generation that goes on: whatever earlier ones had behind its beginning is its own.
	m, err = Build(next(t, Begin(0, "eu", 0), Planned("us", 100, 1000)), map[int64][]Run{0: {{0, 900, 40}, {40, 1010, 2}, {42, 940, 58}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.All()); !reflect.DeepEqual(got[:2], []Piece{{0, 900, 40}, {42, 940, 58}}) || m.Moved() != 2 {
		t.Errorf("got %+v, %d moved", got, m.Moved())
	}
	// A tail that nobody else had gets its offsets in the new generation; what lies between and is of others does not.
	line = next(t, Begin(0, "eu", 0), Change{Home: "us", End: 100, Bound: 150, First: 150, Real: 1000, Own: 1000})
	line = next(t, line, Change{Home: "eu", End: 160, Bound: 200, First: 200, Real: 100, Own: 120})
	m, err = Build(line, map[int64][]Run{1: {{1000, 105, 3}, {1003, 110, 7}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.All()); !reflect.DeepEqual(got[:5], []Piece{{0, 0, 100}, {150, 105, 3}, {153, 110, 7}, {200, 100, 5}, {208, 108, 2}}) || got[5].Virtual != 217 {
		t.Errorf("got %+v", got)
	}
}

// TestBuild_TailKeepsItsOffsets: a tail that came back with its cluster has its offsets of that time also when the cluster is lost and comes back again, whatever lies
// in that stretch of its log that is of nobody.
func TestBuild_TailKeepsItsOffsets(t *testing.T) {
	line := next(t, Begin(0, "eu", 0), Change{Home: "us", End: 100, Bound: 150, First: 150, Real: 1000, Own: 1000})
	line = next(t, line, Change{Home: "eu", End: 150, Bound: 200, First: 200, Real: 100, Own: 120})
	line = next(t, line, Change{Home: "us", End: 250, Bound: 300, First: 300, Real: 1500, Own: 1500, Missing: []Span{{205, 207}}})
	line = next(t, line, Change{Home: "eu", End: 300, Bound: 400, First: 400, Real: 105, Own: 170})
	m, err := Build(line, map[int64][]Run{})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.All()); !reflect.DeepEqual(got, []Piece{{0, 0, 100}, {200, 100, 5}, {207, 107, 43}, {400, 105, 2}, {445, 150, got[4].Count}}) {
		t.Errorf("got %+v", got)
	}
}

func TestBuild_BadRuns(t *testing.T) {
	line := next(t, next(t, Begin(0, "eu", 0), Planned("us", 100, 1000)), Planned("eu", 120, 110))
	for _, c := range []struct {
		name string
		runs map[int64][]Run
		want string
	}{
		{"not loaded", nil, "the runs of generation 1 from us to eu are missing"},
		{"of the home itself", map[int64][]Run{0: {{0, 0, 1}}, 1: {}}, "runs of generation 0 were given"},
		{"negative", map[int64][]Run{1: {{-1, 5, 1}}}, "no run"},
		{"empty", map[int64][]Run{1: {{1000, 5, 0}}}, "no run"},
		{"far", map[int64][]Run{1: {{1000, 1 << 61, 1}}}, "no run"},
		{"two to one", map[int64][]Run{1: {{1000, 105, 3}, {1003, 107, 3}}}, "two of them lead to offset 107"},
	} {
		if _, err := Build(line, c.runs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Build(nil, nil); err == nil {
		t.Error("a map without a timeline")
	}
	m, err := Build(line, map[int64][]Run{1: {{990, 90, 15}, {1002, 105, 5}}}) // copied twice, and before its time
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(m.All()); !reflect.DeepEqual(got, []Piece{{0, 0, 105}, {105, 108, 2}, {120, 110, got[2].Count}}) {
		t.Errorf("got %+v", got)
	}
}

func TestMap_Committed(t *testing.T) {
	m := back(t)
	if c := m.Commit(160); c != (Commit{2, 160, 105}) {
		t.Errorf("commit of 160: %+v", c)
	}
	for _, c := range []struct {
		name  string
		real  int64
		kept  *Commit
		want  int64
		trust Trust
	}{
		{"nothing kept", 112, nil, 152, Translated},
		{"as it was committed here", 100, &Commit{2, 153, 100}, 153, Kept},
		{"here, by somebody else", 114, &Commit{2, 153, 100}, 154, Outside},
		{"here, back by somebody else", 20, &Commit{2, 153, 100}, 20, Outside},
		{"from before, and the mirror has brought it", 105, &Commit{1, 160, 1010}, 160, Kept},
		{"from before, brought into a hole", 117, &Commit{1, 167, 1017}, 167, Kept},
		{"from before, and the mirror was late", 90, &Commit{0, 95, 95}, 95, KeptAhead},
		{"from before, and somebody has gone on", 97, &Commit{0, 95, 95}, 97, Outside},
	} {
		if got, trust := m.Committed(c.real, c.kept); got != c.want || trust != c.trust {
			t.Errorf("%s: %d, %d, want %d, %d", c.name, got, trust, c.want, c.trust)
		}
	}
	ordered, err := Build(next(t, Begin(0, "eu", 0), Planned("us", 100, 1000)), map[int64][]Run{0: {{0, 800, 50}, {50, 900, 50}}})
	if err != nil {
		t.Fatal(err)
	}
	for real, want := range map[int64]Trust{850: Kept, 870: Kept, 900: Kept, 849: KeptAhead, 901: Outside} {
		if got, trust := ordered.Committed(real, &Commit{0, 50, 50}); trust != want || trust != Outside && got != 50 {
			t.Errorf("real %d: %d, %d, want %d", real, got, trust, want)
		}
	}
}

// TestMap_ParkedReaders: whoever stopped before, in or behind the tail when the home came back reads each record once from there on.
func TestMap_ParkedReaders(t *testing.T) {
	m := back(t)
	var order []int64 // real offsets of all records, as they were seen at us
	for _, p := range [][2]int64{{0, 100}, {110, 115}, {100, 110}, {120, 140}} {
		for o := p[0]; o < p[1]; o++ {
			order = append(order, o)
		}
	}
	for at, v := range map[int]int64{0: 0, 99: 99, 100: 100, 101: 151, 105: 155, 108: 158, 115: 165, 116: 171, 130: 185} {
		var seen []int64
		for ask, last := v, int64(-1); ask < 190; {
			p, _ := m.Place(ask, 0)
			for o := p.Real; o < min(p.End, 140); o++ {
				if p.Offset(o) <= last {
					t.Fatalf("virtual %d behind %d", p.Offset(o), last)
				}
				last, seen = p.Offset(o), append(seen, o)
			}
			ask = min(p.Next, 190)
		}
		if !slices.Equal(seen, order[at:]) {
			t.Errorf("from %d on: %d, want %d", v, seen, order[at:])
		}
	}
}
