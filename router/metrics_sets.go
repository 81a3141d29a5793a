package router

import (
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/hold"
)

var (
	descGeneration = desc("generation", "How often the home of a set has changed, as far as this instance has followed.", "set")
	descHome       = desc("home", "1 for the cluster that is the home of a set at this instance.", "set", "home")
	descPhase      = desc("phase", "1 for what this instance does for a set: serving, or draining, held or lost while its home changes.", "set", "phase")
	descHolds      = desc("held_requests", "Connections whose request waits because the home of its set changes, or because this instance may not write.", "set")
	descMoves      = desc("moves_total", "Times that a set was taken to another home.", "set")
	descMoveFails  = desc("move_failures_total", "Times that a set could not be taken to another home; it is tried again.", "set")
	descGated      = desc("gated_batches_total", "Batches of idempotent producers that were held against what the home before had of them, by what was found.", "set", "reason")
	descWaited     = desc("waited_seconds_total", "Time for which requests were held because their home was changing, or because this instance might not write.")
)

// collectSets tells of the homes of the sets.
func (r *Router) collectSets(s sink) {
	waiting := make(map[int]int)
	for _, c := range r.open.list() {
		if c.seen.Waiting.Load() {
			waiting[c.set()]++
		}
	}
	for set, one := range r.Standings() {
		s.gauge(descGeneration, float64(one.Generation), one.Set)
		s.gauge(descHome, 1, one.Set, one.Home)
		for p := hold.Serving; p <= hold.Lost; p++ {
			is := 0.0
			if p == one.Phase {
				is = 1
			}
			s.gauge(descPhase, is, one.Set, p.String())
		}
		s.gauge(descHolds, float64(waiting[set]), one.Set)
		gated := r.stages.now[set].Load().decided()
		for _, reason := range gate.Reasons() {
			s.counter(descGated, float64(gated[reason]), one.Set, reason.String())
		}
		s.counter(descMoves, float64(r.followers[set].moved.Load()), one.Set)
		s.counter(descMoveFails, float64(r.followers[set].failed.Load()), one.Set)
	}
}
