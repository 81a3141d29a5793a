package coordinator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
)

func TestGoesOn(t *testing.T) {
	one := []timeline.Run{{From: 0, To: 100, Count: 10}}
	two := []timeline.Run{{From: 0, To: 100, Count: 10}, {From: 15, To: 120, Count: 5}}
	late := []timeline.Run{{From: 0, To: 100, Count: 10}, {From: 10, To: 50, Count: 5}} // what was read later lies before
	for _, tc := range []struct {
		name   string
		runs   []timeline.Run
		offset int64
		want   int64
	}{
		{"nothing is there", nil, 7, 0},
		{"the beginning", one, 0, 100},
		{"in the middle", one, 4, 104},
		{"everything was read", one, 10, 110},
		{"further than what is there", one, 99, 110},
		{"in the first of two", two, 4, 104},
		{"in a hole", two, 12, 120},
		{"the first of two places", late, 5, 50},
		{"only the later one is left", late, 12, 52},
	} {
		if got := goesOn(tc.runs, tc.offset); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// FuzzGoesOn: a reader that goes on there passes over nothing that it has not read.
func FuzzGoesOn(f *testing.F) {
	f.Add(int64(0), int64(100), int64(10), int64(12), int64(50), int64(5), int64(7))
	f.Fuzz(func(t *testing.T, from, to, count, from2, to2, count2, offset int64) {
		var runs []timeline.Run
		for _, r := range []timeline.Run{{From: from, To: to, Count: count}, {From: from2, To: to2, Count: count2}} {
			if r.From < 0 || r.To < 0 || r.Count < 1 || max(r.From, r.To, r.Count) > 1<<20 {
				return
			}
			runs = append(runs, r)
		}
		if offset < 0 || offset > 1<<20 {
			return
		}
		at := goesOn(runs, offset)
		for _, r := range runs {
			if last := r.From + r.Count - 1; last >= offset && r.To+max(0, offset-r.From) < at {
				t.Errorf("from %d on it goes on at %d, and %+v has unread records before", offset, at, r)
			}
		}
	})
}

func TestCompareGroups(t *testing.T) {
	tp := func(p int32) broker.TopicPartition { return broker.TopicPartition{Topic: "orders", Partition: p} }
	at := func(p int32, offset int64) broker.GroupOffset {
		return broker.GroupOffset{TopicPartition: tp(p), Offset: offset}
	}
	runs := map[broker.TopicPartition][]timeline.Run{tp(0): {{From: 0, To: 100, Count: 10}}, tp(1): {{From: 0, To: 0, Count: 10}}, tp(2): nil}
	stand := map[string][]broker.GroupOffset{"alike": {at(0, 5), at(1, 10)}, "behind": {at(0, 5), at(1, 3)}, "gone": {at(0, 5)}, "new": {at(2, 0)}, "ahead": {at(0, 5)}, "done": {at(0, 10)},
		"elsewhere": {at(7, 5)}}
	there := map[string][]broker.GroupOffset{"alike": {at(0, 105), at(1, 10)}, "behind": {at(0, 101), at(1, 1)}, "ahead": {at(0, 107)}, "done": {at(0, 150)}}
	got := compareGroups(stand, there, runs)
	want := []GroupBehind{{Group: "ahead", Skipped: 2}, {Group: "gone", Missing: 1}, {Group: "behind", Reread: 6}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTook(t *testing.T) {
	plan := func(kind generation.Kind, outcome switchover.Outcome, ms int64) generation.Plan {
		return generation.Plan{Kind: kind, Outcome: string(outcome), Began: 1000, Since: 1000 + ms}
	}
	var plans []generation.Plan
	for i := range int64(7) {
		plans = append(plans, plan(generation.Planned, switchover.Committed, 100*i))
	}
	plans = append(plans, plan(generation.Planned, switchover.Aborted, 9), plan(generation.Unplanned, switchover.Committed, 9), plan(generation.Back, switchover.Committed, 700), plan(generation.Planned, switchover.Committed, -5))
	want := []time.Duration{700 * time.Millisecond, 600 * time.Millisecond, 500 * time.Millisecond, 400 * time.Millisecond, 300 * time.Millisecond}
	if got := took(plans); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestReady_Figures: what is not mirrored is told by partition, what groups would read again by group, and how long the last switch took; nothing is begun.
func TestReady_Figures(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.commit("readers", map[int32]int64{1: 4, 2: 20})
		c := l.coordinator("eu-1")
		r, err := c.Ready(t.Context(), "", "us", "orders")
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range append(r.Checks, r.Lost...) {
			if !check.OK {
				t.Errorf("%+v forbids it", check)
			}
		}
		if r.Tail.Err != nil || r.Tail.Partitions != 6 || len(r.Tail.Behind) != 0 || r.Groups.Err != nil || !slices.Equal(r.Groups.Behind, []GroupBehind{{Group: "readers", Missing: 2}}) || len(r.Took) != 0 {
			t.Errorf("got %+v", r)
		}
		l.mu.Lock()
		l.behind = 3
		l.mu.Unlock()
		if r, err = c.Ready(t.Context(), "", "us", "nothing"); err != nil || len(r.Tail.Behind) != 2 || r.Tail.Behind[0].Records != 3 {
			t.Errorf("got %+v, %v", r.Tail, err)
		}
		if last := r.Checks[len(r.Checks)-1]; last.Name != "canary" || last.OK || !strings.Contains(last.Text, "no link brings nothing from eu to us") {
			t.Errorf("a canary that goes nowhere: %+v", last)
		}
		if home, _, g, err := c.Home(t.Context(), ""); err != nil || home != "eu" || g != 0 {
			t.Errorf("it is at %s in generation %d, %v", home, g, err)
		}
		l.mu.Lock()
		l.behind = 0
		l.mu.Unlock()
		if s, _, _ := l.run(t.Context(), c, l.order(c, "us", generation.Planned)); s.Outcome != switchover.Committed {
			t.Fatalf("%s: %s", s.Outcome, s.Why)
		}
		if r, err = c.Ready(t.Context(), "", "eu", ""); err != nil || r.Generation != 1 || r.From != "us" || len(r.Took) != 1 {
			t.Errorf("behind a switch: %+v, %v", r, err)
		}
	})
}

// TestReady_HomeIsLost: a home that is not there forbids a planned switch, and the figures that only it knows are said not to be known.
func TestReady_HomeIsLost(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		c := l.coordinator("eu-1")
		l.mu.Lock()
		l.lost = "127.0.0.1:9100"
		l.mu.Unlock()
		r, err := c.Ready(t.Context(), "", "us", "")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK }) || r.Tail.Err == nil || r.Groups.Err == nil {
			t.Errorf("got %+v", r)
		}
		if slices.ContainsFunc(r.Lost, func(c Check) bool { return !c.OK }) {
			t.Errorf("an unplanned switch: %+v", r.Lost)
		}
	})
}
