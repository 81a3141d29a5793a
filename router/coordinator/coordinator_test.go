package coordinator

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/reserve"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// TestRun: a switch goes through all its steps, and what is decided, cut and committed is as it should be.
func TestRun(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.commit("readers", map[int32]int64{1: 4, 2: 20})
		c := l.coordinator("eu-1")
		s, steps, took := l.run(t.Context(), c, l.order(c, "us", generation.Planned))
		want := []switchover.Step{switchover.Preflight, switchover.Prepare, switchover.Hold, switchover.Drain, switchover.Cut, switchover.Mirror, switchover.Commit, switchover.Release,
			switchover.Verify, switchover.Idle}
		if s.Outcome != switchover.Committed || !slices.Equal(steps, want) {
			t.Fatalf("%s (%s) by %v", s.Outcome, s.Why, steps)
		}
		if took > time.Second {
			t.Errorf("it took %v", took)
		}
		other := l.coordinator("eu-2")
		home, before, g, err := other.Home(t.Context(), "")
		if err != nil || home != "us" || before != "eu" || g != 1 {
			t.Errorf("home %s, before %s, generation %d, %v", home, before, g, err)
		}
		topics, err := other.deps.Store.Cut(s.Cut)
		if err != nil || len(topics) != 2 {
			t.Fatalf("%+v, %v", topics, err)
		}
		for _, ct := range topics {
			if ct.Topic == "orders" && (!slices.Equal(ct.Virtual, []int64{0, 10, 20}) || !slices.Equal(ct.Left, []int64{0, 10, 20}) || !slices.Equal(ct.Real, []int64{100, 110, 120})) {
				t.Errorf("%+v", ct)
			}
		}
		if got := l.committed("us", "readers"); !maps.Equal(got, map[int32]int64{1: 104, 2: 120}) {
			t.Errorf("the group is at %v", got)
		}
		if plans := other.deps.Store.Plans(""); len(plans) != 1 || plans[0].Outcome != string(switchover.Committed) {
			t.Errorf("%+v", plans)
		}
		back, _, _ := l.run(t.Context(), other, l.order(other, "", generation.Back))
		if back.Outcome != switchover.Committed {
			t.Fatalf("back: %s (%s)", back.Outcome, back.Why)
		}
		if got := l.committed("eu", "readers"); !maps.Equal(got, map[int32]int64{1: 4, 2: 20}) {
			t.Errorf("back, the group is at %v", got)
		}
	})
}

// TestRun_TopicDeleted: a topic that is deleted between two switches is in the cut of the first, and in nobody's way.
func TestRun_TopicDeleted(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.fill("eu", "bills", 0, 3)
		l.fill("us", "bills", 0, 3)
		c := l.coordinator("eu-1")
		if s, _, _ := l.run(t.Context(), c, l.order(c, "us", generation.Planned)); s.Outcome != switchover.Committed {
			t.Fatalf("%s (%s)", s.Outcome, s.Why)
		}
		for _, at := range []string{"eu", "us"} {
			if err := l.at(at).DeleteTopic(t.Context(), "bills"); err != nil {
				t.Fatal(err)
			}
		}
		l.mu.Lock()
		l.deleted = "bills"
		l.mu.Unlock()
		if s, _, _ := l.run(t.Context(), c, l.order(c, "", generation.Back)); s.Outcome != switchover.Committed {
			t.Errorf("back: %s (%s)", s.Outcome, s.Why)
		}
	})
}

// TestRun_Unplanned: a home that nobody reaches is left without being asked, also while an instance is away: when all leases are over, and above all that may have been shown.
func TestRun_Unplanned(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		c := l.coordinator("us-1")
		if err := c.deps.Store.Reserve(t.Context(), "", generation.Bound{Topic: "orders", Offsets: []int64{0, 0, 1 << 30}}); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		l.lost, l.silent = "127.0.0.1:9100", []string{"eu-2"}
		l.mu.Unlock()
		if eu, err := l.cluster("eu"); err == nil {
			eu.HangUp()
		}
		s, steps, took := l.run(t.Context(), c, l.order(c, "us", generation.Unplanned))
		want := []switchover.Step{switchover.Preflight, switchover.Prepare, switchover.Hold, switchover.Cut, switchover.Commit, switchover.Release, switchover.Verify, switchover.Idle}
		if s.Outcome != switchover.Committed || !slices.Equal(steps, want) {
			t.Fatalf("%s (%s) by %v", s.Outcome, s.Why, steps)
		}
		if took > 10*time.Second || took < generation.LeaseLength { // the instance that is away may have a lease
			t.Errorf("it took %v", took)
		}
		topics, err := c.deps.Store.Cut(s.Cut)
		if err != nil || len(topics) != 2 {
			t.Fatalf("%+v, %v", topics, err)
		}
		for _, ct := range topics {
			if ct.Topic == "orders" && (!slices.Equal(ct.Virtual, []int64{reserve.Free, reserve.Ahead + 9, 1 << 30}) || !slices.Equal(ct.Left, []int64{0, 9, 19}) || !slices.Equal(ct.Real, []int64{100, 110, 120})) {
				t.Errorf("%+v", ct)
			}
		}
	})
}

// TestRun_Refused: what a switch lacks is named before anything is begun.
func TestRun_Refused(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		c := l.coordinator("eu-1")
		for _, tc := range []struct {
			name string
			to   string
			do   func() func()
			want string
		}{
			{"no link", "ap", func() func() { return func() {} }, "no link brings bills, orders from eu to ap"},
			{"far behind", "us", func() func() {
				l.behind = 5
				mostBehindNow := mostBehind
				mostBehind = 9
				return func() { l.behind, mostBehind = 0, mostBehindNow }
			}, "records behind"},
			{"an instance is away", "us", func() func() {
				l.silent = []string{"eu-2"}
				return func() { l.silent = nil }
			}, "eu-2 does not answer"},
		} {
			undo := tc.do()
			s, _, _ := l.run(t.Context(), c, l.order(c, tc.to, generation.Planned))
			undo()
			if s.Outcome != switchover.Refused || !strings.Contains(s.Why, tc.want) {
				t.Errorf("%s: %s: %s", tc.name, s.Outcome, s.Why)
			}
		}
		if st, err := c.deps.Store.State(""); err != nil || st.Round != 1 || st.Open {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// TestRun_RollsBack: what the mirror does not bring in time is given up, and the home stays.
func TestRun_RollsBack(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.behind = 1
		c := l.coordinator("eu-1")
		s, _, took := l.run(t.Context(), c, l.order(c, "us", generation.Planned))
		if s.Outcome != switchover.Aborted || took > 20*time.Second {
			t.Errorf("%s (%s) after %v", s.Outcome, s.Why, took)
		}
		home, _, g, err := c.Home(t.Context(), "")
		if st, _ := c.deps.Store.State(""); err != nil || home != "eu" || g != 0 || st.Open {
			t.Errorf("home %s, generation %d, %v, %+v", home, g, err, st)
		}
	})
}

// TestRun_Stopped: whoever asked for it may think better of it as long as nothing is decided.
func TestRun_Stopped(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.behind = 1
		c := l.coordinator("eu-1")
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		s, _, took := l.run(ctx, c, l.order(c, "us", generation.Planned))
		if s.Outcome != switchover.Aborted || took > 4*time.Second {
			t.Errorf("%s (%s) after %v", s.Outcome, s.Why, took)
		}
	})
}

// TestRun_Outwaits: an instance that does not say that it holds is waited for until it has no lease any more.
func TestRun_Outwaits(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.stuck = true
		c := l.coordinator("eu-1")
		l.counted = func(all []Standing) { l.stuck = all[0].Generation == 0 }
		s, _, took := l.run(t.Context(), c, l.order(c, "us", generation.Planned))
		if s.Outcome != switchover.Committed || took < generation.LeaseLength {
			t.Errorf("%s (%s) after %v", s.Outcome, s.Why, took)
		}
	})
}

// TestRun_Two: of two that want different things at once one wins, and both know.
func TestRun_Two(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.coordinator("eu-1"), l.coordinator("eu-2")
		ends := make([]switchover.State, 2)
		var both sync.WaitGroup
		for i, c := range []*Coordinator{a, b} {
			o := l.order(c, "us", generation.Planned)
			both.Go(func() { ends[i], _ = c.Run(t.Context(), o, func(switchover.State, Found) {}) })
		}
		both.Wait()
		won := 0
		for _, s := range ends {
			if s.Outcome == switchover.Committed {
				won++
			}
		}
		_, _, g, err := a.Home(t.Context(), "")
		if err != nil || g != 1 || won != 1 {
			t.Errorf("generation %d, %v; %s (%s) and %s (%s)", g, err, ends[0].Outcome, ends[0].Why, ends[1].Outcome, ends[1].Why)
		}
	})
}

// TestCare: a round that somebody left is gone on with if there is a plan, and is else ended; one that somebody works at is left alone.
func TestCare(t *testing.T) {
	for _, planned := range []bool{true, false} {
		inLab(t, func(t *testing.T, l *lab) {
			c, other := l.coordinator("eu-1"), l.coordinator("eu-2")
			o := l.order(c, "us", generation.Planned)
			p, err := c.deps.Store.Prepare(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if planned {
				plan := generation.Plan{Switch: o.Switch, Kind: o.Kind, From: o.From, To: o.To, Round: p.Round, Ballot: p.Ballot, Seq: 1, Step: "hold", Began: o.Began}
				if err := c.deps.Store.WritePlan(t.Context(), "", plan); err != nil {
					t.Fatal(err)
				}
			}
			ctx, stop := context.WithCancel(t.Context())
			var care sync.WaitGroup
			for turn, who := range []*Coordinator{other, l.coordinator("eu-3")} {
				care.Go(func() { _ = who.Care(ctx, turn) })
			}
			time.Sleep(15 * time.Second)
			home, _, g, err := c.Home(t.Context(), "")
			st, _ := c.deps.Store.State("")
			want := map[bool]string{true: "us", false: "eu"}[planned]
			if err != nil || st.Open || home != want || (g == 1) != planned {
				t.Errorf("with a plan %t: home %s, generation %d, %v, %+v", planned, home, g, err, st)
			}
			stop()
			care.Wait()
		})
	}
}
