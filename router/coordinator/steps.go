package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// prepare opens the round.
func (a *attempt) prepare(ctx context.Context, s switchover.State) switchover.Event {
	all, _ := a.deps.Instances(ctx, s.Set)
	a.answered = make(map[string]bool, len(all))
	for _, i := range all {
		a.answered[i.Node] = true
	}
	p, err := a.deps.Store.Prepare(ctx, s.Set)
	switch {
	case errors.Is(err, generation.ErrBeaten):
		return switchover.Event{Happening: switchover.Overtook, Why: err.Error()}
	case err != nil:
		return switchover.Event{Happening: switchover.Unsure, Why: err.Error()}
	}
	return switchover.Event{Happening: switchover.Promised, Proposal: p}
}

// decide has the round decided, for the switch or to stay.
func (a *attempt) decide(ctx context.Context, s switchover.State) switchover.Event {
	v := s.Value()
	err := a.deps.Store.Propose(ctx, s.Proposal, v)
	switch {
	case err == nil:
		return switchover.Event{Happening: switchover.Decided, Value: v}
	case errors.Is(err, generation.ErrBeaten):
		return switchover.Event{Happening: switchover.Overtook, Why: err.Error()}
	}
	return switchover.Event{Happening: switchover.Unsure, Why: err.Error()}
}

// until asks all instances until every one of them is as wanted, and returns false if ctx ended before. Who does not answer is waited for: the machine knows for how long. Behind
// the decision of an unplanned switch only those are that answered before it began: the others may be as dead as the home, and before it their leases are waited for.
func (a *attempt) until(ctx context.Context, s switchover.State, is func(Standing) bool) bool {
	for {
		all, missing := a.deps.Instances(ctx, s.Set)
		if s.Kind == generation.Unplanned && s.Outcome != switchover.Running {
			missing = slices.DeleteFunc(missing, func(node string) bool { return !a.answered[node] })
		}
		as := len(missing) == 0
		for _, i := range all {
			as = as && is(i)
		}
		if as {
			return true
		}
		if !pause(ctx, askEvery) {
			return false
		}
	}
}

// pause waits, and tells whether ctx did not end meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hold waits until no instance lets a write through. They drain what is under way before they say so, so that draining ends at once.
func (a *attempt) hold(ctx context.Context, s switchover.State) switchover.Event {
	if !a.until(ctx, s, func(i Standing) bool { return i.Held && i.Round == s.Proposal.Round }) {
		return switchover.Event{}
	}
	if s.Step == switchover.Drain {
		return switchover.Event{Happening: switchover.Drained}
	}
	return switchover.Event{Happening: switchover.Held}
}

// release waits until every instance is at the home that was decided.
func (a *attempt) release(ctx context.Context, s switchover.State) switchover.Event {
	if !a.until(ctx, s, a.serves(s)) {
		return switchover.Event{}
	}
	return switchover.Event{Happening: switchover.Released}
}

// serves tells whether an instance is where the decision wants it.
func (a *attempt) serves(s switchover.State) func(Standing) bool {
	generation := s.Proposal.Generation
	if s.Outcome == switchover.Committed {
		generation++
	}
	return func(i Standing) bool { return i.Generation >= generation && i.Round == 0 }
}

// verify looks whether they all serve.
func (a *attempt) verify(ctx context.Context, s switchover.State) switchover.Event {
	serves := a.serves(s)
	if !a.until(ctx, s, func(i Standing) bool { return serves(i) && i.Trouble == "" }) {
		return switchover.Event{}
	}
	return switchover.Event{Happening: switchover.Verified}
}

// most is how many things an error names.
const most = 5

// some names the first of many.
func some(all []string) string {
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
