package mirror

import (
	"slices"
	"testing"
)

// The source's log:  0–9 records, 10 a marker, 11–14 an aborted batch, 15 its marker, 16–19 records, 20–24 cleaned away, 25–29 records, 30 a marker.
// The target's: 0–9, 10–13, 14–18 are the copies; somebody wrote 19 and 20 there.
func positionsMap() *storedMap {
	m := &storedMap{next: 31, from: 19}
	for _, r := range []Run{run(0, 0, 10), run(16, 10, 4), run(25, 14, 5)} {
		m.offsets.Add(r)
	}
	return m
}

type positionCase struct {
	name     string
	at, want int64
	exact    bool
}

var alongTheLink = []positionCase{
	{"the first record", 0, 0, true},
	{"a record", 7, 7, true},
	{"below the source's log start", 2, 2, true},
	{"the last before a marker", 9, 9, true},
	{"a marker", 10, 10, false},
	{"behind a marker, where an aborted batch begins", 11, 10, false},
	{"in an aborted batch", 13, 10, false},
	{"the marker of an aborted batch", 15, 10, false},
	{"behind the marker of an aborted batch", 16, 10, true},
	{"where a hole begins", 20, 14, false},
	{"in a hole", 22, 14, false},
	{"behind a hole", 25, 14, true},
	{"the last record", 29, 18, true},
	{"the marker behind the last record", 30, 19, false},
	{"the log end", 31, 19, false},
	{"beyond the log end", 5000, 19, false},
}

var againstTheLink = []positionCase{
	{"the first record", 0, 0, true},
	{"below the target's log start", 3, 3, true},
	{"the last before the source's marker", 9, 9, true},
	{"behind the marker and the aborted batch", 10, 16, true},
	{"behind the hole", 14, 25, true},
	{"the last record", 18, 29, true},
	{"behind the last copy, at another's record", 19, 31, false},
	{"the log end", 21, 31, false},
	{"beyond the log end", 5000, 31, false},
}

func TestTranslate_Positions(t *testing.T) {
	broken := positionsMap() // the same, and the source's 7 to 9 are copied once more behind the others'
	broken.offsets.Add(Run{Source: 7, Target: 21, Records: 3, Origin: "eu", Epoch: 1, Count: 7})
	broken.from = 24
	trimmed := positionsMap() // of a map that has forgotten what neither end keeps
	trimmed.offsets.DropBefore(17, 12)
	trimmed.offsets.DropBefore(20, 14)
	for _, tc := range []struct {
		name           string
		m              *storedMap
		along, against []positionCase
	}{
		{"a log with all that there is", positionsMap(), alongTheLink, againstTheLink},
		{"an empty partition", &storedMap{}, []positionCase{{"offset 0", 0, 0, false}, {"beyond", 9, 0, false}}, []positionCase{{"offset 0", 0, 0, false}, {"beyond", 9, 0, false}}},
		{"a link that began at the source's end and has copied nothing", &storedMap{next: 50, from: 7},
			[]positionCase{{"before it began", 10, 7, false}, {"the log end", 50, 7, false}},
			[]positionCase{{"before it began", 3, 50, false}, {"the log end", 7, 50, false}}},
		{"an order-break: the first copy counts", broken,
			[]positionCase{{"copied twice", 8, 8, false}, {"behind it, which is not called exact", 16, 10, false}, {"the log end", 31, 24, false}},
			[]positionCase{{"the first copy", 8, 7, false}, {"others behind it wait for the second", 14, 7, false}, {"the second copy", 22, 8, false}, {"the log end", 24, 31, false}}},
		{"trimmed", trimmed,
			[]positionCase{{"below both logs' starts", 0, 14, false}, {"forgotten", 17, 14, false}, {"the first kept", 25, 14, true}, {"the log end", 31, 19, false}},
			[]positionCase{{"below both logs' starts", 0, 25, false}, {"forgotten", 12, 25, false}, {"the first kept", 14, 25, true}, {"the log end", 19, 31, false}}},
	} {
		topo := fabricOf(t, "eu>us")
		get := func(from, to, _ string, _ int32) (mapView, bool) { return tc.m, from == "eu" && to == "us" }
		for _, ends := range []struct {
			from, to string
			cases    []positionCase
		}{{"eu", "us", tc.along}, {"us", "eu", tc.against}} {
			if !slices.ContainsFunc(ends.cases, func(c positionCase) bool { return c.name == "the log end" || c.name == "offset 0" }) {
				t.Errorf("%s: nothing of the log end", tc.name)
			}
			for _, c := range ends.cases {
				got, err := translate(topo, get, way{ends.from, ends.to, "orders", "orders"}, 0, c.at)
				if err != nil || got.Result != c.want || got.Exact != c.exact {
					t.Errorf("%s: %s %d (%s) is %s %d, exact %v, %v, want %d, exact %v", tc.name, ends.from, c.at, c.name, ends.to, got.Result, got.Exact, err, c.want, c.exact)
				}
			}
		}
	}
}
