package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
)

// answers lets the admin API ask a node. It turns what mirror says into messages, and nothing else.
type answers struct {
	node *node
	name string
}

// states are mirror's states as messages have them.
var states = map[mirror.State]adminpb.State{
	mirror.StateWaiting: adminpb.State_STATE_WAITING, mirror.StateFinding: adminpb.State_STATE_FINDING,
	mirror.StateRunning: adminpb.State_STATE_RUNNING, mirror.StateDraining: adminpb.State_STATE_DRAINING,
	mirror.StateRetrying: adminpb.State_STATE_RETRYING, mirror.StateYielded: adminpb.State_STATE_YIELDED,
	mirror.StateHalted: adminpb.State_STATE_HALTED,
}

// Status implements [admin.Node].
func (a *answers) Status(context.Context) (*adminpb.StatusResponse, error) {
	st := &adminpb.StatusResponse{Node: &adminpb.Node{
		Name: a.name, Writer: a.node.writer, Version: thisBuild().Version,
		Started: timestamppb.New(a.node.started), Now: timestamppb.Now(),
	}}
	for _, l := range a.node.set.Status() {
		link := &adminpb.Link{Name: l.Name, From: l.From, To: l.To, Up: l.Up, Trouble: l.Trouble, Since: moment(l.Since)}
		for _, f := range l.Flows {
			flow := &adminpb.Flow{Topic: f.Topic, Blocked: f.Blocked}
			for _, p := range f.Pumps {
				flow.Partitions = append(flow.Partitions, partition(p))
			}
			link.Flows = append(link.Flows, flow)
		}
		st.Links = append(st.Links, link)
	}
	return st, nil
}

func partition(p mirror.PumpStatus) *adminpb.Partition {
	seen := p.SeenAgo.Seconds()
	if p.SeenAgo < 0 {
		seen = -1
	}
	return &adminpb.Partition{
		Partition: p.Partition, State: states[p.State], Reason: p.Reason, Since: moment(p.Since), Attempts: int32(p.Attempts),
		NextTry: moment(p.NextTry), SourceNext: p.SourceNext, SourceEnd: p.SourceEnd, TargetLast: p.TargetLast,
		LagRecords: p.LagRecords, LagBytes: p.LagBytes, LagSeconds: p.Lag.Seconds(), SeenSecondsAgo: seen,
		Runs: int64(p.Runs), Fenced: p.Fenced, BufferedBytes: p.BufferedBytes,
	}
}

// moment leaves a time unset that is.
func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Translate implements [admin.Node].
func (a *answers) Translate(ctx context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	t, err := a.node.set.Translate(ctx, req.GetLink(), req.GetTopic(), req.GetPartition(), req.GetOffset(), req.GetReverse())
	if err != nil {
		return nil, known(err)
	}
	return &adminpb.TranslateResponse{
		From: t.From, To: t.To, Topic: t.Topic, Partition: t.Partition, Offset: t.Offset, Result: t.Result, Exact: t.Exact,
	}, nil
}

// Ledger implements [admin.Node].
func (a *answers) Ledger(_ context.Context, link string) ([]*adminpb.LedgerEntry, error) {
	entries, err := a.node.set.Ledger(link)
	if err != nil {
		return nil, known(err)
	}
	out := make([]*adminpb.LedgerEntry, 0, len(entries))
	for _, e := range entries {
		out = append(out, &adminpb.LedgerEntry{
			Link: e.Link, Topic: e.Pump.Topic, Partition: e.Pump.Partition, First: e.First, Last: e.Last, Records: e.Records,
			Reason: string(e.Reason), Detail: e.Detail, At: moment(e.At), Writer: e.Writer,
		})
	}
	return out, nil
}

// unknown is an error of mirror that is also admin's ErrUnknown, without its words.
type unknown struct{ error }

func (u unknown) Is(target error) bool { return target == admin.ErrUnknown }

func known(err error) error {
	if errors.Is(err, mirror.ErrNoLink) || errors.Is(err, mirror.ErrUnknownPump) {
		return unknown{err}
	}
	return err
}

// Health implements [admin.Node].
func (a *answers) Health() admin.Health {
	v := &a.node.vitals
	v.mu.Lock()
	beat, seen, ended := v.beat, v.seen, v.ended
	v.mu.Unlock()
	var h admin.Health
	if beat.IsZero() {
		h.Started = fmt.Errorf("starting: %w", admin.ErrNotReady)
	}
	switch late := time.Since(beat); {
	case ended != nil:
		h.Live = ended
	case !beat.IsZero() && late > beatLate && !v.stopping.Load():
		h.Live = fmt.Errorf("the links were last looked at %s ago: something hangs", late.Round(time.Second))
	}
	switch {
	case v.stopping.Load():
		h.Ready = errors.New("stopping")
	case h.Started != nil:
		h.Ready = h.Started
	default:
		h.Ready = reachable(seen)
	}
	return h
}

// reachable is nil if any link has both its ends, or if there are no links.
func reachable(links []mirror.LinkStatus) error {
	var down []string
	for _, l := range links {
		if l.Up {
			return nil
		}
		down = append(down, l.Name+": "+l.Trouble)
	}
	if len(down) == 0 {
		return nil
	}
	return fmt.Errorf("no link has both its ends:\n%s", strings.Join(down, "\n"))
}
