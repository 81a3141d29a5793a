package switchover

import (
	"cmp"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
)

// Step is where a switch is.
type Step string

// The steps. Each may be done again by another coordinator.
const (
	Idle      Step = "idle" // it has ended
	Preflight Step = "preflight"
	Prepare   Step = "prepare"
	Hold      Step = "hold"
	Drain     Step = "drain"
	Cut       Step = "cut"
	Mirror    Step = "mirror"
	Commit    Step = "commit"
	Release   Step = "release"
	Verify    Step = "verify"
	Rollback  Step = "rollback"
)

// limits is how long each step may take: a client waits for 7 s before its connection is closed, and shall not wait for nothing.
var limits = map[Step]time.Duration{
	Preflight: 30 * time.Second, Prepare: 10 * time.Second, Hold: 2 * generation.LeaseLength, Drain: 5 * time.Second, Cut: 10 * time.Second,
	Mirror: 20 * time.Second, Commit: 10 * time.Second, Release: 10 * time.Second, Verify: 30 * time.Second, Rollback: 10 * time.Second,
}

// Outcome is how a coordinator's attempt ended.
type Outcome string

// The outcomes.
const (
	Running   Outcome = ""
	Committed Outcome = "committed"
	Aborted   Outcome = "aborted" // the home stays
	Refused   Outcome = "refused" // nothing was begun
	Beaten    Outcome = "beaten"  // another coordinator goes on, or has ended it
	Unknown   Outcome = "unknown" // somebody must resume it: nobody may write until it is decided
)

// Order is what is to be done. It is in the plan, so that whoever takes over does the same.
type Order struct {
	Switch, Set string
	Kind        generation.Kind // Planned, Unplanned or Back
	From, To    string
	Asked       string
	Began       int64 // ms since 1970
}

// State is an attempt of one coordinator at a switch.
type State struct {
	Order
	Attempt  string // unique; events of others are too late
	Step     Step
	Since    generation.Moment
	Proposal generation.Proposal
	Prepared bool
	Cut      generation.CutRef
	Aborting bool
	Outcome  Outcome
	Why      string
}

// Happening says what an event tells.
type Happening string

// What happens. What a step does not wait for is passed over.
const (
	Tick     Happening = "tick"     // time goes by
	Ready    Happening = "ready"    // the switch may begin
	No       Happening = "no"       // it may not: Why
	Promised Happening = "promised" // Event.Proposal stands
	Held     Happening = "held"     // all instances take no new writes in this round; in an unplanned one they have also ended what waits for an answer
	Drained  Happening = "drained"  // and none waits for an answer
	Written  Happening = "written"  // Event.Cut is durable
	Mirrored Happening = "mirrored" // the new home has all records and positions up to the cut
	Decided  Happening = "decided"  // the round decides Event.Value
	Overtook Happening = "overtook" // somebody prepared a higher ballot
	Unsure   Happening = "unsure"   // it is not known what became of the proposal
	Released Happening = "released" // all instances serve the new home
	Verified Happening = "verified"
	Stop     Happening = "stop" // somebody wants it to end
)

// Event is what a coordinator hears.
type Event struct {
	Happening
	Attempt  string // of the action that it answers; empty for Tick and Stop
	Now      generation.Moment
	Proposal generation.Proposal
	Cut      generation.CutRef
	Value    generation.Value
	Why      string
}

// Action is what a coordinator does. Each may be done any number of times.
type Action string

// The actions. Whoever has done one tells by an event of the attempt.
const (
	DoCheck   Action = "check"   // may it begin: lag, rights, topics, the tail of the new home
	DoPrepare Action = "prepare" // generation.Store.Prepare
	DoHold    Action = "hold"    // ask all instances to take no new writes
	DoDrain   Action = "drain"   // ask them for what is not answered yet
	DoCut     Action = "cut"     // read the ends, write the cut
	DoMirror  Action = "mirror"  // wait until records and groups are mirrored up to the cut
	DoPropose Action = "propose" // generation.Store.Propose of State.Value
	DoStay    Action = "stay"    // generation.Store.Abort with State.Value
	DoRelease Action = "release" // tell all instances to read the decision now
	DoVerify  Action = "verify"  // look whether they serve what was decided
	DoPlan    Action = "plan"    // write where the switch is, before anything else is done
	DoTell    Action = "tell"    // tell who asked how it ended
)

// does is what each step begins with.
var does = map[Step]Action{
	Preflight: DoCheck, Prepare: DoPrepare, Hold: DoHold, Drain: DoDrain, Cut: DoCut, Mirror: DoMirror, Commit: DoPropose, Release: DoRelease,
	Verify: DoVerify, Rollback: DoStay, Idle: DoTell,
}

// Begin is the first state of an attempt, also of one that takes a switch over: what was done is found in the logs when it has prepared.
func Begin(o Order, attempt string, now generation.Moment) (State, []Action) {
	return State{Order: o, Attempt: attempt}.to(Preflight, now)
}

// to goes to a step, and does what it begins with.
func (s State) to(step Step, now generation.Moment) (State, []Action) {
	s.Step, s.Since = step, now
	return s, []Action{DoPlan, does[step]}
}

// end ends the attempt.
func (s State) end(o Outcome, why string, now generation.Moment) (State, []Action) {
	s.Outcome, s.Why = o, cmp.Or(s.Why, why)
	return s.to(Idle, now)
}

// rollback gives up before the commit.
func (s State) rollback(why string, now generation.Moment) (State, []Action) {
	s.Why = cmp.Or(s.Why, why)
	return s.to(Rollback, now)
}

// Value is what the attempt proposes in its step: what it must go on with, the switch, or to stay.
func (s State) Value() generation.Value {
	switch {
	case s.Proposal.Taken != nil:
		return *s.Proposal.Taken
	case s.Step == Rollback:
		return generation.Value{Kind: generation.Stay, Generation: s.Proposal.Generation, Home: cmp.Or(s.Proposal.Home, s.From), Switch: s.Switch, Asked: s.Asked, Began: s.Began}
	}
	return generation.Value{Kind: s.Kind, Generation: s.Proposal.Generation + 1, Home: s.To, From: s.From, Switch: s.Switch, Asked: s.Asked, Began: s.Began, Cut: s.Cut}
}

// quiet reports whether no instance can acknowledge a write of before any more, whoever has not said so.
func (s State) quiet(now generation.Moment) bool {
	return s.Prepared && generation.Outwaited(s.Proposal.Prepared, now)
}

// Next is what follows from an event. It is pure.
func Next(s State, e Event) (State, []Action) {
	if s.Step == Idle || e.Happening != Tick && e.Happening != Stop && e.Attempt != s.Attempt {
		return s, nil
	}
	late := e.Happening == Tick && e.Now.Mono-s.Since.Mono >= limits[s.Step]
	if e.Happening == Overtook && s.Step != Preflight && s.Step != Release && s.Step != Verify {
		return s.end(Beaten, e.Why, e.Now)
	}
	switch s.Step {
	case Preflight, Prepare:
		return s.beginning(e, late)
	case Hold, Drain, Cut, Mirror:
		return s.middle(e, late)
	case Commit, Rollback:
		return s.deciding(e, late)
	}
	switch {
	case s.Step == Release && (e.Happening == Released || late):
		return s.to(Verify, e.Now)
	case s.Step == Verify && e.Happening == Verified:
		return s.end(s.Outcome, "", e.Now)
	case s.Step == Verify && late:
		return s.end(s.Outcome, "not all instances said in time that they serve what was decided", e.Now)
	}
	return s, nil
}

// beginning: before a round is open nothing is lost by giving up.
func (s State) beginning(e Event, late bool) (State, []Action) {
	switch {
	case e.Happening == Stop && s.Step == Preflight:
		return s.end(Aborted, e.Why, e.Now)
	case e.Happening == Stop:
		s.Aborting, s.Why = true, cmp.Or(s.Why, e.Why)
	case s.Step == Preflight && e.Happening == Ready:
		return s.to(Prepare, e.Now)
	case s.Step == Preflight && e.Happening == No:
		return s.end(Refused, e.Why, e.Now)
	case s.Step == Preflight && late:
		return s.end(Refused, "the clusters did not say in time whether the switch may begin", e.Now)
	case s.Step == Prepare && (late || e.Happening == Unsure):
		return s.end(Unknown, cmp.Or(e.Why, "a majority of the control clusters did not answer in time"), e.Now)
	case s.Step == Prepare && e.Happening == Promised:
		s.Proposal, s.Prepared = e.Proposal, true
		switch {
		case e.Proposal.Taken != nil: // it may be decided, so the others of the round have waited and mirrored
			return s.to(Commit, e.Now)
		case s.Aborting:
			return s.rollback("", e.Now)
		case e.Proposal.Home != "" && e.Proposal.Home != s.From: // it is over, or another was done
			return s.rollback("the home is "+e.Proposal.Home+" by now", e.Now)
		}
		return s.to(Hold, e.Now)
	}
	return s, nil
}

// middle: the round is open, and clients wait.
func (s State) middle(e Event, late bool) (State, []Action) {
	planned := s.Kind != generation.Unplanned
	switch {
	case e.Happening == Stop:
		return s.rollback(e.Why, e.Now)
	case s.Step == Hold && (e.Happening == Held || s.quiet(e.Now)):
		if planned {
			return s.to(Drain, e.Now)
		}
		return s.to(Cut, e.Now)
	case s.Step == Drain && (e.Happening == Drained || s.quiet(e.Now)):
		return s.to(Cut, e.Now)
	case s.Step == Cut && e.Happening == Written:
		if s.Cut = e.Cut; planned {
			return s.to(Mirror, e.Now)
		}
		return s.to(Commit, e.Now)
	case s.Step == Mirror && e.Happening == Mirrored:
		return s.to(Commit, e.Now)
	case late || e.Happening == No:
		return s.rollback(cmp.Or(e.Why, "step "+string(s.Step)+" took longer than "+limits[s.Step].String()), e.Now)
	}
	return s, nil
}

// deciding: only the logs say how it ends.
func (s State) deciding(e Event, late bool) (State, []Action) {
	switch {
	case e.Happening == Decided && e.Value != s.Value():
		return s.end(Beaten, "switch "+e.Value.Switch+" was decided", e.Now)
	case e.Happening == Decided && e.Value.Kind == generation.Stay:
		if s.Outcome = Aborted; s.Step == Commit { // another's, that was taken over
			return s.to(Release, e.Now)
		}
		return s.to(Verify, e.Now)
	case e.Happening == Decided:
		if s.Outcome = Committed; e.Value.Switch != s.Switch {
			s.Outcome, s.Why = Beaten, "switch "+e.Value.Switch+" was decided"
		}
		return s.to(Release, e.Now)
	case late || e.Happening == Unsure:
		return s.end(Unknown, cmp.Or(e.Why, "it is not known whether the switch is decided"), e.Now)
	}
	return s, nil
}
