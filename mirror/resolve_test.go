package mirror

import (
	"slices"
	"testing"
)

// Two nodes anchor a partition whose target lost records, to different places. Who loses takes back what would have come of its own place; what
// was lost is in one entry for both, and stays.
func TestOfPlace_LeavesWhatWasLost(t *testing.T) {
	e := func(r Reason, first, last int64) LedgerEntry {
		return LedgerEntry{Pump: somePump, Reason: r, First: first, Last: last}
	}
	shared := []LedgerEntry{e(ReasonTruncatedTarget, 3, 9), e(ReasonRepeated, 10, 14), e(ReasonRecreated, 10, 14), e(ReasonTruncatedSource, 10, 14)}
	for name, tc := range map[string]struct {
		source int64
		own    []LedgerEntry
	}{
		"further on":       {25, []LedgerEntry{e(ReasonAnchored, 10, 24)}},
		"further back":     {5, []LedgerEntry{e(ReasonRepeated, 5, 9)}},
		"where it is lost": {3, []LedgerEntry{e(ReasonRepeated, 3, 9)}},
	} {
		if got := ofPlace(slices.Concat(shared, tc.own), tc.source); !slices.Equal(got, tc.own) {
			t.Errorf("%s: takes back %+v, want %+v", name, got, tc.own)
		}
	}
}
