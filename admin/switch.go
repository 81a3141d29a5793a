package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Switcher is the part of a [Node] that takes the clients of routers to other homes.
type Switcher interface {
	// Homes tells where the sets of a router have their homes now, and which clusters may be one.
	Homes(ctx context.Context, router string) (*Homes, error)
	// Switch runs a switch, or only its checks for a dry run, until it has ended, and tells how far it is. The fields of the request were checked, and to is
	// filled in; confirm is not its matter. It tells what is news: what server and request know may be left out, and what it told before stays. The
	// outcome is told when it is known; that of a dry run may be left out, its checks say it. An error of tell says that nobody listens any more: a switch that has not begun ends then,
	// another one goes on. The end of ctx is that of the node: what can be rolled back is. [Asker] of ctx wants it. Its error is for a switch that could not be tried.
	Switch(ctx context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error
	// Ready tells what a switch of a router would find. The fields of the request were checked, and its name is a router's. Name, set, node, at and verdict
	// of the answer are not its matter, nor what only those know that mirror: ages, and why a partition is not mirrored.
	Ready(ctx context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error)
	// Rehearse tries what a switch does, without a client. The fields of the request were checked; node is not its matter.
	Rehearse(ctx context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error)
	// NoteDrill keeps a drill of a router that is there, durably; its fields were checked.
	NoteDrill(ctx context.Context, d *adminpb.Drill) error
	// Drills are those of a router that is there, in the order in which they were noted.
	Drills(ctx context.Context, router string) ([]*adminpb.Drill, error)
}

// Homes is what can be switched of a router.
type Homes struct {
	// Sets are its sets, what no set names first; none: there is no such router.
	Sets []SetHome
	// Clusters may be the home.
	Clusters []string
}

// SetHome is where a set has its home.
type SetHome struct {
	// Set is its name, empty for what no set names.
	Set string
	// Home is its home, and Before the one before; empty: there was none.
	Home, Before string
	// Generation counts the homes; that of the file is 0.
	Generation int64
	// Not has clusters that must not be its home, and why.
	Not map[string]string
}

const (
	// maxSwitch bounds how long a switch may take: its steps have limits of their own, which are less together.
	maxSwitch = 5 * time.Minute
	// maxName bounds names of routers, sets and clusters in a request.
	maxName = 256
)

// errGone is what who tells of a switch is told when nobody listens any more.
var errGone = errors.New("who asked for the switch has gone")

// Switch implements the call of that name.
func (s *service) Switch(req *adminpb.SwitchRequest, stream grpc.ServerStreamingServer[adminpb.SwitchProgress]) error {
	ctx := stream.Context()
	w := write{verb: "Switch", target: switchTarget(req), reason: req.GetWhy()}
	asking, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	order, at, err := s.order(asking, req)
	if err != nil {
		return s.refuse(ctx, w, err)
	}
	w.target = switchTarget(order)
	token := switchToken(order, at)
	if err := confirmed(req.GetConfirm(), token, false, ""); err != nil && !req.GetDryRun() {
		return s.refuse(ctx, w, err)
	}
	if !s.switches.take() {
		return s.refuse(ctx, w, fmt.Errorf("node %s runs %d switches already; ask another node, or again when they are done: %w", s.self, cap(s.switches), ErrBusy))
	}
	t := newTale(&adminpb.SwitchProgress{Router: order.GetRouter(), Set: order.GetSet(), Kind: order.GetKind(), To: order.GetTo(), From: at.Home,
		Generation: at.Generation, Node: s.self, DryRun: order.GetDryRun()}, ctx.Done(), s.now)
	return s.runSwitch(ctx, w, order, token, t, stream)
}

// runSwitch has the node do it and sends what it tells. Who reads slowly, or goes away, keeps no switch from going on.
func (s *service) runSwitch(ctx context.Context, w write, order *adminpb.SwitchRequest, token string, t *tale, stream grpc.ServerStreamingServer[adminpb.SwitchProgress]) error {
	d := deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason}
	doing := ctx
	if !order.GetDryRun() {
		doing = context.WithoutCancel(ctx)
		begun := d
		begun.outcome = "begun"
		s.audit.done(ctx, begun, nil)
	}
	doing, cancel := context.WithTimeout(doing, maxSwitch)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	type end struct {
		last *adminpb.SwitchProgress
		err  error
	}
	ended := make(chan end, 1)
	work.Go(func() {
		last, err := t.end(s.node.Switch(doing, order, t.tell), token)
		if !order.GetDryRun() {
			d.outcome, d.note = last.GetOutcome(), switchNote(last)
			s.audit.done(doing, d, err)
		}
		s.switches.leave()
		ended <- end{last, err}
	})
	work.Go(func() {
		select {
		case <-s.ending:
			cancel()
		case <-doing.Done():
		}
	})
	gone := ctx.Done()
	told := time.NewTicker(progressEvery)
	defer told.Stop()
	for {
		select {
		case <-told.C:
			t.goesOn()
		case e := <-ended:
			if e.err != nil {
				return s.code(w.verb, e.err)
			}
			return stream.Send(e.last)
		case <-t.wake:
			if m := t.known(); ctx.Err() == nil && m.GetStep() != idleStep { // the last one comes with ended
				_ = stream.Send(m) // who cannot be told has gone, which ctx says
			}
		case <-gone:
			gone = nil // what has begun comes to its end
		}
	}
}

// Asker is who made the call of a context that a [Node] got.
func Asker(ctx context.Context) string { return callerOf(ctx).name }

// order is a request that can be carried out, with all that was left out of it, and where the set is now. Its error names all that is wrong.
func (s *service) order(ctx context.Context, req *adminpb.SwitchRequest) (*adminpb.SwitchRequest, SetHome, error) {
	back := req.GetKind() == adminpb.SwitchKind_SWITCH_KIND_BACK
	_, known := adminpb.SwitchKind_name[int32(req.GetKind())]
	long := func(field, value string) *FieldError {
		return when(len(value) > maxName, field, "has %d bytes, the limit is %d", len(value), maxName)
	}
	err := errors.Join(fields(
		missing("router", req.GetRouter(), "name one; isthmus router status lists them"), long("router", req.GetRouter()),
		long("set", req.GetSet()), long("to", req.GetTo()),
		when(req.GetTo() == "" && !back, "to", "is empty; name the cluster that is to be the home"),
		when(!known || req.GetKind() == adminpb.SwitchKind_SWITCH_KIND_UNSPECIFIED, "kind", "%d is no kind of switch; say planned, unplanned or back", req.GetKind()),
	), checkReason("why", req.GetWhy()))
	if max(len(req.GetRouter()), len(req.GetSet()), len(req.GetTo())) > maxName {
		return nil, SetHome{}, err
	}
	homes, failed := s.node.Homes(ctx, req.GetRouter())
	if failed != nil {
		return nil, SetHome{}, errors.Join(err, failed)
	}
	at, wrong := homes.find(req)
	if err = errors.Join(err, wrong); err != nil {
		return nil, SetHome{}, err
	}
	order := proto.CloneOf(req)
	order.Confirm = ""
	if order.GetTo() == "" {
		order.To = at.Before
	}
	return order, at, nil
}

// find is the set of a request. Its error names all of the request that does not fit what there is; what is empty has been told.
func (h *Homes) find(req *adminpb.SwitchRequest) (SetHome, error) {
	var names []string
	for _, one := range h.Sets {
		if one.Set != "" {
			names = append(names, one.Set)
		}
	}
	has := "it has none"
	if len(names) > 0 {
		has = "it has " + list(names)
	}
	there := len(h.Sets) > 0
	i := slices.IndexFunc(h.Sets, func(one SetHome) bool { return one.Set == req.GetSet() })
	var at SetHome
	if i >= 0 {
		at = h.Sets[i]
	}
	of := "router " + req.GetRouter()
	if req.GetSet() != "" {
		of = "set " + req.GetSet() + " of " + of
	}
	return at, fields(
		when(req.GetRouter() != "" && !there, "router", "there is no router %.100q; isthmus router status lists them", req.GetRouter()),
		when(there && i < 0, "set", "router %s has no set %.100q; %s", req.GetRouter(), req.GetSet(), has),
		when(req.GetTo() != "" && !slices.Contains(h.Clusters, req.GetTo()), "to", "there is no cluster %.100q; there are %s", req.GetTo(), list(h.Clusters)),
		when(at.Not[req.GetTo()] != "", "to", "%s must not be the home of %s: %s", req.GetTo(), of, at.Not[req.GetTo()]),
		when(req.GetTo() != "" && req.GetTo() == at.Home, "to", "%s is the home of %s already", req.GetTo(), of),
		when(req.GetTo() == "" && req.GetKind() == adminpb.SwitchKind_SWITCH_KIND_BACK && i >= 0 && at.Before == "", "to",
			"%s had no home before %s, so there is none to go back to; name a cluster, with switchover", of, at.Home),
	)
}

// switchTarget is what a request is about, for the audit.
func switchTarget(req *adminpb.SwitchRequest) string {
	text := req.GetRouter()
	if req.GetSet() != "" {
		text += "/" + req.GetSet()
	}
	if req.GetTo() != "" {
		text += " to " + req.GetTo()
	}
	return valid(text + ", " + Name(req.GetKind()))
}

// switchNote is what the audit says of the end of a switch.
func switchNote(last *adminpb.SwitchProgress) string {
	text := fmt.Sprintf("from %s, generation %d", last.GetFrom(), last.GetGeneration())
	if last.GetId() != "" {
		text = "switch " + last.GetId() + " " + text
	}
	if last.GetWhy() != "" {
		text += ": " + last.GetWhy()
	}
	return clip(text)
}

// switchToken fits as long as the home is the one of which the dry run told.
func switchToken(order *adminpb.SwitchRequest, at SetHome) string {
	return tokenOf("Switch", Name(order.GetKind()), order.GetRouter(), order.GetSet(), at.Home, order.GetTo(), strconv.FormatInt(at.Generation, 10))
}
