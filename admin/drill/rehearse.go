package drill

import (
	"context"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Shadow is the shadow topic where nobody names another.
const Shadow = "isthmus.shadow"

// Rehearser is what a rehearsal asks of the fabric; [admin.Client] is one.
type Rehearser interface {
	// Rehearse tries what a switch does, without a client.
	Rehearse(ctx context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error)
	// Ready tells what a switch would find.
	Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error)
}

// RunRehearsal has the fabric rehearse a switch, which touches no client, and judges it. cfg.Topic is the shadow topic. Its error is for one that could not be tried.
func RunRehearsal(ctx context.Context, cfg Config, api Rehearser, now func() time.Time) (*Report, error) {
	d := newDrill(cfg, Deps{Now: now})
	r := d.report
	ready, err := api.Ready(ctx, &adminpb.ReadyRequest{Name: cfg.Router, Set: cfg.Set, To: cfg.To})
	if err != nil {
		return nil, err
	}
	r.From, r.Before = ready.GetFrom(), exposureOf(ready)
	res, err := api.Rehearse(ctx, &adminpb.RehearseRequest{Router: cfg.Router, Set: cfg.Set, To: cfg.To, Topic: cfg.Topic, Why: cfg.Why})
	if err != nil {
		return nil, err
	}
	judgeRehearsal(r, cfg, res)
	r.Ended = now()
	return r, nil
}

// judgeRehearsal takes what was tried into a report. It is pure.
func judgeRehearsal(r *Report, cfg Config, res *adminpb.RehearseResponse) {
	r.From, r.To = res.GetFrom(), res.GetTo()
	r.Rehearsal = &Rehearsal{Topic: cfg.Topic, Records: res.GetRecords(), Shadowed: res.GetShadowed(), Steps: []Step{}}
	at := 0.0
	for _, s := range res.GetSteps() {
		r.Rehearsal.Steps = append(r.Rehearsal.Steps, Step{s.GetName(), at, s.GetSeconds()})
		if at += s.GetSeconds(); s.GetPart() {
			r.Rehearsal.Seconds += s.GetSeconds()
		}
	}
	for _, c := range res.GetChecks() {
		r.Checks = append(r.Checks, Check{c.GetName(), c.GetOk(), c.GetWarning(), c.GetText()})
		switch {
		case !c.GetOk():
			r.Failures = append(r.Failures, c.GetName()+": "+c.GetText())
		case c.GetWarning():
			r.Warnings = append(r.Warnings, c.GetName()+": "+c.GetText())
		}
	}
	r.Failures = append(r.Failures, res.GetFailures()...)
	if !res.GetShadowed() {
		r.Warnings = append(r.Warnings, "no link brings topic "+cfg.Topic+" from "+r.From+" to "+r.To+", so neither the mirror nor positions were tried: add it to the topics of a link, or name another with --shadow")
	}
	if r.Verdict = Pass; len(r.Failures) > 0 {
		r.Verdict = Fail
	}
}
