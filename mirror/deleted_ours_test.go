package mirror

import "testing"

// Maps of several owners hold the same records more than once, and some that are gone from the target: neither makes others' records ours.
func TestOursIn_CountsEachOffsetOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		runs       []Run
		start, end int64
		want       int64
	}{
		"one run":                  {[]Run{{Source: 5, Target: 0, Records: 10}}, 0, 12, 10},
		"two owners of the same":   {[]Run{{Source: 5, Target: 0, Records: 10}, {Source: 9, Target: 4, Records: 6}}, 0, 12, 10},
		"one within the other":     {[]Run{{Source: 5, Target: 0, Records: 10}, {Source: 7, Target: 2, Records: 3}}, 0, 12, 10},
		"copied again":             {[]Run{{Source: 5, Target: 0, Records: 3}, {Source: 5, Target: 6, Records: 3}}, 0, 9, 6},
		"deleted by retention":     {[]Run{{Source: 5, Target: 0, Records: 10}, {Source: 20, Target: 12, Records: 2}}, 4, 14, 8},
		"behind what is there now": {[]Run{{Source: 5, Target: 0, Records: 10}}, 0, 6, 6},
		"not in their order":       {[]Run{{Source: 5, Target: 8, Records: 2}, {Source: 9, Target: 0, Records: 3}}, 0, 12, 5},
	} {
		if got := oursIn(tc.runs, tc.start, tc.end); got != tc.want {
			t.Errorf("%s: %d offsets are ours, want %d", name, got, tc.want)
		}
	}
}
