package router

import (
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
)

// goal is where a set is to be and what is to be held there, by what is known of the logs. It is pure.
type goal struct {
	generation int64
	home       string // empty: the file's
	died       bool   // the home before it was presumed dead
	round      int64  // that is open; 0 for none
	lost       bool   // and the home of now is presumed dead
	to         string // the home that the open round would decide, as far as its plan tells
}

// goalOf is what follows from the logs of a set. Of the plans of an open round that of the highest ballot counts, and where none names it yet the newest that names no round. A round
// without a plan is taken for a planned switch, in which the home can still be asked.
func goalOf(st generation.State, plans []generation.Plan) goal {
	g := goal{generation: st.Generation, home: st.Home}
	if n := len(st.History); n > 0 {
		g.died = st.History[n-1].Kind == generation.Unplanned
	}
	if !st.Open {
		return g
	}
	g.round = st.Round
	var of generation.Plan
	for _, p := range plans { // the oldest switch first
		switch {
		case p.Outcome != "":
		case p.Round == st.Round && (of.Round != st.Round || p.Ballot.Compare(of.Ballot) > 0), p.Round == 0 && of.Round == 0:
			of = p
		}
	}
	g.lost, g.to = of.Kind == generation.Unplanned, of.To
	return g
}

// phase is what a set that is at a generation does meanwhile, and the open round that it does it for. drained is the last round for which transactions had their time to end.
func (g goal) phase(at, drained int64) (hold.Phase, int64) {
	held := func(lost bool) hold.Phase {
		if lost {
			return hold.Lost
		}
		return hold.Held
	}
	switch {
	case g.generation > at:
		return held(g.died), 0
	case g.round != 0 && !g.lost && g.round != drained:
		return hold.Draining, g.round
	case g.round != 0:
		return held(g.lost), g.round
	}
	return hold.Serving, 0
}
