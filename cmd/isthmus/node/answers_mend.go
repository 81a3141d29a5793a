package node

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
)

// Retry implements [admin.Node].
func (a *answers) Retry(_ context.Context, req *adminpb.RetryRequest) (int, error) {
	n, err := a.node.set.Retry(req.GetLink(), req.GetTopic(), req.GetPartitions())
	return n, known(err)
}

// anchorAt are the places of an anchor but offsets.
var anchorAt = map[adminpb.AnchorAt]mirror.AnchorAt{
	adminpb.AnchorAt_ANCHOR_AT_START: mirror.AnchorStart, adminpb.AnchorAt_ANCHOR_AT_END: mirror.AnchorEnd,
}

// Anchor implements [admin.Node].
func (a *answers) Anchor(ctx context.Context, req *adminpb.AnchorRequest, author string) (*adminpb.AnchorResponse, error) {
	at, end := anchorAt[req.GetAt()]
	if !end {
		at = mirror.AnchorAt(req.GetOffset())
	}
	plan, err := a.node.set.Anchor(ctx, mirror.AnchorRequest{Link: req.GetLink(), Topic: req.GetTopic(), Partition: req.GetPartition(),
		At: at, Why: req.GetWhy(), Author: author, DryRun: req.GetDryRun()})
	switch {
	case errors.Is(err, mirror.ErrAnchor):
		return nil, &admin.FieldError{Field: "at", Msg: err.Error()}
	case errors.Is(err, mirror.ErrUnknownPump) && a.elsewhere(req.GetLink(), req.GetTopic(), req.GetPartition()):
		return nil, fmt.Errorf("anchor %s %s:%d: %w", req.GetLink(), req.GetTopic(), req.GetPartition(), admin.ErrElsewhere)
	case err != nil:
		return nil, ofCluster(known(err))
	}
	res := &adminpb.AnchorResponse{Plan: plan.Lines, Before: plan.Before, After: plan.After, Lost: plan.Lost, Doubled: plan.Doubled, DryRun: req.GetDryRun()}
	for _, e := range plan.Entries {
		res.Entries = append(res.Entries, ledgerEntry(e))
	}
	return res, nil
}

// ofCluster gives an error that a cluster caused its class: what the cluster does not let us do is denied, and else it is asked again later.
func ofCluster(err error) error {
	var said *kerr.Error
	var access *broker.AccessError
	var wire net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("%w: %w", err, admin.ErrDenied)
	case errors.As(err, &said), errors.As(err, &access), errors.As(err, &wire):
		return fmt.Errorf("%w: %w", err, admin.ErrNotReady)
	}
	return err
}

// elsewhere reports whether the link has the partition, and another node copies it.
func (a *answers) elsewhere(link, topic string, partition int32) bool {
	for _, l := range a.node.set.Status() {
		if l.Name != link {
			continue
		}
		for _, f := range l.Flows {
			if f.Topic == topic && partition >= 0 && int(partition) < len(f.Pumps) {
				return f.Pumps[partition].State == mirror.StateElsewhere
			}
		}
	}
	return false
}

// Drift implements [admin.Node].
func (a *answers) Drift(ctx context.Context, link string) ([]*adminpb.Drift, error) {
	all, err := a.node.set.Drift(ctx, link)
	if errors.Is(err, mirror.ErrUnheard) { // another node may have
		return nil, fmt.Errorf("%w: %w", err, admin.ErrNotReady)
	}
	if err != nil {
		return nil, known(err)
	}
	out := make([]*adminpb.Drift, 0, len(all))
	for _, d := range all {
		out = append(out, &adminpb.Drift{Link: d.Link, Kind: d.Kind, Topic: d.Topic, Name: d.Name, Source: d.Source, Target: d.Target,
			Verdict: d.Verdict, Why: d.Why})
	}
	return out, nil
}

// Verify implements [admin.Node]. It compares partition by partition, so that what is known is told at once.
func (a *answers) Verify(ctx context.Context, req *adminpb.VerifyRequest, each func(*adminpb.VerifyResponse)) error {
	r := mirror.VerifyRequest{Link: req.GetLink(), Topic: req.GetTopic(), From: req.GetFrom(), To: req.GetTo()}
	if r.To == 0 {
		r.To = -1
	}
	if r.From == 0 {
		r.From = -1
	}
	var done adminpb.VerifyProgress
	all := float64(len(req.GetPartitions()))
	for i, p := range req.GetPartitions() {
		r.Partitions = []int32{p}
		report, err := a.node.set.Verify(ctx, r, func(at mirror.VerifyProgress) {
			each(&adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Records: done.Records + at.Records, Bytes: done.Bytes + at.Bytes,
				Fraction: (float64(i) + at.Fraction) / all}})
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return known(err)
		}
		done.Records, done.Bytes = done.Records+report.Records, done.Bytes+report.Bytes
		for _, v := range report.Partitions {
			each(&adminpb.VerifyResponse{Result: verified(v)})
		}
		each(&adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Records: done.Records, Bytes: done.Bytes, Fraction: float64(i+1) / all}})
	}
	return nil
}

// verified is what was found in one partition.
func verified(v mirror.VerifiedPartition) *adminpb.VerifyResult {
	res := &adminpb.VerifyResult{Topic: v.Topic, Partition: v.Partition, Verdict: adminpb.VerifyVerdict_VERIFY_VERDICT_IDENTICAL,
		From: v.From, To: v.To, TargetFrom: v.TargetFrom, TargetTo: v.TargetTo, Records: v.Records, Bytes: v.Bytes, Digest: v.Digest, Trouble: v.Failed}
	for _, n := range v.Notes {
		res.Notes = append(res.Notes, &adminpb.VerifyNote{From: n.From, To: n.To, Records: n.Records, Why: n.Why})
	}
	switch d := v.Difference; {
	case d != nil:
		res.Verdict = adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT
		res.Difference = &adminpb.Difference{Kind: d.Kind, SourceOffset: d.Source, TargetOffset: d.Target, Detail: d.Detail}
	case v.Failed != "":
		res.Verdict = adminpb.VerifyVerdict_VERIFY_VERDICT_NOT_VERIFIED
	}
	return res
}
