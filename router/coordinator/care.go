package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
)

const (
	// careEvery is how often it is looked for switches that somebody left open.
	careEvery = time.Second
	// orphaned is for how long nobody may be seen at work at an open round before it is taken over: a few beats of a plan.
	orphaned = 4 * beat
)

// seen is a round that was found open.
type seen struct {
	round   int64
	ballot  generation.Ballot
	plan    int64 // Seq of the newest plan
	since   time.Duration
	trouble string // of the last try to end it
}

// Care ends rounds that somebody has opened and left: clients are held meanwhile; and it leaves homes that are dead, where the topology wants that done by itself. It takes a switch over and goes on with it if its plan is there, and else decides to stay.
// turn is the place of this node among those that do the same, from 0 on: each waits a little longer than the one before. It returns when ctx ends.
func (c *Coordinator) Care(ctx context.Context, turn int) error {
	ticker := time.NewTicker(careEvery)
	defer ticker.Stop()
	open, dead := make(map[string]seen), make(map[string]*watched)
	for _, set := range c.sets() {
		dead[set] = new(watched)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := c.deps.Store.Read(ctx); err != nil {
			continue // nobody can decide anything
		}
		for _, set := range c.sets() {
			at, ok, err := c.find(set)
			if err != nil || !ok {
				delete(open, set)
				if err == nil {
					c.leaveDead(ctx, set, turn, dead[set])
				}
				continue
			}
			before := open[set]
			if before.round != at.round || before.ballot != at.ballot || before.plan != at.plan {
				open[set] = at
				continue
			}
			if c.deps.Now().Mono-before.since < orphaned+time.Duration(turn)*beat {
				continue
			}
			err = c.end(ctx, set)
			if at.since = c.deps.Now().Mono; err != nil && err.Error() != before.trouble {
				at.trouble = err.Error()
				c.deps.Log.Warn("a switch that was left open is not ended, tried again", "router", c.router.Name, "set", set, "error", err)
			}
			open[set] = at
		}
	}
}

// sets are the names of the router's, that of what no set names first.
func (c *Coordinator) sets() []string {
	out := []string{""}
	for _, s := range c.router.Sets {
		out = append(out, s.Name)
	}
	return out
}

// find looks whether a round of a set is open, as far as was read.
func (c *Coordinator) find(set string) (at seen, open bool, err error) {
	st, err := c.deps.Store.State(set)
	if err != nil || !st.Open {
		return seen{}, false, err
	}
	at = seen{round: st.Round, ballot: st.Highest, since: c.deps.Now().Mono}
	if p, ok := c.planOf(set, st); ok {
		at.plan = p.Seq
	}
	return at, true, nil
}

// planOf is the plan of the highest ballot of the open round.
func (c *Coordinator) planOf(set string, st generation.State) (generation.Plan, bool) {
	for _, p := range c.deps.Store.Plans(set) {
		if p.Round == st.Round && p.Ballot == st.Highest {
			return p, true
		}
	}
	return generation.Plan{}, false
}

// end goes on with what was left, or decides to stay.
func (c *Coordinator) end(ctx context.Context, set string) error {
	st, err := c.deps.Store.State(set)
	if err != nil {
		return err
	}
	if p, ok := c.planOf(set, st); ok {
		c.deps.Log.Warn("a switch that was left open is taken over", "router", c.router.Name, "set", set, "switch", p.Switch, "step", p.Step)
		last, err := c.Run(ctx, Resume(set, p), func(switchover.State, Found) {})
		if err == nil && last.Outcome == switchover.Unknown {
			err = errors.New(last.Why)
		}
		if err != nil || last.Outcome != switchover.Refused {
			return err
		}
	}
	return c.stay(ctx, set)
}

// stay has the open round decide that the home stays, unless something else may be decided already.
func (c *Coordinator) stay(ctx context.Context, set string) error {
	first, err := c.first(set)
	if err != nil {
		return err
	}
	p, err := c.deps.Store.Prepare(ctx, set)
	if err != nil {
		return err
	}
	home := p.Home
	if home == "" {
		home = first
	}
	v, err := c.deps.Store.Abort(ctx, p, generation.Value{Kind: generation.Stay, Generation: p.Generation, Home: home, Switch: c.deps.Unique(), Asked: "nobody went on", Began: c.deps.Now().Wall.Milliseconds()})
	if err != nil {
		return fmt.Errorf("end round %d of set %q: %w", p.Round, set, err)
	}
	c.deps.Log.Warn("a switch that was left open is ended", "router", c.router.Name, "set", set, "decided", string(v.Kind), "home", v.Home)
	return nil
}
