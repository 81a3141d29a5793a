package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/vigil"
	"github.com/isthmus-project/isthmus/topology"
)

const (
	// tick is how often the machine is told that time goes by.
	tick = 50 * time.Millisecond
	// askEvery is the pause between two questions to all instances.
	askEvery = 25 * time.Millisecond
	// beat is how often the plan is written again, so that others see that somebody is at it.
	beat = time.Second
	// planPatience is how long a plan may take to be written.
	planPatience = 2 * time.Second
)

// Standing is how one instance of a router does in a set.
type Standing struct {
	Node       string
	Home       string
	Generation int64
	Round      int64 // that it holds for; 0 for none
	Held       bool  // no write is under way at the home, and none will be sent on before that round is decided
	Trouble    string
}

// Deps are what a coordinator works with.
type Deps struct {
	Store *generation.Store
	// Instances has all instances of the router look into the logs, and tells how they do in the set. Instances that do not answer are named in missing.
	Instances func(ctx context.Context, set string) (all []Standing, missing []string)
	// Cluster is a cluster by name; it stays open.
	Cluster func(name string) (*broker.Cluster, error)
	// Written has all instances tell how far the logs at the home of a generation go by what it acknowledged to their clients, by topic and partition. Those that do not are named in
	// silent. Nil: nobody tells.
	Written func(ctx context.Context, set string, generation int64) (ends map[string][]int64, silent []string)
	// Mirror is what the links have copied by now; each is asked about one moment.
	Mirror func() arrival.Mirror
	// Dead is what the data centers say of a cluster. Nil: nobody tells, and no home is left by itself.
	Dead func(cluster string) vigil.Verdict
	// Salted is gate.Salted of the running topology.
	Salted func(id, generation int64) (int64, error)
	Unique func() string
	Now    func() generation.Moment
	Log    *slog.Logger
}

// Coordinator runs switches of one router. It keeps nothing between two of them.
type Coordinator struct {
	topo   *topology.Topology
	router topology.Router // the instances are alike in what matters here
	deps   Deps
}

// ErrUnknown says that the topology has no such router, set or cluster.
var ErrUnknown = errors.New("not in the topology")

// New returns the coordinator of a router.
func New(topo *topology.Topology, router string, deps Deps) (*Coordinator, error) {
	if deps.Store == nil || deps.Instances == nil || deps.Cluster == nil || deps.Mirror == nil || deps.Salted == nil || deps.Unique == nil || deps.Now == nil {
		return nil, errors.New("new coordinator: it needs a store, instances, clusters, the mirror, salts, unique texts and a clock")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	for _, r := range topo.Routers {
		if r.Name == router {
			return &Coordinator{topo, r, deps}, nil
		}
	}
	return nil, fmt.Errorf("router %q: %w", router, ErrUnknown)
}

// first is the home of a set in generation 0.
func (c *Coordinator) first(set string) (string, error) {
	if set == "" {
		return c.router.Home, nil
	}
	for _, s := range c.router.Sets {
		if s.Name == set {
			return s.Home, nil
		}
	}
	return "", fmt.Errorf("set %q of router %q: %w", set, c.router.Name, ErrUnknown)
}

// Home is where a set is at home, in which generation, and where it was before; empty for nowhere.
func (c *Coordinator) Home(ctx context.Context, set string) (home, before string, generationNow int64, err error) {
	first, err := c.first(set)
	if err != nil {
		return "", "", 0, err
	}
	if _, err := c.deps.Store.Read(ctx); err != nil {
		return "", "", 0, err
	}
	st, err := c.deps.Store.State(set)
	if err != nil {
		return "", "", 0, err
	}
	if n := len(st.History); n > 0 {
		before = st.History[n-1].From
	}
	return cmp.Or(st.Home, first), before, st.Generation, nil
}

// Order makes the order of a switch that begins now.
func (c *Coordinator) Order(ctx context.Context, set, to string, kind generation.Kind, asked string) (switchover.Order, error) {
	from, before, _, err := c.Home(ctx, set)
	if err != nil {
		return switchover.Order{}, err
	}
	if kind == generation.Back {
		to = cmp.Or(to, before)
	}
	switch _, ok := c.topo.Cluster(to); {
	case to == "":
		return switchover.Order{}, fmt.Errorf("router %q was never at another home than %s: say where to go", c.router.Name, from)
	case !ok:
		return switchover.Order{}, fmt.Errorf("cluster %q: %w", to, ErrUnknown)
	case to == from:
		return switchover.Order{}, fmt.Errorf("router %q is at home at %s already", c.router.Name, to)
	}
	return switchover.Order{Switch: c.deps.Unique(), Set: set, Kind: kind, From: from, To: to, Asked: asked, Began: c.deps.Now().Wall.Milliseconds()}, nil
}

// attempt is one attempt at a switch.
type attempt struct {
	*Coordinator
	state    switchover.State
	events   chan switchover.Event
	work     work // of the step that runs
	plans    chan generation.Plan
	seq      int64                   // of the plan
	wrote    time.Duration           // when, by Now().Mono
	answered map[string]bool         // instances that did, before the round was opened; of the steps behind that
	checks   atomic.Pointer[[]Check] // nil before they are made
	loss     atomic.Pointer[Loss]    // nil where there is none, or before it is known
	say      Tell
}

// work is the action of a step.
type work struct {
	stop context.CancelFunc
	done chan struct{}
}

// Tell is told of each step of a switch, and of what was found by then.
type Tell func(s switchover.State, found Found)

// Found is what a switch has found out.
type Found struct {
	Checks []Check // before it began
	Loss   *Loss   // nil as long as it is not known, and where the home that was left was asked
}

// Run runs a switch until it is decided, or it is not known whether. tell is called for each step, and once more at the end. Run goes on when ctx ends only as far as
// to give the switch up, if that is still possible. Its error says why nothing could be begun; how the switch ended is in the state.
func (c *Coordinator) Run(ctx context.Context, o switchover.Order, tell Tell) (switchover.State, error) {
	if _, err := c.first(o.Set); err != nil {
		return switchover.State{}, err
	}
	a := &attempt{Coordinator: c, events: make(chan switchover.Event, 16), plans: make(chan generation.Plan, 1), say: tell}
	doing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var writer sync.WaitGroup
	writer.Go(func() { a.writePlans(doing, o.Set) })
	defer writer.Wait()
	defer close(a.plans)
	state, actions := switchover.Begin(o, c.deps.Unique(), c.deps.Now())
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	defer a.halt()
	stop := ctx.Done()
	for a.to(doing, state, actions); a.state.Step != switchover.Idle; a.to(doing, state, actions) {
		var e switchover.Event
		select {
		case e = <-a.events:
		case <-ticker.C:
			e.Happening = switchover.Tick
		case <-stop:
			stop = nil
			e.Happening, e.Why = switchover.Stop, "whoever ran it was stopped"
		}
		e.Now = c.deps.Now()
		state, actions = switchover.Next(a.state, e)
	}
	return a.state, nil
}

// to takes the machine's next state and does what it asks for.
func (a *attempt) to(ctx context.Context, s switchover.State, actions []switchover.Action) {
	step := s.Step != a.state.Step
	a.state = s
	for _, do := range actions {
		switch do {
		case switchover.DoPlan:
			a.plan()
		default:
			a.halt()
			a.begin(ctx, do)
		}
	}
	if len(actions) == 0 && s.Step != switchover.Idle && a.deps.Now().Mono-a.wrote >= beat {
		a.plan()
	}
	if step {
		found := Found{Loss: a.loss.Load()}
		if made := a.checks.Load(); made != nil {
			found.Checks = *made
		}
		a.say(s, found)
	}
}

// halt ends what the step before does: its answer would be too late anyway.
func (a *attempt) halt() {
	if a.work.stop != nil {
		a.work.stop()
		<-a.work.done
	}
	a.work = work{}
}

// begin does one action beside the machine.
func (a *attempt) begin(ctx context.Context, do switchover.Action) {
	fn := a.does(do)
	if fn == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a.work = work{cancel, make(chan struct{})}
	state, done := a.state, a.work.done
	go func() {
		defer close(done)
		e := fn(ctx, state)
		if ctx.Err() != nil {
			return
		}
		e.Attempt = state.Attempt
		select {
		case a.events <- e:
		case <-ctx.Done():
		}
	}()
}

// does is the function of an action.
func (a *attempt) does(do switchover.Action) func(context.Context, switchover.State) switchover.Event {
	switch do {
	case switchover.DoCheck:
		return a.check
	case switchover.DoPrepare:
		return a.prepare
	case switchover.DoHold, switchover.DoDrain:
		return a.hold
	case switchover.DoCut:
		return a.cut
	case switchover.DoMirror:
		return a.mirror
	case switchover.DoPropose, switchover.DoStay:
		return a.decide
	case switchover.DoRelease:
		return a.release
	case switchover.DoVerify:
		return a.verify
	}
	return nil
}

// plan has it written where the switch is: for people, and for whoever takes over.
func (a *attempt) plan() {
	s := a.state
	a.wrote = a.deps.Now().Mono
	if s.Proposal.Ballot.Unique == "" {
		return // nothing is open, so there is nothing to take over
	}
	a.seq++
	p := generation.Plan{Switch: s.Switch, Kind: s.Kind, From: s.From, To: s.To, Round: s.Proposal.Round, Ballot: s.Proposal.Ballot, Seq: a.seq, Step: string(s.Step),
		Began: s.Began, Since: s.Since.Wall.Milliseconds(), Outcome: string(s.Outcome), Why: s.Why[:min(len(s.Why), maxWhy)], Options: map[string]string{optionAsked: s.Asked}}
	select {
	case <-a.plans: // one that was not written yet says less
	default:
	}
	a.plans <- p
}

const (
	// maxWhy bounds what a plan says.
	maxWhy = 2000
	// optionAsked is who asked for the switch, and why.
	optionAsked = "asked"
)

// writePlans writes them until there are no more. That one cannot be written stops nothing: the logs decide.
func (a *attempt) writePlans(ctx context.Context, set string) {
	for p := range a.plans {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), planPatience)
		if err := a.deps.Store.WritePlan(call, set, p); err != nil {
			a.deps.Log.Warn("the plan of a switch is not written", "switch", p.Switch, "step", p.Step, "error", err)
		}
		cancel()
	}
}

// Resume is the order of a switch that somebody has left open, from its plan.
func Resume(set string, p generation.Plan) switchover.Order {
	return switchover.Order{Switch: p.Switch, Set: set, Kind: p.Kind, From: p.From, To: p.To, Asked: p.Options[optionAsked], Began: p.Began}
}
