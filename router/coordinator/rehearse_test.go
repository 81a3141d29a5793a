package coordinator

import (
	"context"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// lying is a mirror whose map is as a test wants it.
type lying struct {
	*lab
	runs func(partition int32) []timeline.Run
}

func (m lying) Runs(_ context.Context, _, _, _ string, partition int32) ([]timeline.Run, error) {
	return m.runs(partition), nil
}

// TestRehearse_FindsWhatIsWrong: a map that does not know a record, or says another place, an instance that is silent, and a mirror that stands still each make it fail, in words.
func TestRehearse_FindsWhatIsWrong(t *testing.T) {
	// copied are as many records at us as the rehearsal writes at eu, but others.
	copied := func(l *lab) {
		for p := range int32(3) {
			l.fill("us", "orders", p, shadowRecords)
		}
	}
	for _, tc := range []struct {
		name   string
		runs   func(partition int32) []timeline.Run
		before func(l *lab)
		want   string
	}{
		{"the map knows nothing", func(int32) []timeline.Run { return nil }, nil, "map: the offset map does not know where record"},
		{"nothing is there", func(p int32) []timeline.Run { return []timeline.Run{{From: 0, To: 5000, Count: 1000}} }, nil, "map: read orders:0"},
		{"others are there", func(p int32) []timeline.Run { return []timeline.Run{{From: 0, To: 100, Count: 1000}} }, copied, "and the offset map says that it is"},
		{"an instance is silent", func(int32) []timeline.Run { return nil }, func(l *lab) { l.silent = []string{"eu-2"} }, "instances: eu-2 do not answer"},
		{"the mirror stands still", func(int32) []timeline.Run { return nil }, func(l *lab) { l.behind = 7 }, "are not mirrored within"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				if tc.before != nil {
					tc.before(l)
				}
				c := l.coordinator("eu-1")
				c.deps.Mirror = func() arrival.Mirror { return lying{l, tc.runs} }
				r, err := c.Rehearse(t.Context(), "", "us", "orders")
				if err != nil {
					t.Fatal(err)
				}
				if text := strings.Join(r.Failures, "; "); !strings.Contains(text, tc.want) || !r.Shadowed {
					t.Errorf("%q, want %q; %+v", text, tc.want, r.Steps)
				}
			})
		})
	}
}
