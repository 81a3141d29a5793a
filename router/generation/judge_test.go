package generation

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

// TestLog: which prepares and accepts count follows from what stands before them.
func TestLog(t *testing.T) {
	low, mid, high := Ballot{1, "a", "l"}, Ballot{1, "b", "m"}, Ballot{2, "a", "h"}
	for name, c := range map[string]struct {
		records  []Record
		promised Ballot
		accepted Ballot
	}{
		"a prepare":                         {[]Record{prepare("", 1, mid)}, mid, Ballot{}},
		"a lower one behind it":             {[]Record{prepare("", 1, mid), prepare("", 1, low)}, mid, Ballot{}},
		"a higher one behind it":            {[]Record{prepare("", 1, mid), prepare("", 1, high)}, high, Ballot{}},
		"an accept behind its prepare":      {[]Record{prepare("", 1, mid), accept("", 1, mid, toUS)}, mid, mid},
		"an accept without one":             {[]Record{accept("", 1, mid, toUS)}, Ballot{}, mid},
		"an accept behind a higher prepare": {[]Record{prepare("", 1, high), accept("", 1, mid, toUS)}, high, Ballot{}},
		"a prepare behind the accept":       {[]Record{accept("", 1, mid, toUS), prepare("", 1, high)}, high, mid},
		"a lower accept behind an accept":   {[]Record{accept("", 1, high, toUS), accept("", 1, low, stay)}, Ballot{}, high},
	} {
		var l Log
		for _, r := range c.records {
			l.Apply(r)
		}
		a := l.sets[""].rounds[1]
		if b, _ := a.highest(); a.promised != c.promised || b != c.accepted {
			t.Errorf("%s: promised %v, accepted %v", name, a.promised, b)
		}
	}
}

// logsOf makes logs of the records of each.
func logsOf(all ...[]Record) (out []*Log) {
	for _, records := range all {
		l := &Log{}
		for _, r := range records {
			l.Apply(r)
		}
		out = append(out, l)
	}
	return out
}

// TestJudge: what is decided, what is open, and what nobody may believe.
func TestJudge(t *testing.T) {
	a, b := Ballot{1, "a", "a"}, Ballot{2, "b", "b"}
	back := Value{Kind: Back, Generation: 2, Home: "eu", From: "us", Switch: "s2"}
	for name, c := range map[string]struct {
		logs []*Log
		want State
		err  error
	}{
		"nothing":                  {logsOf(nil, nil), State{Round: 1}, nil},
		"a prepare in one":         {logsOf(nil, []Record{prepare("", 1, a)}), State{Round: 1, Open: true, Highest: a}, nil},
		"another set's":            {logsOf(nil, []Record{prepare("fast", 1, a)}), State{Round: 1}, nil},
		"an accept in one":         {logsOf([]Record{accept("", 1, a, toUS)}, nil), State{Round: 1, Open: true, Highest: a}, nil},
		"accepts of two ballots":   {logsOf([]Record{accept("", 1, a, toUS)}, []Record{accept("", 1, b, toUS)}), State{Round: 1, Open: true, Highest: b}, nil},
		"accepts of one":           {logsOf([]Record{accept("", 1, a, toUS)}, []Record{accept("", 1, a, toUS)}), State{Round: 2, Generation: 1, Home: "us", History: []Value{toUS}}, nil},
		"decided in one":           {logsOf([]Record{decided("", 1, toUS)}, nil), State{Round: 2, Generation: 1, Home: "us", History: []Value{toUS}}, nil},
		"decided after prepares":   {logsOf([]Record{prepare("", 1, a), decided("", 1, stay)}, []Record{prepare("", 1, b)}), State{Round: 2, Home: "eu"}, nil},
		"stay, then a prepare":     {logsOf([]Record{decided("", 1, stay), prepare("", 2, a)}, nil), State{Round: 2, Home: "eu", Open: true, Highest: a}, nil},
		"two switches":             {logsOf([]Record{decided("", 1, toUS)}, []Record{decided("", 2, back)}), State{Round: 3, Generation: 2, Home: "eu", History: []Value{toUS, back}}, nil},
		"a round is missing":       {logsOf([]Record{decided("", 2, back)}, nil), State{Round: 1, Open: true}, nil},
		"a prepare far ahead":      {logsOf([]Record{prepare("", 5, a)}, nil), State{Round: 1, Open: true}, nil},
		"a generation left out":    {logsOf([]Record{decided("", 1, back)}, nil), State{Round: 1}, errBroken},
		"a switch from elsewhere":  {logsOf([]Record{decided("", 1, toUS), decided("", 2, Value{Kind: Planned, Generation: 2, Home: "eu", From: "ap"})}, nil), State{Round: 2, Generation: 1, Home: "us", History: []Value{toUS}}, errBroken},
		"stay that is not at home": {logsOf([]Record{decided("", 1, toUS), decided("", 2, Value{Kind: Stay, Generation: 1, Home: "eu"})}, nil), State{Round: 2, Generation: 1, Home: "us", History: []Value{toUS}}, errBroken},
	} {
		if got, err := Judge(c.logs, 3, ""); !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, c.want)
		}
	}
	// Of one or two control clusters all are needed.
	for of, one := range map[int]bool{1: true, 2: false} {
		if st, _ := Judge(logsOf([]Record{accept("", 1, a, toUS)}), of, ""); (st.Generation == 1) != one {
			t.Errorf("one accept, %d control clusters: %+v", of, st)
		}
	}
}

// TestLease: from when to when it holds, and when there is none.
func TestLease(t *testing.T) {
	at := func(mono, wall time.Duration) Moment { return Moment{time.Minute + mono, time.Hour + wall} }
	l := Grant(at(0, 0), 2, 3, State{Generation: 4, Home: "us"})
	if l.Generation != 4 || l.Home != "us" {
		t.Errorf("%+v", l)
	}
	most := LeaseLength - LeaseLength/rateMargin
	for _, c := range []struct {
		now  Moment
		want bool
	}{
		{at(0, 0), true}, {at(most-1, most-1), true}, {at(most, most), false},
		{at(1, most), false},      // the machine slept, or the clock was set
		{at(1, -1), false},        // it was set back
		{at(most, 1), false},      // and that hides how long it took
		{at(-1, 1), false},        // before it was asked for
		{at(time.Hour, 1), false}, // the process was frozen, the clock set
	} {
		if l.Holds(c.now) != c.want {
			t.Errorf("at %v: %v", c.now, !c.want)
		}
	}
	for name, none := range map[string]Lease{
		"zero": {}, "no majority": Grant(at(0, 0), 1, 3, State{}), "of two one": Grant(at(0, 0), 1, 2, State{}),
		"open": Grant(at(0, 0), 3, 3, State{Open: true}), "no control clusters": Grant(at(0, 0), 0, 0, State{}),
	} {
		if none.Holds(at(0, 0)) {
			t.Errorf("%s: there is a lease", name)
		}
	}
	if Outwaited(at(0, 0), at(LeaseLength-1, time.Hour)) || !Outwaited(at(0, 0), at(LeaseLength, 0)) {
		t.Error("leases are over by the clock that never goes back, and not before")
	}
}
