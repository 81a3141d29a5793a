package arrival

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/generation"
)

// tailsOf are those of switches like "unplanned b" from a on.
func tailsOf(cuts []any, switches ...string) ([]Tail, error) {
	r := request(cuts, switches...)
	return Tails(r.First, r.Switches, func(ref generation.CutRef) ([]generation.CutTopic, error) { return r.Cut(context.Background(), ref) })
}

func TestTails_OverSwitches(t *testing.T) {
	one := func(generation, first, end int64, lost string, homes ...Stretch) Tail {
		return Tail{Topic: "t", Lost: lost, Generation: generation, First: first, End: end, Homes: homes}
	}
	at := func(virtual, real, left int64) []generation.CutTopic { return cut("t", [3]int64{virtual, real, left}) }
	for name, c := range map[string]struct {
		cuts     []any
		switches []string
		want     []Tail
	}{
		"planned":    {[]any{at(10, 1000, 10)}, []string{"planned b"}, nil},
		"lost":       {[]any{at(20, 1000, 10)}, []string{"unplanned b"}, []Tail{one(1, 10, Open, "a", Stretch{"b", 1, 1000, Open})}},
		"home again": {[]any{at(20, 1000, 10), at(25, 17, 1005)}, []string{"unplanned b", "back a"}, []Tail{one(1, 10, 17, "a", Stretch{"b", 1, 1000, 1005})}},
		"nothing in it": {[]any{at(20, 1000, 10), at(25, 9, 1005)}, []string{"unplanned b", "back a"},
			[]Tail{one(1, 10, 10, "a", Stretch{"b", 1, 1000, 1005})}},
		"over another home": {[]any{at(20, 1000, 10), at(25, 70, 1005), at(30, 18, 75), at(40, 1010, 28)}, []string{"unplanned b", "planned c", "planned a", "planned b"},
			[]Tail{one(1, 10, 18, "a", Stretch{"b", 1, 1000, 1005}, Stretch{"c", 2, 70, 75})}},
		"lost twice": {[]any{at(20, 1000, 10), at(25, 15, 1005), at(40, 1010, 20)}, []string{"unplanned b", "back a", "unplanned b"},
			[]Tail{one(1, 10, 15, "a", Stretch{"b", 1, 1000, 1005}), one(3, 20, Open, "a", Stretch{"b", 3, 1010, Open})}},
		"the next is lost, too": {[]any{at(20, 1000, 10), at(30, 70, 1005)}, []string{"unplanned b", "unplanned c"},
			[]Tail{one(1, 10, Open, "a", Stretch{"b", 1, 1000, 1005}, Stretch{"c", 2, 70, Open}), one(2, 1005, Open, "b", Stretch{"c", 2, 70, Open})}},
		"a cut does not name it": {[]any{at(20, 1000, 10), cut("u", [3]int64{1, 1, 1})}, []string{"unplanned b", "back a"},
			[]Tail{one(1, 10, Open, "a", Stretch{"b", 1, 1000, Open})}},
	} {
		if got, err := tailsOf(c.cuts, c.switches...); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

func TestTails_ManyPartitionsInOrder(t *testing.T) {
	all := append(cut("b", [3]int64{5, 50, 3}, [3]int64{6, 60, 4}), cut("a", [3]int64{7, 70, 5})...)
	got, err := tailsOf([]any{all}, "unplanned b")
	var where []string
	for _, g := range got {
		where = append(where, fmt.Sprintf("%s-%d@%d", g.Topic, g.Partition, g.First))
	}
	if want := "a-0@5 b-0@3 b-1@4"; err != nil || strings.Join(where, " ") != want {
		t.Errorf("%v, %v, want %s", where, err, want)
	}
}

func TestTails_SayWhatDoesNotFit(t *testing.T) {
	one := cut("t", [3]int64{10, 1000, 10})
	for name, c := range map[string]struct {
		cuts     []any
		switches []string
		want     string
		is       error
	}{
		"not there":      {nil, []string{"unplanned b"}, "cut of generation 1", generation.ErrCut},
		"twice":          {[]any{append(cut("t", [3]int64{10, 1000, 10}), one...)}, []string{"unplanned b"}, "it is there twice", ErrCut},
		"to where it is": {[]any{one}, []string{"unplanned a"}, "the home before is a", ErrCut},
	} {
		if _, err := tailsOf(c.cuts, c.switches...); err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever was decided: stretches of one cluster's log that are tails do not overlap with what it wrote as home, and each begins where it was left.
func FuzzTails(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 1, 9, 1, 0, 4})
	f.Fuzz(func(t *testing.T, in []byte) {
		homes, ends := []string{"a", "b", "c"}, map[string]int64{}
		home := "a"
		var cuts []any
		var switches []string
		type stretch struct {
			home       string
			from, end  int64
			generation int64
		}
		written := []stretch{{"a", 0, Open, 0}}
		for i := 0; i+3 <= len(in) && len(switches) < 40; i += 3 {
			to := homes[in[i]%3]
			if to == home {
				continue
			}
			kind := "planned"
			left := ends[home] + int64(in[i+1]%16) // all that it had written, and that was copied
			ends[home] = left
			written[len(written)-1].end = left
			if in[i+2]&1 == 1 {
				kind = "unplanned"
				ends[home] += int64(in[i+2] % 7)
			}
			ends[to] += int64(in[i+2] % 5)
			cuts = append(cuts, cut("t", [3]int64{int64(1000 * (len(switches) + 1)), ends[to], left}))
			switches = append(switches, kind+" "+to)
			written = append(written, stretch{to, ends[to], Open, int64(len(switches))})
			home = to
		}
		got, err := tailsOf(cuts, switches...)
		if err != nil {
			t.Fatal(err)
		}
		losses := 0
		for _, s := range switches {
			if strings.HasPrefix(s, "unplanned") {
				losses++
			}
		}
		if len(got) != losses {
			t.Fatalf("%d tails of %d losses", len(got), losses)
		}
		for _, g := range got {
			if g.End < g.First || len(g.Homes) == 0 {
				t.Fatalf("%+v", g)
			}
			for _, w := range written {
				if w.home == g.Lost && w.from < g.End && w.end > g.First && w.from < w.end {
					t.Fatalf("%+v overlaps with what was written in generation %d, %d to %d", g, w.generation, w.from, w.end)
				}
			}
			for i, h := range g.Homes {
				w := written[g.Generation+int64(i)]
				if h.Home != w.home || h.From != w.from || h.End != w.end || h.Generation != w.generation || h.Home == g.Lost {
					t.Fatalf("%+v: home %d is %+v, want %+v", g, i, h, w)
				}
			}
		}
	})
}
