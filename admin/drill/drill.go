package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

const (
	// sung is how long the canary may take until each of its partitions has an acknowledged write.
	sung = 30 * time.Second
	// readyWithin is how long is waited for the links to bring the canary's topic, and all that was written, before a switch.
	readyWithin = time.Minute
	// readBack is how long what the canary wrote may take to be read, and how long a last write may wait for its acknowledgement.
	readBack = 20 * time.Second
	// mostDrill bounds a drill that has begun to move clients.
	mostDrill = 3 * time.Hour
	// lookEvery is the pause between two looks.
	lookEvery = 250 * time.Millisecond
)

// API is what a drill asks of the fabric; [admin.Client] is one.
type API interface {
	// Ready tells what a switch would find.
	Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error)
	// Switch makes a switch, or only its checks, and tells how far it is.
	Switch(ctx context.Context, req *adminpb.SwitchRequest, each func(*adminpb.SwitchProgress) error) error
	// Nodes tells who is there.
	Nodes(ctx context.Context) (*adminpb.NodesResponse, error)
}

// Probe is what writes and reads through the door meanwhile; [Canary] is one.
type Probe interface {
	// Prepare makes its topic.
	Prepare(ctx context.Context) error
	// Run writes and reads until ctx ends.
	Run(ctx context.Context) error
	// Logs is what it saw so far, and why it cannot read, if it cannot.
	Logs() ([]Log, error)
}

// Config is what is to be done.
type Config struct {
	ID     string // names the drill
	Mode   Mode   // Switchover, Failover or Failback
	Router string
	Set    string
	To     string // empty only of a failback: the home before
	Why    string
	// Topic is the canary's.
	Topic string
	// AcceptLoss is how many records may be lost. A planned switch loses none.
	AcceptLoss int64
	// RTO is how long clients may not write.
	RTO time.Duration
	// Settle is for how long the canary writes before and behind each switch.
	Settle time.Duration
	// Back has clients go back afterwards, as a failback.
	Back bool
	// Stay leaves what failed where it is, and brings nothing back.
	Stay bool
}

// Deps are what a drill works with.
type Deps struct {
	API   API
	Probe Probe // nil for a plan
	// Tell is told what is done, in a line; it may be nil.
	Tell func(text string)
	Now  func() time.Time
}

// drill is one that runs.
type drill struct {
	Config
	Deps
	report *Report
	stop   <-chan struct{} // closed when somebody wants it to end soon
}

// Plan looks whether a drill may begin, and says what it would do. Nothing is begun.
func Plan(ctx context.Context, cfg Config, deps Deps) (*Report, error) {
	d := newDrill(cfg, deps)
	if err := d.look(ctx); err != nil {
		return nil, err
	}
	d.report.Steps = steps(d.Config, d.report.From, d.report.To)
	if d.report.Verdict == "" {
		d.report.Verdict = NotBegun
	}
	d.report.Ended = d.Now()
	return d.report, nil
}

// Run does a drill, from the checks to the verdict. Its error is for one that could not be tried; how it ended is in the report.
func Run(ctx context.Context, cfg Config, deps Deps) (*Report, error) {
	d := newDrill(cfg, deps)
	if err := d.look(ctx); err != nil {
		return nil, err
	}
	if d.report.Verdict == "" {
		d.sing(ctx)
	}
	d.report.Ended = d.Now()
	return d.report, nil
}

func newDrill(cfg Config, deps Deps) *drill {
	if deps.Tell == nil {
		deps.Tell = func(string) {}
	}
	return &drill{Config: cfg, Deps: deps, report: &Report{Version: Version, ID: cfg.ID, Subject: Subject{Mode: cfg.Mode, Router: cfg.Router, Set: cfg.Set, To: cfg.To, Why: cfg.Why}, Began: deps.Now(),
		Objective: Objective{cfg.RTO.Seconds(), cfg.AcceptLoss}, Legs: []Leg{}, Warnings: []string{}, Failures: []string{}}}
}

// kindOf is the switch that a drill makes first.
func kindOf(m Mode) adminpb.SwitchKind {
	switch m {
	case Failover:
		return adminpb.SwitchKind_SWITCH_KIND_UNPLANNED
	case Failback:
		return adminpb.SwitchKind_SWITCH_KIND_BACK
	}
	return adminpb.SwitchKind_SWITCH_KIND_PLANNED
}

// look makes all checks. A verdict says that it may not begin.
func (d *drill) look(ctx context.Context) error {
	dry, err := d.last(ctx, &adminpb.SwitchRequest{Router: d.Router, Set: d.Set, To: d.To, Kind: kindOf(d.Mode), DryRun: true, Why: d.Why}, nil)
	if err != nil {
		return err
	}
	d.report.From, d.report.To = dry.GetFrom(), dry.GetTo()
	ready, err := d.API.Ready(ctx, &adminpb.ReadyRequest{Name: d.Router, Set: d.Set, To: dry.GetTo(), Canary: d.Topic})
	if err != nil {
		return err
	}
	nodes, err := d.API.Nodes(ctx)
	if err != nil {
		return err
	}
	d.report.Before = exposureOf(ready)
	d.report.Checks = preconditions(d.Config, dry, ready, nodes)
	for _, c := range d.report.Checks {
		switch {
		case !c.OK:
			d.report.Verdict = Refused
			d.report.Failures = append(d.report.Failures, c.Name+": "+c.Text)
		case c.Warning:
			d.report.Warnings = append(d.report.Warnings, c.Name+": "+c.Text)
		}
	}
	return nil
}

// sing does the drill while the canary sings. Before the first switch the end of ctx ends it; a drill that moves clients comes to its end, sooner.
func (d *drill) sing(ctx context.Context) {
	r := d.report
	prepare, cancel := context.WithTimeout(ctx, sung)
	err := d.Probe.Prepare(prepare)
	cancel()
	if err != nil {
		d.refuse(err)
		return
	}
	d.stop = ctx.Done()
	doing, stop := context.WithTimeout(context.WithoutCancel(ctx), mostDrill)
	var canary sync.WaitGroup
	var failed error
	canary.Go(func() { failed = d.Probe.Run(doing) })
	began := d.Now()
	err = d.heard(ctx, began)
	var ready *adminpb.ReadyResponse
	if err == nil {
		ready, err = d.mayGo(ctx, r.To)
	}
	if err == nil && !sleep(ctx, d.Settle) {
		err = fmt.Errorf("interrupted before a switch was begun: %w", ctx.Err())
	}
	if err != nil {
		d.refuse(err)
	} else {
		d.switches(doing, ready)
		d.settle(doing, began)
	}
	stop()
	canary.Wait()
	if failed != nil {
		r.Failures = append(r.Failures, failed.Error())
	}
	r.Verdict = cmp.Or(r.Verdict, verdictOf(r))
}

func (d *drill) refuse(err error) {
	d.report.Verdict = Refused
	d.report.Failures = append(d.report.Failures, err.Error())
}

// heard waits until each partition of the canary has an acknowledged write since a moment.
func (d *drill) heard(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sung)
	defer cancel()
	for {
		logs, err := d.Probe.Logs()
		if len(logs) > 0 && acked(logs, since) {
			return nil
		}
		if !sleep(ctx, lookEvery) {
			return errors.Join(fmt.Errorf("the canary's writes were not acknowledged within %v: is there a way from here to the doors of router %s, and may it write topic %s?", sung, d.Router, d.Topic), err)
		}
	}
}

// acked reports whether each partition has a write that was acknowledged behind a moment.
func acked(logs []Log, since time.Time) bool {
	for _, l := range logs {
		ok := false
		for _, w := range l.Writes {
			ok = ok || w.Acked.After(since)
		}
		if !ok {
			return false
		}
	}
	return true
}

// mayGo waits until a planned switch to a cluster may begin, and tells what it would find: the links bring the canary's topic, and what was just written.
func (d *drill) mayGo(ctx context.Context, to string) (*adminpb.ReadyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		ready, err := d.API.Ready(ctx, &adminpb.ReadyRequest{Name: d.Router, Set: d.Set, To: to, Canary: d.Topic})
		if err == nil && ready.GetVerdict() != admin.ReadyNo {
			return ready, nil
		}
		if err == nil {
			err = errors.New(strings.Join(forbidding(ready.GetChecks()), "; "))
		}
		if !sleep(ctx, lookEvery) {
			return nil, fmt.Errorf("the switch to %s may not begin within %v: %w", to, readyWithin, err)
		}
	}
}

// switches makes the switches of the drill, and brings back what failed.
func (d *drill) switches(ctx context.Context, ready *adminpb.ReadyResponse) {
	r := d.report
	leg := d.leg(ctx, kindOf(d.Mode), r.To, ready)
	if failures := d.judged(leg); len(failures) > 0 {
		r.Failures = append(r.Failures, failures...)
		if leg.Outcome == "committed" && !d.Stay {
			d.bringBack(ctx, leg)
		}
		return
	}
	if !d.Back {
		return
	}
	ready, err := d.mayGo(ctx, leg.From)
	if err != nil {
		r.Failures = append(r.Failures, err.Error())
		return
	}
	back := d.leg(ctx, adminpb.SwitchKind_SWITCH_KIND_BACK, leg.From, ready)
	r.Failures = append(r.Failures, d.judged(back)...)
}

// bringBack takes clients back to where they were.
func (d *drill) bringBack(ctx context.Context, failed *Leg) {
	d.Tell(fmt.Sprintf("it was not good enough: back to %s", failed.From))
	ready, err := d.mayGo(ctx, failed.From)
	if err != nil {
		d.report.Failures = append(d.report.Failures, "it cannot be brought back: "+err.Error())
		return
	}
	back := d.leg(ctx, adminpb.SwitchKind_SWITCH_KIND_BACK, failed.From, ready)
	d.report.Legs[len(d.report.Legs)-1].Back = true
	if back.Outcome != "committed" {
		d.report.Failures = append(d.report.Failures, fmt.Sprintf("it was not brought back to %s: %s: %s", failed.From, back.Outcome, back.Why))
	}
}

// leg makes one switch, before which ready was found, and waits until the canary has seen what it can.
func (d *drill) leg(ctx context.Context, kind adminpb.SwitchKind, to string, ready *adminpb.ReadyResponse) *Leg {
	began := d.Now()
	d.Tell(fmt.Sprintf("%s switch to %s", admin.Name(kind), to))
	step := ""
	m, err := d.last(ctx, &adminpb.SwitchRequest{Router: d.Router, Set: d.Set, To: to, Kind: kind, Why: "drill " + d.ID}, func(p *adminpb.SwitchProgress) {
		if p.GetStep() == step {
			return
		}
		step = p.GetStep()
		what := step
		if step == idle {
			what = p.GetOutcome()
		}
		d.Tell(fmt.Sprintf("+%.3f %s", d.Now().Sub(began).Seconds(), what))
	})
	leg := legOf(m, kind, to, began)
	leg.Exposed = exposureOf(ready)
	if err != nil {
		leg.Outcome, leg.Why = cmp.Or(leg.Outcome, "unknown"), cmp.Or(leg.Why, err.Error())
	}
	ended := d.Now()
	leg.Seconds = ended.Sub(began).Seconds()
	if err := d.heard(ctx, ended); err != nil {
		leg.Why = cmp.Or(leg.Why, err.Error())
	}
	d.settles(ctx)
	until := d.Now()
	f := d.seen(ctx, began, until)
	leg.Canary = f.canaried(began)
	d.report.Legs = append(d.report.Legs, *leg)
	return &d.report.Legs[len(d.report.Legs)-1]
}

// settles lets the canary write on for a while, unless somebody wants the drill to end soon.
func (d *drill) settles(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.Settle)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-d.stop:
	}
}

// seen waits until what was written between two moments is acknowledged and read, for a while, and judges it.
func (d *drill) seen(ctx context.Context, from, to time.Time) Figures {
	ctx, cancel := context.WithTimeout(ctx, readBack)
	defer cancel()
	for {
		logs, _ := d.Probe.Logs() // what cannot be read is not read: that is judged
		if f := Judge(logs, from, to); f.Lost == 0 && f.Acked+f.Failed == f.Writes || !sleep(ctx, lookEvery) {
			return f
		}
	}
}

// settle waits for what is not read yet, and judges all that was written until then.
func (d *drill) settle(ctx context.Context, began time.Time) {
	f := d.seen(ctx, began, d.Now())
	r := d.report
	_, bad := d.Probe.Logs()
	r.Result = &Result{RPORecords: f.Lost, RPOSeconds: f.LostFor.Seconds(), Canary: f.canaried(began)}
	for _, l := range r.Legs {
		r.Result.RTOSeconds = max(r.Result.RTOSeconds, l.Canary.Outage)
		r.Result.RPORecords, r.Result.RPOSeconds = max(r.Result.RPORecords, l.Canary.Lost), max(r.Result.RPOSeconds, l.Canary.LostFor) // a tail may have come late
	}
	failures, warnings := judgeAll(d.Config, f)
	r.Failures, r.Warnings = append(r.Failures, failures...), append(r.Warnings, warnings...)
	if bad != nil && f.Lost > 0 {
		r.Failures = append(r.Failures, "the canary could not read: "+bad.Error())
	}
}

// idle is the step of a switch that has ended.
const idle = "idle"

// last makes a switch and returns what was told last, never nil.
func (d *drill) last(ctx context.Context, req *adminpb.SwitchRequest, each func(*adminpb.SwitchProgress)) (*adminpb.SwitchProgress, error) {
	last := &adminpb.SwitchProgress{}
	err := d.API.Switch(ctx, req, func(p *adminpb.SwitchProgress) error {
		last = p
		if each != nil {
			each(p)
		}
		return nil
	})
	if err == nil && last.GetStep() != idle {
		err = errors.New("the node did not say how it ended")
	}
	return last, err
}
