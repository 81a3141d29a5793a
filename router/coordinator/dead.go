package coordinator

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/vigil"
)

// automatic is how the asker of a switch that nobody asked for begins.
const automatic = "automatic: "

// watched is what is known of a set's home that may be dead.
type watched struct {
	vigil.Watch
	said string // why nothing is done, as it was logged last
}

// leaveDead leaves the home of a set if it is to be left by itself, has been dead for long enough, and may be left. turn is as of [Coordinator.Care].
func (c *Coordinator) leaveDead(ctx context.Context, set string, turn int, w *watched) {
	auto := c.router.LeavesDead(set)
	if auto.FailoverTo == "" || c.deps.Dead == nil {
		return
	}
	first, err := c.first(set)
	if err != nil {
		return
	}
	st, err := c.deps.Store.State(set)
	home := cmp.Or(st.Home, first)
	if err != nil || home == auto.FailoverTo {
		return
	}
	says := c.deps.Dead(home)
	if !w.Due(home, says.Dead, c.deps.Now().Mono, auto.FailoverAfter+time.Duration(turn)*beat) {
		return
	}
	why := vigil.Refused(automaticSwitches(st.History), time.UnixMilli(c.deps.Now().Wall.Milliseconds()))
	if err := c.topo.MayBeHome(c.router.Name, set, auto.FailoverTo); err != nil && why == "" {
		why = err.Error()
	}
	if why == "" {
		c.deps.Log.Warn("a home is dead, and is left", "router", c.router.Name, "set", set, "home", home, "to", auto.FailoverTo, "says", says.String())
		why = c.leave(ctx, set, auto.FailoverTo, says)
		w.Watch = vigil.Watch{} // it is tried again when it has been dead for as long once more
	}
	if why != w.said && why != "" {
		c.deps.Log.Error("a home is dead, and is not left; isthmus failover does it", "router", c.router.Name, "set", set, "home", home, "to", auto.FailoverTo, "says", says.String(), "why", why)
	}
	w.said = why
}

// leave runs the switch, and says why it did not come to be.
func (c *Coordinator) leave(ctx context.Context, set, to string, says vigil.Verdict) string {
	o, err := c.Order(ctx, set, to, generation.Unplanned, automatic+says.String())
	if err != nil {
		return err.Error()
	}
	var found Found
	last, err := c.Run(ctx, o, func(_ switchover.State, f Found) { found = f })
	switch {
	case err != nil:
		return err.Error()
	case last.Outcome != switchover.Committed && last.Outcome != switchover.Beaten:
		return string(last.Outcome) + ": " + last.Why
	case last.Outcome == switchover.Committed && found.Loss != nil:
		c.deps.Log.Warn("a home that is dead was left", "router", c.router.Name, "set", set, "switch", o.Switch, "from", o.From, "to", to, "missing_at_most", found.Loss.Records, "silent", found.Loss.Silent)
	}
	return ""
}

// automaticSwitches are the times of those that nobody asked for.
func automaticSwitches(history []generation.Value) (at []time.Time) {
	for _, v := range history {
		if v.Kind == generation.Unplanned && strings.HasPrefix(v.Asked, automatic) {
			at = append(at, time.UnixMilli(v.Began))
		}
	}
	return at
}
