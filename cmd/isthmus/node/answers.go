package node

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
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// answers lets the admin API ask a node. It turns what mirror says into messages, and nothing else.
type answers struct {
	node *Node
	name string
}

// states are mirror's states as messages have them.
var states = map[mirror.State]adminpb.State{
	mirror.StateWaiting: adminpb.State_STATE_WAITING, mirror.StateFinding: adminpb.State_STATE_FINDING,
	mirror.StateRunning: adminpb.State_STATE_RUNNING, mirror.StateDraining: adminpb.State_STATE_DRAINING,
	mirror.StateRetrying: adminpb.State_STATE_RETRYING, mirror.StateYielded: adminpb.State_STATE_YIELDED,
	mirror.StateHalted: adminpb.State_STATE_HALTED, mirror.StateElsewhere: adminpb.State_STATE_ELSEWHERE,
	mirror.StatePaused: adminpb.State_STATE_PAUSED,
}

// guarantees are mirror's promises as messages have them.
var guarantees = map[mirror.Guarantee]adminpb.Guarantee{
	mirror.GuaranteeExactlyOnce: adminpb.Guarantee_GUARANTEE_EXACTLY_ONCE,
	mirror.GuaranteeAtLeastOnce: adminpb.Guarantee_GUARANTEE_AT_LEAST_ONCE,
	mirror.GuaranteeUnproven:    adminpb.Guarantee_GUARANTEE_UNPROVEN,
}

// Status implements [admin.Node].
func (a *answers) Status(context.Context) (*adminpb.StatusResponse, error) {
	st := &adminpb.StatusResponse{Node: a.self()}
	for _, l := range a.node.set.Status() {
		link := &adminpb.Link{Name: l.Name, From: l.From, To: l.To, Up: l.Up, Trouble: l.Trouble, Since: moment(l.Since),
			Guarantee: guarantees[l.Guarantee], GuaranteeWhy: l.GuaranteeWhy}
		for _, f := range l.Flows {
			flow := &adminpb.Flow{Topic: f.Topic, As: f.As, Blocked: f.Blocked}
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
	headroom := p.Headroom.Seconds()
	if p.Headroom < 0 {
		headroom = -1
	}
	return &adminpb.Partition{
		Partition: p.Partition, State: states[p.State], Reason: p.Reason, Since: moment(p.Since), Attempts: int32(p.Attempts),
		NextTry: moment(p.NextTry), SourceNext: p.SourceNext, SourceEnd: p.SourceEnd, TargetLast: p.TargetLast,
		LagRecords: p.LagRecords, LagBytes: p.LagBytes, LagSeconds: p.Lag.Seconds(), SeenSecondsAgo: seen,
		Runs: int64(p.Runs), Fenced: p.Fenced, ReadsFrom: p.ReadsFrom, BufferedBytes: p.BufferedBytes,
		Cause: string(p.Cause), HeadroomSeconds: headroom, HeadroomBytes: p.HeadroomBytes,
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
		From: t.From, To: t.To, Topic: t.Topic, As: t.As, Partition: t.Partition, Offset: t.Offset, Result: t.Result, Exact: t.Exact,
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
		out = append(out, ledgerEntry(e))
	}
	return out, nil
}

func ledgerEntry(e mirror.LedgerEntry) *adminpb.LedgerEntry {
	return &adminpb.LedgerEntry{
		Link: e.Link, Topic: e.Pump.Topic, Partition: e.Pump.Partition, First: e.First, Last: e.Last, Records: e.Records,
		Reason: string(e.Reason), Detail: e.Detail, At: moment(e.At), Writer: e.Writer, Policy: e.Policy, Digest: e.Digest,
	}
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
	beat, seen := v.beat, v.seen
	v.mu.Unlock()
	var h admin.Health
	if beat.IsZero() {
		h.Started = fmt.Errorf("starting: %w", admin.ErrNotReady)
	}
	switch late := time.Since(beat); {
	case a.node.set.Ended() != nil:
		h.Live = a.node.set.Ended()
	case !beat.IsZero() && late > beatLate && !v.stopping.Load():
		h.Live = fmt.Errorf("the links were last looked at %s ago: something hangs", late.Round(time.Second))
	}
	switch {
	case v.stopping.Load():
		h.Ready = errors.New("stopping")
	case h.Started != nil:
		h.Ready = h.Started
	case errors.Is(a.node.fabric.pool.Trouble(), gossip.ErrNameTaken):
		h.Ready = a.node.fabric.pool.Trouble()
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
