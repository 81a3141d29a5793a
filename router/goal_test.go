package router

import (
	"testing"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
)

// TestGoal: what a set does follows from what is decided, from what is open, and from whether the home is presumed dead, which plans tell.
func TestGoal(t *testing.T) {
	switched := func(kind generation.Kind) generation.State {
		return generation.State{Round: 2, Generation: 1, Home: "us", History: []generation.Value{{Kind: kind, Generation: 1, Home: "us", From: "eu"}}}
	}
	open := func(st generation.State) generation.State {
		st.Open = true
		return st
	}
	plan := func(round, ballot int64, kind generation.Kind, outcome string) generation.Plan {
		return generation.Plan{Round: round, Ballot: generation.Ballot{Counter: ballot}, Kind: kind, To: string(kind), Outcome: outcome}
	}
	for name, c := range map[string]struct {
		st      generation.State
		plans   []generation.Plan
		at      int64
		drained int64
		phase   hold.Phase
		round   int64
		to      string
	}{
		"nothing":                          {st: generation.State{Round: 1}},
		"a plan alone":                     {st: generation.State{Round: 1}, plans: []generation.Plan{plan(1, 1, generation.Unplanned, "")}},
		"open":                             {st: open(generation.State{Round: 3}), drained: 3, phase: hold.Held, round: 3},
		"open, transactions may end":       {st: open(generation.State{Round: 3}), drained: 2, phase: hold.Draining, round: 3},
		"there, and transactions may end":  {st: open(switched(generation.Planned)), at: 1, drained: 1, phase: hold.Draining, round: 2},
		"open, planned":                    {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(3, 1, generation.Back, "")}, drained: 3, phase: hold.Held, round: 3, to: "back"},
		"open, unplanned":                  {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(3, 1, generation.Unplanned, "")}, phase: hold.Lost, round: 3, to: "unplanned"},
		"the higher ballot":                {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(3, 2, generation.Planned, ""), plan(3, 1, generation.Unplanned, "")}, drained: 3, phase: hold.Held, round: 3, to: "planned"},
		"one that names the round":         {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(3, 1, generation.Unplanned, ""), plan(0, 9, generation.Planned, "")}, phase: hold.Lost, round: 3, to: "unplanned"},
		"one that names none yet":          {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(0, 1, generation.Planned, ""), plan(0, 1, generation.Unplanned, "")}, phase: hold.Lost, round: 3, to: "unplanned"},
		"another round's":                  {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(2, 9, generation.Unplanned, "")}, drained: 3, phase: hold.Held, round: 3},
		"one that has ended":               {st: open(generation.State{Round: 3}), plans: []generation.Plan{plan(3, 9, generation.Unplanned, "aborted")}, drained: 3, phase: hold.Held, round: 3},
		"decided":                          {st: switched(generation.Planned), phase: hold.Held},
		"decided, the home before is dead": {st: switched(generation.Unplanned), phase: hold.Lost},
		"there":                            {st: switched(generation.Unplanned), at: 1},
		"decided, and the next is open":    {st: open(switched(generation.Planned)), plans: []generation.Plan{plan(2, 1, generation.Unplanned, "")}, phase: hold.Held, to: "unplanned"},
		"there, and the next is open":      {st: open(switched(generation.Unplanned)), at: 1, drained: 2, phase: hold.Held, round: 2},
	} {
		g := goalOf(c.st, c.plans)
		if phase, round := g.phase(c.at, c.drained); phase != c.phase || round != c.round || g.to != c.to {
			t.Errorf("%s: %v for round %d, to %q; want %v, %d, %q", name, phase, round, g.to, c.phase, c.round, c.to)
		}
	}
}
