package timeline

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func next(t *testing.T, line Timeline, c Change) Timeline {
	t.Helper()
	line, err := line.Next(c)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestTimeline_Next(t *testing.T) {
	begun := Begin(0, "eu", 0)
	moved := next(t, begun, Planned("us", 100, 1000))
	lost := next(t, moved, Change{Home: "asia", End: 150, Bound: 200, First: 201, Real: 40, Own: 50, Missing: []Span{{90, 95}, {120, 130}, {140, 150}, {125, 135}, {0, 3}}})
	want := Timeline{
		{Number: 0, Home: "eu", First: 0, Real: 0, Own: 0, End: 100, Bound: 100, Missing: []Span{{0, 3}, {90, 95}}},
		{Number: 1, Home: "us", First: 100, Real: 1000, Own: 1000, End: 140, Bound: 200, Missing: []Span{{120, 135}}},
		{Number: 2, Home: "asia", First: 201, Real: 40, Own: 50, End: Running},
	}
	if !reflect.DeepEqual(lost, want) {
		t.Errorf("got\n%+v, want\n%+v", lost, want)
	}
	if want := (Timeline{{Home: "eu", End: 100, Bound: 100}, {Number: 1, Home: "us", First: 100, Real: 1000, Own: 1000, End: Running}}); !reflect.DeepEqual(moved, want) {
		t.Errorf("the one before became\n%+v, want\n%+v", moved, want)
	}
	if g := lost[1]; g.Virtual(1007) != 107 || g.At(107) != 1007 {
		t.Errorf("offset 1007 is %d, and virtual 107 is %d", g.Virtual(1007), g.At(107))
	}
	for from, left := range map[int64]int{0: 3, 99: 3, 100: 2, 139: 2, 140: 1, 1 << 40: 1} {
		if n := len(lost.Since(from)); n != left {
			t.Errorf("since %d: %d generations, want %d", from, n, left)
		}
	}
}

func TestTimeline_ImpossibleOnes(t *testing.T) {
	begun := Begin(0, "eu", 0)
	long := next(t, begun, Planned("us", 100, 1000))
	for _, c := range []struct {
		name string
		line Timeline
		Change
		want string
	}{
		{"nothing to end", nil, Planned("us", 1, 1), "no generation"},
		{"no home", begun, Planned("", 100, 1000), "no home"},
		{"end before the beginning", long, Planned("eu", 99, 200), "before its beginning"},
		{"end above what was reserved", begun, Change{Home: "us", End: 100, Bound: 99, First: 100}, "above the bound"},
		{"first below what was reserved", begun, Change{Home: "us", End: 100, Bound: 120, First: 119}, "what was reserved before ends at 120"},
		{"first below the end", begun, Change{Home: "us", End: 100, Bound: 100, First: 99}, "what was reserved before"},
		{"own before real", begun, Change{Home: "us", End: 100, Bound: 100, First: 100, Real: 10, Own: 9}, "before its first"},
		{"log end below where the same home ended", long, Planned("eu", 150, 99), "the log was cut or made anew"},
		{"negative offset", begun, Planned("us", 100, -1), "no offset"},
		{"offset without limits", begun, Planned("us", 100, 1<<62), "no offset"},
	} {
		if _, err := c.line.Next(c.Change); !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	many := Timeline{}
	for i := range int64(MaxGenerations) {
		many = append(many, Generation{Number: i, Home: "eu"})
	}
	many[MaxGenerations-1].End = Running
	if err := many.Check(); err != nil {
		t.Error(err)
	}
	if _, err := many.Next(Planned("us", 0, 0)); !errors.Is(err, ErrImpossible) {
		t.Error(err)
	}
	g0 := Generation{Home: "eu", End: 10, Bound: 10}
	g1 := Generation{Number: 1, Home: "us", First: 10, Real: 5, Own: 5, End: Running}
	change := func(g Generation, f func(*Generation)) Generation { f(&g); return g }
	for name, line := range map[string]Timeline{
		"empty":                         {},
		"numbers skip":                  {g0, change(g1, func(g *Generation) { g.Number = 2 })},
		"negative number":               {change(g1, func(g *Generation) { g.Number = -1 })},
		"virtual is not real at first":  {Generation{Home: "eu", First: 1, End: Running}},
		"own is not first at first":     {Generation{Home: "eu", Own: 1, End: Running}},
		"last has ended":                {g0},
		"last has a bound":              {change(g1, func(g *Generation) { g.Bound = 11 })},
		"two go on":                     {change(g0, func(g *Generation) { g.End = Running }), g1},
		"missing before the beginning":  {change(g0, func(g *Generation) { g.Missing = []Span{{-1, 3}} }), g1},
		"missing nothing":               {change(g0, func(g *Generation) { g.Missing = []Span{{3, 3}} }), g1},
		"missing the end":               {change(g0, func(g *Generation) { g.Missing = []Span{{3, 10}} }), g1},
		"missing out of order":          {change(g0, func(g *Generation) { g.Missing = []Span{{6, 7}, {3, 4}} }), g1},
		"missing in a one that goes on": {g0, change(g1, func(g *Generation) { g.Missing = []Span{{11, 12}} })},
	} {
		if err := line.Check(); !errors.Is(err, ErrImpossible) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Timeline{g0, g1}).Check(); err != nil {
		t.Error(err)
	}
}

func TestCoarsen(t *testing.T) {
	spans := []Span{{0, 2}, {10, 11}, {12, 20}, {23, 24}, {40, 41}}
	for limit, want := range map[int][]Span{
		9: spans,
		5: spans,
		4: {{0, 2}, {10, 20}, {23, 24}, {40, 41}},
		3: {{0, 2}, {10, 24}, {40, 41}},
		1: {{0, 41}},
	} {
		if got := Coarsen(slices.Clone(spans), limit); !reflect.DeepEqual(got, want) {
			t.Errorf("at most %d: %v, want %v", limit, got, want)
		}
	}
	c := Change{Home: "us", End: 10_000, Bound: 10_000, First: 10_000}
	for i := range int64(3000) {
		c.Missing = append(c.Missing, Span{First: 3 * i, End: 3*i + 1})
	}
	line := next(t, Begin(0, "eu", 0), c)
	if n := len(line[0].Missing); n != MaxMissing || line[0].End != 10_000 {
		t.Errorf("%d are missing, up to %d", n, line[0].End)
	}
	line[0].Missing = c.Missing
	if err := line.Check(); !errors.Is(err, ErrImpossible) {
		t.Error(err)
	}
}

func TestGeneration_Uncopied(t *testing.T) {
	g := Generation{Number: 1, Home: "us", First: 100, Real: 1000, Own: 1000, End: Running}
	runs := []Run{{1050, 7, 10}, {990, 1, 20}, {1070, 30, 1000}}
	for _, c := range []struct {
		from, to int64
		want     []Span
	}{
		{0, 1100, []Span{{110, 150}, {160, 170}}},
		{1020, 1055, []Span{{120, 150}}},
		{1055, 1100, []Span{{160, 170}}},
		{1070, 1100, nil},
		{1100, 1100, nil},
	} {
		if got := g.Uncopied(runs, c.from, c.to); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if got := g.Uncopied([]Run{{1010, 0, 20}, {1012, 50, 3}, {1040, 60, 5}}, 0, 1050); !reflect.DeepEqual(got, []Span{{100, 110}, {130, 140}, {145, 150}}) {
		t.Errorf("with some copied twice: %v", got)
	}
	if g.End = 165; !reflect.DeepEqual(g.Uncopied(runs, 0, 5000), []Span{{110, 150}, {160, 165}}) {
		t.Errorf("behind its end: %v", g.Uncopied(runs, 0, 5000))
	}
}
