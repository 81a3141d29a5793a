package reserve

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/isthmus-project/isthmus/router/generation"
)

func TestDue(t *testing.T) {
	for name, tc := range map[string]struct {
		reserved []int64
		ends     []int64
		want     []int64
	}{
		"small":          {nil, []int64{0, 1000, Free - Ahead/2 - 1}, nil},
		"one is due":     {nil, []int64{0, Free - Ahead/2}, []int64{0, Free - Ahead/2 + Ahead}},
		"large at first": {nil, []int64{1 << 40, 7}, []int64{1<<40 + Ahead, 0}},
		"reserved":       {[]int64{1<<40 + Ahead, 0}, []int64{1 << 40, 7}, nil},
		"due again":      {[]int64{1<<40 + Ahead, 0}, []int64{1<<40 + Ahead/2, 7}, []int64{1<<40 + Ahead/2 + Ahead, 0}},
		"more of them":   {[]int64{5}, []int64{3, 4, Free}, []int64{0, 0, Free + Ahead}},
	} {
		got := Due(map[string][]int64{"orders": tc.reserved}, map[string][]int64{"orders": tc.ends})
		var want []generation.Bound
		if tc.want != nil {
			want = []generation.Bound{{Topic: "orders", Offsets: tc.want}}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestReserve_NothingIsShownAbove: whoever looks now and then, reserves what is due and stops when it is full, has shown nothing at or above where an unplanned generation begins;
// also where reserving fails for a while.
func TestReserve_NothingIsShownAbove(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const near = 1 << 20 // records between two looks at the most
		end, reserved, full := rng.Int64N(1<<26), map[string][]int64{}, false
		shown := int64(0)
		begun := false
		for range 300 {
			ends := map[string][]int64{"orders": {end}}
			if rng.IntN(3) > 0 {
				for _, b := range Due(reserved, ends) {
					reserved["orders"] = b.Offsets
				}
			}
			full = Full(reserved, ends, near)
			if !full {
				begun = true
				end += rng.Int64N(near)
			}
			if begun {
				shown = end
			}
			if first := First(reserved["orders"], 0, 0); begun && first <= shown-1 {
				t.Fatalf("seed %d: offsets below %d were shown, and the next generation begins at %d", seed, shown, first)
			}
		}
		if !begun {
			t.Fatalf("seed %d: nothing was ever shown", seed)
		}
	}
}
