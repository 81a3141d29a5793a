package mirror

import (
	"slices"
	"testing"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// What is left out is left out of one log: of what was cut off since, other records may be there. In whatever order a node hears of it.
func TestOmitted_OnlyWhatWasNotCutOff(t *testing.T) {
	skipped := func(first, last int64, log int16) batch.Record {
		l := LedgerEntry{Pump: somePump, First: first, Last: last, Reason: ReasonSkipped, log: log}
		return batch.Record{Key: l.key(), Value: l.encode()}
	}
	anchor := func(epoch int16, cut int64) batch.Record {
		i := Incarnation{Pump: somePump, Epoch: epoch, Writer: "n", Lanes: []Lane{{Origin: "eu"}}, anchor: &anchorage{sourceCut: cut, targetCut: noCut}}
		return batch.Record{Key: i.key(), Value: i.encode()}
	}
	gone := func(r batch.Record) batch.Record { return batch.Record{Key: r.Key} }
	for name, tc := range map[string]struct {
		said []batch.Record
		want omitted
	}{
		"one log":                   {[]batch.Record{skipped(2, 3, 0), skipped(7, 9, 0)}, omitted{{2, 2}, {7, 3}}},
		"cut off":                   {[]batch.Record{skipped(2, 3, 0), skipped(7, 9, 0), anchor(1, 8)}, omitted{{2, 2}, {7, 1}}},
		"heard of the other way":    {[]batch.Record{anchor(1, 8), skipped(2, 3, 0), skipped(7, 9, 0)}, omitted{{2, 2}, {7, 1}}},
		"said after it was cut off": {[]batch.Record{anchor(1, 8), skipped(7, 9, 0), skipped(8, 8, 1)}, omitted{{7, 2}}},
		"made anew":                 {[]batch.Record{skipped(7, 9, 0), anchor(1, 0), skipped(7, 7, 1)}, omitted{{7, 1}}},
		"anchored by hand":          {[]batch.Record{skipped(7, 9, 0), anchor(1, noCut)}, omitted{{7, 3}}},
		"cut twice":                 {[]batch.Record{skipped(7, 9, 0), anchor(1, 9), skipped(9, 9, 1), anchor(2, 8)}, omitted{{7, 1}}},
		"nothing left of the log":   {[]batch.Record{skipped(7, 9, 0), skipped(7, 9, leftLog), gone(skipped(7, 9, 0))}, nil},
	} {
		s := newStateLog(nil, nil)
		for _, r := range tc.said {
			if err := s.takeLocked(r); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.omittedOf(somePump); !slices.Equal(got, tc.want) || s.omitting.Load() > 1 || (s.omitting.Load() == 1) != (tc.want != nil) {
			t.Errorf("%s: %v is left out, want %v", name, got, tc.want)
		}
	}
}

// Of a log that came after a cut, an entry does not hide what the ledger says of the same offsets before.
func TestLedger_OtherLogsEntriesAreOthers(t *testing.T) {
	for _, r := range []Reason{ReasonRetention, ReasonSkipped, ReasonRecreated} {
		seen := make(map[string]bool)
		for _, log := range []int16{leftLog, 0, 1, 2} {
			seen[string(LedgerEntry{Pump: somePump, First: 7, Last: 9, Reason: r, log: log}.key())] = true
		}
		if len(seen) != 4 {
			t.Errorf("%s: %d keys of four logs", r, len(seen))
		}
	}
	a, b := LedgerEntry{Pump: somePump, Last: 4, Reason: ReasonDeleted}, LedgerEntry{Pump: somePump, Last: 9, Reason: ReasonDeleted}
	if string(a.key()) == string(b.key()) {
		t.Errorf("a topic that is deleted twice has one entry")
	}
}
