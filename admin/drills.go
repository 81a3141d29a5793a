package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Bounds of what is kept of drills, and told.
const (
	usualDrills = 20
	maxDrills   = 1000
	// maxDrill bounds how long a drill may have been, and how far ahead the clock of who ran it may be.
	maxDrill = 24 * time.Hour
)

// drillModes and drillVerdicts are what may be noted.
var (
	drillModes    = []string{"switchover", "failover", "failback", "rehearse"}
	drillVerdicts = []string{"pass", "fail", "refused", "aborted", "unknown"}
)

// NoteDrill implements the call of that name.
func (s *service) NoteDrill(ctx context.Context, req *adminpb.NoteDrillRequest) (*adminpb.NoteDrillResponse, error) {
	d := proto.CloneOf(req.GetDrill())
	if d == nil {
		d = &adminpb.Drill{}
	}
	w := write{verb: "NoteDrill", target: valid(clip(fmt.Sprintf("%s %s of %s", d.GetMode(), d.GetId(), d.GetRouter()))), reason: d.GetWhy()}
	err := errors.Join(checkDrill(d, s.now()), checkReason("why", d.GetWhy()))
	if err == nil {
		err = s.knowsRouter(ctx, d.GetRouter(), d.GetSet())
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	d.By, d.Failure = callerOf(ctx).name, clip(d.GetFailure())
	err = s.node.NoteDrill(ctx, d)
	s.audit.done(ctx, deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason, note: valid(clip(d.GetVerdict() + ": " + d.GetFailure()))}, err)
	if err != nil {
		return nil, s.code(w.verb, err)
	}
	return &adminpb.NoteDrillResponse{Drill: d}, nil
}

// Rehearse implements the call of that name.
func (s *service) Rehearse(ctx context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error) {
	asked := &adminpb.SwitchRequest{Router: req.GetRouter(), Set: req.GetSet(), To: req.GetTo(), Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED}
	w := write{verb: "Rehearse", target: switchTarget(asked), reason: req.GetWhy()}
	err := errors.Join(fields(missing("topic", req.GetTopic(), "name a topic that a link brings"), when(len(req.GetTopic()) > maxName, "topic", "has %d bytes, the limit is %d", len(req.GetTopic()), maxName)),
		checkReason("why", req.GetWhy()))
	if _, _, bad := s.order(ctx, asked); bad != nil {
		err = errors.Join(err, bad)
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	if !s.switches.take() {
		return nil, s.refuse(ctx, w, fmt.Errorf("node %s runs %d switches and rehearsals already; ask another node, or again when they are done: %w", s.self, cap(s.switches), ErrBusy))
	}
	defer s.switches.leave()
	res, err := s.node.Rehearse(ctx, req)
	s.audit.done(ctx, deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason, note: fmt.Sprintf("%d records, %d failures", res.GetRecords(), len(res.GetFailures()))}, err)
	if err != nil {
		return nil, s.code(w.verb, err)
	}
	res.Node = s.self
	return res, nil
}

// checkDrill names all of a drill that cannot be kept.
func checkDrill(d *adminpb.Drill, now time.Time) error {
	long := func(field, value string) *FieldError {
		return when(len(value) > maxName, field, "has %d bytes, the limit is %d", len(value), maxName)
	}
	number := func(field string, v float64) *FieldError {
		return when(math.IsNaN(v) || math.IsInf(v, 0) || v < 0, field, "%v is no time that something took", v)
	}
	began, ended := d.GetBegan(), d.GetEnded()
	return fields(missing("id", d.GetId(), "give the drill a name"), missing("router", d.GetRouter(), "name one; isthmus router status lists them"),
		long("id", d.GetId()), long("router", d.GetRouter()), long("set", d.GetSet()), long("from", d.GetFrom()), long("to", d.GetTo()),
		when(!slices.Contains(drillModes, d.GetMode()), "mode", "%.100q is none of %s", d.GetMode(), list(drillModes)),
		when(!slices.Contains(drillVerdicts, d.GetVerdict()), "verdict", "%.100q is none of %s", d.GetVerdict(), list(drillVerdicts)),
		when(began.CheckValid() != nil || ended.CheckValid() != nil, "began", "it needs a moment when it began, and one when it ended"),
		when(began.CheckValid() == nil && ended.CheckValid() == nil && (ended.AsTime().Before(began.AsTime()) || ended.AsTime().Sub(began.AsTime()) > maxDrill || ended.AsTime().After(now.Add(maxDrill))),
			"ended", "it must be behind began, at most %v, and not in the future", maxDrill),
		number("rto_seconds", d.GetRtoSeconds()), number("rpo_seconds", d.GetRpoSeconds()), when(d.GetRpoRecords() < 0, "rpo_records", "%d is negative", d.GetRpoRecords()))
}

// knowsRouter returns why drills cannot be of a router or set; empty is what no set names.
func (s *service) knowsRouter(ctx context.Context, router, set string) error {
	homes, err := s.node.Homes(ctx, router)
	switch {
	case err != nil:
		return err
	case len(homes.Sets) == 0:
		return fmt.Errorf("router %.100q: %w", router, ErrUnknown)
	case !slices.ContainsFunc(homes.Sets, func(h SetHome) bool { return h.Set == set }):
		return &FieldError{"set", fmt.Sprintf("router %.100q has no set %.100q", router, set)}
	}
	return nil
}

// Drills implements the call of that name.
func (s *service) Drills(ctx context.Context, req *adminpb.DrillsRequest) (*adminpb.DrillsResponse, error) {
	limit := cmp.Or(int(req.GetLimit()), usualDrills)
	err := fields(missing("router", req.GetRouter(), "name one; isthmus router status lists them"), when(len(req.GetRouter()) > maxName, "router", "has %d bytes, the limit is %d", len(req.GetRouter()), maxName),
		when(limit < 0 || limit > maxDrills, "limit", "%d is not between 0 and %d", limit, maxDrills))
	if err == nil {
		err = s.knowsRouter(ctx, req.GetRouter(), "")
	}
	if err != nil {
		return nil, s.code("Drills", err)
	}
	all, err := s.node.Drills(ctx, req.GetRouter())
	if err != nil {
		return nil, s.code("Drills", err)
	}
	slices.SortStableFunc(all, func(a, b *adminpb.Drill) int { return b.GetEnded().AsTime().Compare(a.GetEnded().AsTime()) })
	return &adminpb.DrillsResponse{Drills: all[:min(limit, len(all))]}, nil
}
