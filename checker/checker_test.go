package checker

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// log makes records of topic t, partition 0, of origin a: uids by the words of s, offsets
// from 0.
func log(s string) []Record {
	var out []Record
	for i, uid := range strings.Fields(s) {
		out = append(out, Record{Topic: "t", Offset: int64(i), UID: uid, Origin: "a", Hash: Hash([]byte(uid), nil, nil, 0)})
	}
	return out
}

func lost(first, last int64) Range {
	return Range{Cluster: "a", Topic: "t", First: first, Last: last}
}

// abortedX is what the producer of x knows.
var abortedX = Produced{"a", Record{Topic: "t", UID: "x", Offset: -1}, Aborted}

// compacted has a producer that knows of record 2, which the source, at offset 1, has no longer.
func compacted(in *Input) {
	in.Config.Compacted = true
	in.Sources[0].Records[1].Offset = 2
	r := log("1 2")[1]
	in.Produced = []Produced{{"a", r, Acked}}
}

// transaction says that the source's records at these indices were committed together.
func transaction(in *Input, at ...int) {
	for _, i := range at {
		in.Sources[0].Records[i].Txn = "txn"
	}
}

// quiet says that copying had its time.
func quiet(in *Input) { in.Config.Idle, in.Config.StallAfter = time.Minute, time.Minute }

// truncated has a source that lost its log from offset 2 on, where records 3 and 4 were, and went on with n.
func truncated(in *Input) {
	in.Sources[0].Records[2].Life = 1
	in.Truncated = []Truncation{{Cluster: "a", Topic: "t", From: 2}}
	for i, uid := range []string{"3", "4"} {
		in.Produced = append(in.Produced, Produced{"a", Record{Topic: "t", UID: uid, Offset: int64(2 + i)}, Acked})
	}
}

// recreated has a source whose topic held 1, 2 and 3 and was made again.
func recreated(in *Input) {
	for i := range in.Sources[0].Records {
		in.Sources[0].Records[i].Life = 1
	}
	for i, uid := range []string{"1", "2", "3"} {
		in.Produced = append(in.Produced, Produced{"a", Record{Topic: "t", UID: uid, Offset: int64(i)}, Acked})
	}
}

// remade is recreated as everybody has been told of it, with what the mirror says of that.
func remade(ledger ...Range) func(*Input) {
	return func(in *Input) {
		recreated(in)
		in.Remade = []Remaking{{Cluster: "a", Topic: "t", Life: 1}}
		in.Ledger = ledger
	}
}

// leftAt is that copying left a log of a life at an offset, as its topic was made anew.
func leftAt(life int32, first int64) Range {
	return Range{Cluster: "a", Topic: "t", Life: life, First: first, Last: first, Kind: Recreated}
}

func survived(first, last int64) Range {
	return Range{Cluster: "a", Topic: "t", First: first, Last: last, Kind: Survived}
}

// Hand-made histories of one link from a to b; the words are uids.
var byHand = []struct {
	name           string
	source, target string
	edit           func(*Input)
	want           []Rule
	counts         string // of the report, where they matter
}{
	{name: "clean", source: "1 2 3", target: "1 2 3"},
	{name: "empty"},
	{name: "nothing copied yet", source: "1 2 3"},
	{name: "pending", source: "1 2 3", target: "1 2", counts: "pending 1"},
	{name: "pending when complete", source: "1 2 3", target: "1 2", edit: func(in *Input) { in.Config.Complete = true }, want: []Rule{Lost}},
	{name: "M1", source: "1 2 3", target: "1 3", want: []Rule{Lost}},
	{name: "M1 start", source: "1 2 3", target: "2 3", want: []Rule{Lost}},
	{name: "loss in ledger", source: "1 2 3 4", target: "1 4", edit: func(in *Input) { in.Ledger = []Range{lost(1, 1), lost(1, 2)} }, counts: "declared missing 2"},
	{name: "M1 beside ledger", source: "1 2 3 4", target: "1 4", edit: func(in *Input) { in.Ledger = []Range{lost(2, 2)} }, want: []Rule{Lost}},
	{name: "M2", source: "1 2 3 4", target: "1 3 4", edit: func(in *Input) { in.Ledger = []Range{lost(1, 2)} }, want: []Rule{Dishonest}},
	{name: "ledger over holes", source: "1 2", target: "1 2", edit: func(in *Input) { in.Ledger = []Range{lost(5, 9)} }},
	{name: "perhaps in ledger", source: "1 2 3 4", target: "1 3", edit: func(in *Input) {
		in.Ledger = []Range{{Cluster: "a", Topic: "t", First: 1, Last: 2, Kind: Perhaps}}
		in.Config.Complete = true
	}, want: []Rule{Lost}, counts: "declared missing 1"},
	{name: "M3", source: "1 2", target: "1 2 1", want: []Rule{Duplicate}},
	{name: "M3 at least once", source: "1 2 3", target: "1 2 1 2 3", edit: func(in *Input) { in.Config.Mode = AtLeastOnce }, counts: "duplicate: 2"},
	{name: "M3 declared", source: "1 2", target: "1 2 1 2", edit: func(in *Input) {
		in.Ledger = []Range{{Cluster: "a", Topic: "t", First: 0, Last: 1, Kind: Repeated}}
	}, counts: "repeated 2"},
	{name: "source repeats", source: "1 2 1 3", target: "1 2 1 3"},
	{name: "source repeats, second pending", source: "1 2 3 1", target: "1 2 3", counts: "pending 1"},
	{name: "M1 repeat removed", source: "1 2 1 3", target: "1 2 3", want: []Rule{Lost}},
	{name: "M3 above repeats", source: "1 2 1 3", target: "1 2 1 1 3", want: []Rule{Duplicate}},
	{name: "M4", source: "1 2 3", target: "1 3 2", want: []Rule{Reorder}},
	{name: "M4 declared", source: "1 2 3", target: "1 3 2", edit: func(in *Input) {
		in.Ledger = []Range{{Cluster: "a", Topic: "t", First: 1, Last: 1, Kind: Reordered}}
	}, counts: "reordered 1"},
	{name: "M5", source: "1 2", target: "1 x 2", want: []Rule{Phantom}},
	{name: "M5 aborted", source: "1 2", target: "1 x 2", edit: func(in *Input) { in.Produced = []Produced{abortedX} }, want: []Rule{Phantom}, counts: "aborted by its producer"},
	{name: "aborted and not there", source: "1 2", target: "1 2", edit: func(in *Input) { in.Produced = []Produced{abortedX} }},
	{name: "survivor", source: "1 2", target: "1 2 x", edit: func(in *Input) {
		in.Produced = []Produced{{"a", Record{Topic: "t", UID: "x", Offset: -1}, Acked}}
	}, counts: "survivors 1"},
	{name: "deleted at source after copy", source: "1 2", target: "1 2 x", edit: func(in *Input) {
		in.Produced = []Produced{{"a", Record{Topic: "t", UID: "x", Offset: 2}, Acked}}
	}, counts: "copied 3"},
	{name: "M1 deleted at source before copy", source: "1 2", target: "1 2", edit: func(in *Input) {
		in.Sources[0].Records[1].Offset = 5
		in.Produced = []Produced{{"a", Record{Topic: "t", UID: "x", Offset: 2}, Acked}}
	}, want: []Rule{Lost}, counts: "acknowledged, neither"},
	{name: "deleted at source before copy, in ledger", source: "1 2", target: "1 2", edit: func(in *Input) {
		in.Sources[0].Records[1].Offset = 5
		in.Produced = []Produced{{"a", Record{Topic: "t", UID: "x", Offset: 2}, Acked}}
		in.Ledger = []Range{lost(1, 4)}
	}, counts: "declared missing 1"},
	{name: "compacted before copy", source: "1 3", target: "1 3", edit: compacted, counts: "expected 2"},
	{name: "compacted after copy", source: "1 3", target: "1 2 3", edit: compacted, counts: "copied 3"},
	{name: "compacted, copied late", source: "1 3", target: "1 3 2", edit: compacted, want: []Rule{Reorder}},
	{name: "compacted, copied twice", source: "1 3", target: "1 2 2 3", edit: compacted, want: []Rule{Duplicate}},
	{name: "compacted, copied changed", source: "1 3", target: "1 2 3", edit: func(in *Input) { compacted(in); in.Target[1].Hash[0]++ }, want: []Rule{Corrupt}},
	{name: "compacted source still has it", source: "1 3", target: "1", edit: func(in *Input) { compacted(in); in.Config.Complete = true }, want: []Rule{Lost}},
	{name: "M6", source: "1 2", target: "1 2", edit: func(in *Input) { in.Target[1].Hash[0]++ }, want: []Rule{Corrupt}},
	{name: "M7", source: "1 2", target: "1 2", edit: func(in *Input) { in.Target[1].Topic = "u" }, want: []Rule{Misrouted}},
	{name: "renamed", source: "1 2", target: "1 2", edit: func(in *Input) {
		in.Config.Rename = func(origin, topic string) string { return origin + "." + topic }
		in.Target[0].Topic, in.Target[1].Topic = "a.t", "a.t"
	}, counts: "copied 2"},
	{name: "M7 not renamed", source: "1 2", target: "1 2", edit: func(in *Input) {
		in.Config.Rename = func(origin, topic string) string { return origin + "." + topic }
		in.Target[0].Topic = "a.t"
	}, want: []Rule{Misrouted}},
	{name: "M8", source: "1 2 3", target: "1 2", edit: func(in *Input) { transaction(in, 1, 2); in.Config.Complete = true }, want: []Rule{Torn}},
	{name: "M8 at quiescence", source: "1 2 3", target: "1 3", edit: func(in *Input) { transaction(in, 1, 2); quiet(in) }, want: []Rule{Torn}},
	{name: "transaction on its way", source: "1 2 3", target: "1 2", edit: func(in *Input) { transaction(in, 1, 2) }, counts: "pending 1"},
	{name: "transaction not begun", source: "1 2 3", target: "1", edit: func(in *Input) { transaction(in, 1, 2); quiet(in) }, want: []Rule{Stall}},
	{name: "torn and in ledger", source: "1 2 3", target: "1 3", edit: func(in *Input) {
		transaction(in, 1, 2)
		in.Config.Complete = true
		in.Ledger = []Range{lost(1, 1)}
	}, counts: "declared missing 1"},
	{name: "M12", source: "1 2 3", target: "1 2", edit: quiet, want: []Rule{Stall}},
	{name: "not idle for long enough", source: "1 2 3", target: "1 2", edit: func(in *Input) { quiet(in); in.Config.Idle-- }, counts: "pending 1"},
	{name: "M1 at quiescence", source: "1 2 3", target: "1 3", edit: quiet, want: []Rule{Lost}},
	{name: "truncated source, kept and in ledger", source: "1 2 n", target: "1 2 3 4 n", edit: func(in *Input) { truncated(in); in.Ledger = []Range{survived(2, 3)} },
		counts: "survivors 2 and declared 2"},
	{name: "truncated source, not copied before", source: "1 2 n", target: "1 2 n", edit: func(in *Input) { truncated(in); quiet(in) }, counts: "expected 3"},
	{name: "M2 truncated source, not in ledger", source: "1 2 n", target: "1 2 3 n", edit: truncated, want: []Rule{Dishonest}},
	{name: "M2 truncated source, ledger too short", source: "1 2 n", target: "1 2 3 4 n", edit: func(in *Input) { truncated(in); in.Ledger = []Range{survived(2, 2)} }, want: []Rule{Dishonest}},
	{name: "M2 truncated source, ledger too long", source: "1 2 n", target: "1 2 3 n", edit: func(in *Input) { truncated(in); in.Ledger = []Range{survived(2, 3)} }, want: []Rule{Dishonest}},
	{name: "M2 source not truncated", source: "1 2 3", target: "1 2 3", edit: func(in *Input) { in.Ledger = []Range{survived(2, 2)} }, want: []Rule{Dishonest}},
	{name: "M4 truncated source, mixed", source: "1 2 n", target: "1 2 3 n 4", edit: func(in *Input) { truncated(in); in.Ledger = []Range{survived(2, 3)} }, want: []Rule{Reorder}},
	{name: "M5 truncated source, in doubt", source: "1 2 n", target: "1 2 d n", edit: func(in *Input) {
		truncated(in)
		in.Produced = append(in.Produced, Produced{"a", Record{Topic: "t", UID: "d", Offset: -1}, InDoubt})
	}, counts: "survivors 1"},
	{name: "recreated, ledger of the old log", source: "n o p", target: "1 3 n o p", edit: func(in *Input) {
		recreated(in)
		in.Ledger = []Range{lost(1, 1)}
	}, counts: "declared missing 1"},
	{name: "M1 recreated before it was copied", source: "n o p", target: "1 2 n o p", edit: recreated, want: []Rule{Lost}},
	{name: "M4 recreated, old behind new", source: "n o p", target: "1 2 n 3 o p", edit: recreated, want: []Rule{Reorder}},
	{name: "recreated, in ledger", source: "n o p", target: "1 n o p", edit: remade(leftAt(0, 1)), counts: "declared missing 2"},
	{name: "recreated, copied to its end", source: "n o p", target: "1 2 3 n o p", edit: remade(leftAt(0, 3))},
	{name: "recreated, nothing copied before", source: "n o p", target: "n o p", edit: remade(leftAt(0, 0)), counts: "declared missing 3"},
	{name: "M1 recreated, lost before it was left", source: "n o p", target: "1 3 n o p", edit: remade(leftAt(0, 2)), want: []Rule{Lost}},
	{name: "M1 recreated, lost of the new log", source: "n o p", target: "1 n p", edit: remade(leftAt(0, 1)), want: []Rule{Lost}},
	{name: "M2 recreated, not in ledger", source: "n o p", target: "1 2 3 n o p", edit: remade(), want: []Rule{Dishonest}},
	{name: "M2 not recreated, in ledger", source: "1 2 3", target: "1 2 3", edit: func(in *Input) { in.Ledger = []Range{leftAt(0, 1)} }, want: []Rule{Dishonest}},
	{name: "M2 recreated, the new log in ledger", source: "n o p", target: "1 n o p", edit: remade(leftAt(0, 1), leftAt(1, 2)), want: []Rule{Dishonest}},
	{name: "M9", source: "1 2", target: "1 2", edit: func(in *Input) { in.Reread = log("2 2") }, want: []Rule{Unstable}},
	{name: "reread grows", source: "1 2 3", target: "1 2", edit: func(in *Input) { in.Reread = log("1 2 3") }},
	{name: "origin not told", source: "1 2", target: "1 2", edit: func(in *Input) { in.Target[0].Origin, in.Target[1].Origin = "", "" }, counts: "copied 2"},
	{name: "M11", source: "1", target: "1", edit: func(in *Input) {
		in.Target = append(in.Target, Record{Topic: "t", Offset: 9, UID: "h", Origin: "b", Via: "a"})
	}, want: []Rule{Loop}},
	{name: "own records", source: "1", target: "1", edit: func(in *Input) {
		in.Target = append(in.Target, Record{Topic: "t", Offset: 9, UID: "h", Origin: "b"})
	}, counts: "own 1"},
}

func TestCheck_ByHand(t *testing.T) {
	for _, test := range byHand {
		t.Run(test.name, func(t *testing.T) {
			in := Input{Sources: []Log{{"a", log(test.source)}}, Target: log(test.target)}
			in.Config = Config{Cluster: "b", Reread: true}
			if test.edit != nil {
				test.edit(&in)
			}
			r, err := Check(in)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.Violated(), test.want) || r.OK() != (len(test.want) == 0) || !strings.Contains(r.String(), test.counts) {
				t.Errorf("violated %v, want %v and %q in\n%v", r.Violated(), test.want, test.counts, r)
			}
		})
	}
}

// The link from hub h to b lost what lay at offset 7 of h: record 2 of origin a.
func TestTarget_HubLedger(t *testing.T) {
	hub := log("1 2 3")
	for i := range hub {
		hub[i].Offset += 6
	}
	in := Input{
		Config:  Config{Cluster: "b"},
		Sources: []Log{{"a", log("1 2 3")}, {"h", hub}},
		Ledger:  []Range{{Cluster: "h", Topic: "t", First: 7, Last: 7}},
		Target:  log("1 3"),
	}
	if r, err := Check(in); err != nil || !slices.Equal(r.Violated(), []Rule{Lost}) {
		t.Errorf("without hop: %v, %v", r, err)
	}
	in.Hops = []Log{{"h", hub}}
	if r, err := Check(in); err != nil || !r.OK() || r.Declared != 1 {
		t.Errorf("with hop: %v, %v", r, err)
	}
	in.Target = log("1 2 3")
	if r, err := Check(in); err != nil || !slices.Equal(r.Violated(), []Rule{Dishonest}) {
		t.Errorf("not missing: %v, %v", r, err)
	}
	in.Ledger[0].Kind = Perhaps
	for _, target := range []string{"1 2 3", "1 3"} {
		in.Target = log(target)
		if r, err := Check(in); err != nil || !r.OK() {
			t.Errorf("perhaps missing, %s: %v, %v", target, r, err)
		}
	}
	in.Ledger[0].Kind, in.Target = Reordered, log("1 3 2")
	if r, err := Check(in); err != nil || !r.OK() || r.DeclaredReorders != 1 {
		t.Errorf("reordered: %v, %v", r, err)
	}
}

// Hub h has record 2 of origin a twice, as its ledger says: what it lost of that are the copies that its ledger names, and no others.
func TestTarget_HubLedgerOfOneOfTwoCopies(t *testing.T) {
	hub := log("1 2 3 2 4")
	again := Range{Cluster: "a", Topic: "t", First: 1, Last: 1, Kind: Repeated}
	lost := func(kind LedgerKind, offsets ...int64) (out []Range) {
		for _, at := range offsets {
			out = append(out, Range{Cluster: "h", Topic: "t", First: at, Last: at, Kind: kind})
		}
		return append(out, again)
	}
	for name, test := range map[string]struct {
		ledger []Range
		target string
		want   []Rule
	}{
		"the first is lost":                     {lost(Missing, 1), "1 3 2 4", nil},
		"the first may be lost":                 {lost(Perhaps, 1), "1 3 2 4", nil},
		"the second is lost":                    {lost(Missing, 3), "1 2 3 4", nil},
		"the first, and the second is not here": {lost(Missing, 1), "1 3 4", []Rule{Lost}},
		"the second, and the first is late":     {lost(Missing, 3), "1 3 2 4", []Rule{Reorder}},
		"both are":                              {lost(Missing, 1, 3), "1 3 4", nil},
		"both, and one is here":                 {lost(Missing, 1, 3), "1 3 2 4", []Rule{Dishonest, Reorder}},
		"another one is late":                   {lost(Missing, 1), "1 4 3 2", []Rule{Reorder}},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Config: Config{Cluster: "b"}, Sources: []Log{{"a", log("1 2 3 4")}, {"h", hub}}, Hops: []Log{{"h", hub}}, Ledger: test.ledger, Target: log(test.target)}
			r, err := Check(in)
			got := r.Violated()
			slices.Sort(got)
			slices.Sort(test.want)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("violated %v (%v), want %v in\n%v", got, err, test.want, r)
			}
		})
	}
}

// A client that fails over from a to b may write one record at both; they are two.
func TestTarget_OneUIDAtTwoOrigins(t *testing.T) {
	atB := log("2 4")
	for i := range atB {
		atB[i].Origin = "b"
	}
	target := renumber(append(log("1 2"), atB...))
	r, err := Check(Input{
		Config:  Config{Cluster: "c", Complete: true},
		Sources: []Log{{"a", log("1 2")}, {"b", atB}},
		Target:  target,
	})
	if err != nil || !r.OK() || r.Expected != 4 || r.Copied != 4 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestTarget_Truncated(t *testing.T) {
	src := NewSources()
	for _, r := range log("1 2 3") {
		if err := src.Add("a", r); err != nil {
			t.Fatal(err)
		}
	}
	target := src.Target(Config{Cluster: "b", Reread: true})
	for _, r := range log("1 2 3") {
		if err := target.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	target.Truncated("t", 0, 2)
	target.Truncated("t", 0, 1)
	for _, r := range log("1 x y z") {
		if err := target.Reread(r); err != nil {
			t.Fatal(err)
		}
	}
	if r := target.Report(); !r.OK() {
		t.Error(r)
	}
	for _, r := range log("x") {
		if err := target.Reread(r); err != nil {
			t.Fatal(err)
		}
	}
	if r := target.Report(); r.Count(Unstable) != 1 {
		t.Error(r)
	}
}

func TestFeeding_Errors(t *testing.T) {
	src := NewSources()
	rec := log("1 2")
	check := func(name string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	check("add", src.Add("a", rec[1]), nil)
	check("add back", src.Add("a", rec[0]), ErrOrder)
	check("add again", src.Add("a", rec[1]), ErrOrder)
	check("no uid", src.Add("a", Record{Topic: "t", Offset: 9}), ErrNoUID)
	check("long uid", src.Add("a", Record{Topic: "t", Offset: 9, UID: strings.Repeat("u", maxName+1)}), ErrNoUID)
	check("outcome without uid", src.Produced("a", Record{}, Acked), ErrNoUID)
	target := src.Target(Config{Cluster: "b"})
	check("late add", src.Add("a", Record{Topic: "t", Offset: 9, UID: "9"}), ErrLate)
	check("late outcome", src.Produced("a", rec[0], Acked), ErrLate)
	check("ledger", target.Ledger(lost(1, 2)), nil)
	if err := target.Ledger(lost(2, 1)); err == nil {
		t.Error("impossible range: no error")
	}
	check("target", target.Add(rec[1]), nil)
	check("target back", target.Add(rec[0]), ErrOrder)
	check("target without uid", target.Add(Record{Topic: "t", Offset: 9}), ErrNoUID)
	check("late ledger", target.Ledger(lost(1, 2)), ErrLate)
	check("reread without first", target.Reread(rec[1]), ErrLate)
	if _, err := Check(Input{Target: []Record{{}}}); !errors.Is(err, ErrNoUID) {
		t.Errorf("check: %v", err)
	}
}

func TestSources_Missing(t *testing.T) {
	src := NewSources()
	for _, r := range log("1 2") {
		if err := src.Add("a", r); err != nil {
			t.Fatal(err)
		}
	}
	for uid, offset := range map[string]int64{"1": 0, "2": -1, "3": 2, "4": -1} {
		if err := src.Produced("a", Record{Topic: "t", UID: uid, Offset: offset}, Acked); err != nil {
			t.Fatal(err)
		}
	}
	if got := src.Missing(); got != 2 {
		t.Errorf("missing %d, want 2", got)
	}
	// What is read after its producer spoke of it is not missing.
	if err := src.Add("a", Record{Topic: "t", UID: "3", Offset: 2}); err != nil {
		t.Fatal(err)
	}
	if got := src.Missing(); got != 1 || src.Records() != 3 {
		t.Errorf("missing %d of %d, want 1 of 3", got, src.Records())
	}
}

func TestReport_IsBoundedAndRepeatable(t *testing.T) {
	in := Input{Config: Config{Cluster: "b", Examples: 3}, Sources: []Log{{"a", log("1 2 3 4 5 6 7 8")}}, Target: log("8 x y z v")}
	src := NewSources()
	for _, r := range in.Sources[0].Records {
		if err := src.Add("a", r); err != nil {
			t.Fatal(err)
		}
	}
	target := src.Target(in.Config)
	for _, r := range in.Target {
		if err := target.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	first, second := target.Report(), target.Report()
	if first.String() != second.String() {
		t.Errorf("first %v, then %v", first, second)
	}
	if f := first.Findings[Lost]; f.Count != 7 || len(f.Examples) != 3 || f.Examples[0].UID != "1" {
		t.Errorf("lost: %+v", f)
	}
	if f := first.Findings[Phantom]; f.Count != 4 || len(f.Examples) != 3 {
		t.Errorf("phantom: %+v", f)
	}
}

func TestHash_TellsApart(t *testing.T) {
	h := func(k, v []byte, ts int64, hs ...Header) [16]byte { return Hash(k, v, hs, ts) }
	all := [][16]byte{
		h(nil, nil, 0),
		h([]byte{}, nil, 0),
		h(nil, []byte{}, 0),
		h(nil, nil, 1),
		h([]byte("ab"), []byte("c"), 0),
		h([]byte("a"), []byte("bc"), 0),
		h(nil, nil, 0, Header{"a", nil}),
		h(nil, nil, 0, Header{"a", []byte{}}),
		h(nil, nil, 0, Header{"a", nil}, Header{"b", nil}),
		h(nil, nil, 0, Header{"b", nil}, Header{"a", nil}),
	}
	for i := range all {
		for j := range i {
			if all[i] == all[j] {
				t.Errorf("%d and %d have the same hash", i, j)
			}
		}
	}
	// Written down, because hashes may be compared across processes.
	if got, want := fmt.Sprintf("%x", h([]byte("k"), []byte("v"), 7, Header{"h", nil})), "61bed08a19db7bfaf79e0ebf896d7f22"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

// feed runs n records through a truth and a target and returns both, so that they stay.
func feed(tb testing.TB, n int) (*Sources, *Target) {
	src := NewSources()
	rec := Record{Topic: "t"}
	each := func(f func(Record) error) {
		for i := range n {
			rec.Partition, rec.Offset, rec.UID = int32(i%8), int64(i), fmt.Sprintf("p07-%012d", i)
			rec.Hash[0] = byte(i)
			if err := f(rec); err != nil {
				tb.Fatal(err)
			}
		}
	}
	each(func(r Record) error { return src.Add("a", r) })
	t := src.Target(Config{Cluster: "b", Reread: true, Complete: true})
	each(t.Add)
	if r := t.Report(); !r.OK() || r.Copied != int64(n) {
		tb.Fatal(r)
	}
	return src, t
}

// Soak runs judge millions of records on small machines.
func TestSources_Memory(t *testing.T) {
	const n, limit = 400_000, 200
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	src, target := feed(t, n)
	per := float64(heap()-before) / n
	runtime.KeepAlive(src)
	runtime.KeepAlive(target)
	t.Logf("%.0f bytes a record", per)
	if per > limit {
		t.Errorf("%.0f bytes a record, limit %d", per, limit)
	}
}

func BenchmarkFeed(b *testing.B) {
	const n = 200_000
	b.ReportAllocs()
	for b.Loop() {
		feed(b, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}

func BenchmarkHash(b *testing.B) {
	v := make([]byte, 1000)
	b.SetBytes(int64(len(v)))
	b.ReportAllocs()
	for b.Loop() {
		Hash([]byte("key"), v, nil, 1)
	}
}
