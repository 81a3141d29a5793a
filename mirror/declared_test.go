package mirror

import (
	"fmt"
	"testing"
)

// TestDeclared_OnlyOfTheSameLog: what the ledger says of a log explains nothing about the records that have the same offsets after it was cut.
func TestDeclared_OnlyOfTheSameLog(t *testing.T) {
	entry := func(r Reason, first, last int64, log int16) LedgerEntry {
		return LedgerEntry{Pump: somePump, First: first, Last: last, Reason: r, log: log}
	}
	cut := func(epoch int16, source, at int64) Incarnation {
		return anchoredAt(epoch, source, anchorage{sourceCut: at, targetCut: noCut}, "eu")
	}
	for name, tc := range map[string]struct {
		entry   LedgerEntry
		anchors []Incarnation
		want    string
	}{
		"no cut":                           {entry(ReasonSkipped, 3, 9, 0), nil, "3-9"},
		"an anchor that cuts nothing":      {entry(ReasonSkipped, 3, 9, 0), []Incarnation{cut(1, 20, noCut)}, "3-9"},
		"cut behind it":                    {entry(ReasonSkipped, 3, 9, 0), []Incarnation{cut(1, 10, 10)}, "3-9"},
		"cut within it":                    {entry(ReasonSkipped, 3, 9, 0), []Incarnation{cut(1, 5, 5)}, "3-4"},
		"made anew":                        {entry(ReasonRetention, 3, 9, 0), []Incarnation{cut(1, 0, 0)}, "3-2"},
		"of the log after the cut":         {entry(ReasonRetention, 3, 9, 1), []Incarnation{cut(1, 0, 0)}, "3-9"},
		"cut once more":                    {entry(ReasonRetention, 3, 9, 1), []Incarnation{cut(1, 0, 0), cut(2, 4, 4)}, "3-3"},
		"of no log that there is":          {entry(ReasonDeleted, 3, 9, leftLog), nil, "3-2"},
		"what the cut itself leaves out":   {entry(ReasonAnchored, 5, 9, 0), []Incarnation{cut(1, 10, 5)}, "5-9"},
		"what the cut itself copies again": {entry(ReasonRepeated, 5, 9, 0), []Incarnation{cut(1, 5, 10)}, "5-9"},
		"what an earlier one left out":     {entry(ReasonAnchored, 5, 9, 0), []Incarnation{cut(1, 10, 5), cut(2, 0, 0)}, "5-4"},
		"what a new source did not have":   {entry(ReasonRecreated, 5, 9, 0), []Incarnation{cut(1, 0, 0)}, "5-4"},
	} {
		s := memoryStore()
		for n, i := range tc.anchors {
			s.take(topicCheckpoints, recordOf(int64(n), i.key(), i.encode()))
		}
		s.take(topicLedger, recordOf(9, tc.entry.key(), tc.entry.encode()))
		s.take(topicLedger, recordOf(10, entry(ReasonForged, 0, 99, 0).key(), entry(ReasonForged, 0, 99, 0).encode()))
		got := s.declared(somePump)
		if len(got) != 1 || fmt.Sprintf("%d-%d", got[0].First, got[0].Last) != tc.want {
			t.Errorf("%s: %+v, want %s", name, got, tc.want)
		}
		if source := tc.entry.Last; len(got) == 1 && tc.want != "3-9" && tc.want != "5-9" && declaredIn(got, absent, source) != "" {
			t.Errorf("%s: it explains why %d is missing", name, source)
		}
	}
}
