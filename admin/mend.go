package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Retry implements the call of that name.
func (s *service) Retry(ctx context.Context, req *adminpb.RetryRequest) (*adminpb.RetryResponse, error) {
	w := write{verb: "Retry", target: pauseTarget(req), reason: req.GetWhy()}
	p, err := pauseOf(ctx, req.GetLink(), req.GetTopic(), req.GetPartitions(), time.Time{})
	if err = errors.Join(err, checkReason("why", req.GetWhy())); err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	res, err := s.retry(ctx, req)
	if err == nil && res.GetTried() == 0 && len(res.GetUnanswered()) == 0 && callerOf(ctx).peer == "" {
		err = s.some(ctx, touchOf(p))
	}
	d := deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason}
	if res.GetTried() == 0 {
		d.outcome = "nothing to do"
	}
	s.audit.done(ctx, d, err)
	if err != nil {
		return nil, s.code(w.verb, err)
	}
	return res, nil
}

// retry asks all nodes: each makes what it copies try.
func (s *service) retry(ctx context.Context, req *adminpb.RetryRequest) (*adminpb.RetryResponse, error) {
	n, err := s.node.Retry(ctx, req)
	res := &adminpb.RetryResponse{Tried: int32(n)}
	if callerOf(ctx).peer != "" || err != nil && !errors.Is(err, ErrUnknown) {
		return res, err
	}
	known := err == nil
	replies := askAll(ctx, s.forward, s.peers(), func(ctx context.Context, p Peer) (*adminpb.RetryResponse, error) {
		return s.forward.retry(ctx, p, req)
	})
	for i, r := range replies {
		if status.Code(r.err) == codes.NotFound {
			replies[i].err = nil // it does not know the link: it answered
			continue
		}
		known = known || r.err == nil
		res.Tried += r.answer.GetTried()
	}
	if !known {
		return nil, err
	}
	res.Unanswered = unanswered(replies)
	return res, nil
}

// some returns an error that wraps ErrUnknown if there is no such partition.
func (s *service) some(ctx context.Context, t Touch) error {
	st, err := s.node.Status(ctx)
	if err != nil || len(touched(st.GetLinks(), []Touch{t})) > 0 {
		return err
	}
	return noneOf(t)
}

// noneOf is the error for a part of a link in which there is no partition.
func noneOf(t Touch) error {
	name := list(t.Topics)
	if len(t.Partitions) > 0 {
		name = fmt.Sprintf("%s with a partition of %v", name, t.Partitions[:min(len(t.Partitions), 20)])
	}
	return fmt.Errorf("link %s mirrors no topic %.300s: %w", t.Link, name, ErrUnknown)
}

// Anchor implements the call of that name.
func (s *service) Anchor(ctx context.Context, req *adminpb.AnchorRequest) (*adminpb.AnchorResponse, error) {
	who := callerOf(ctx)
	w := write{verb: "Anchor", target: anchorTarget(req), reason: req.GetWhy()}
	at := req.GetAt()
	_, unknown := adminpb.AnchorAt_name[int32(at)]
	err := errors.Join(fields(
		missing("link", req.GetLink(), "name a link of the topology"),
		missing("topic", req.GetTopic(), "name a topic that the link mirrors"),
		when(req.GetPartition() < 0, "partition", "%d is negative; partitions count from 0", req.GetPartition()),
		when(!unknown || at == adminpb.AnchorAt_ANCHOR_AT_UNSPECIFIED, "at", "%d is no place; say offset, start or end", at),
		when(req.GetOffset() < 0, "offset", "%d is negative; give the source offset of the next record to copy", req.GetOffset()),
		when(req.GetOffset() > 0 && at != adminpb.AnchorAt_ANCHOR_AT_OFFSET, "offset", "%d is of no use unless at is offset", req.GetOffset()),
		missing("why", strings.TrimSpace(req.GetWhy()), "say why, in a few words: it goes into the ledger"),
	), checkReason("why", req.GetWhy()))
	if err == nil && !who.sees(req.GetTopic()) {
		err = fmt.Errorf("%w: %s is bound to %s, and topic %.300q is none of them", ErrDenied, who.name, list(who.topics.Strings()), req.GetTopic())
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	res, err := s.anchor(ctx, req)
	if err != nil || !req.GetDryRun() {
		d := deed{who: who, verb: w.verb, target: w.target, why: w.reason}
		if err == nil {
			d.note = fmt.Sprintf("from %d to %d, %d lost, %d doubled", res.GetBefore(), res.GetAfter(), res.GetLost(), res.GetDoubled())
		}
		s.audit.done(ctx, d, err)
	}
	if err != nil {
		return nil, s.code(w.verb, err)
	}
	return res, nil
}

// anchorTarget is what a request is about, for the audit.
func anchorTarget(req *adminpb.AnchorRequest) string {
	place := Name(req.GetAt())
	if req.GetAt() == adminpb.AnchorAt_ANCHOR_AT_OFFSET {
		place = strconv.FormatInt(req.GetOffset(), 10)
	}
	return valid(fmt.Sprintf("%s %s:%d at %s", req.GetLink(), req.GetTopic(), req.GetPartition(), place))
}

// anchor has the node that copies the partition do it, which is mostly another one.
func (s *service) anchor(ctx context.Context, req *adminpb.AnchorRequest) (*adminpb.AnchorResponse, error) {
	res, err := s.anchorHere(ctx, req)
	if !errors.Is(err, ErrElsewhere) || callerOf(ctx).peer != "" {
		return res, err
	}
	p, err := s.copier(ctx, req.GetLink(), req.GetTopic(), req.GetPartition())
	if err != nil {
		return nil, err
	}
	res, err = s.forward.anchor(ctx, p, req)
	return res, ofPeer(p.Name, err)
}

// anchorHere plans, and does what was planned if the token fits.
func (s *service) anchorHere(ctx context.Context, req *adminpb.AnchorRequest) (*adminpb.AnchorResponse, error) {
	place := anchorAt(req, true)
	if !req.GetDryRun() {
		if _, told, ok := strings.Cut(req.GetConfirm(), "@"); ok {
			if after, err := strconv.ParseInt(told, 10, 64); err == nil && after >= 0 {
				place.At, place.Offset = adminpb.AnchorAt_ANCHOR_AT_OFFSET, after
			}
		}
	}
	author := callerOf(ctx).name
	plan, err := s.node.Anchor(ctx, place, author)
	if err != nil {
		return nil, err
	}
	token := anchorToken(req, plan)
	if req.GetDryRun() {
		plan.Confirm, plan.DryRun, plan.Node = token, true, s.self
		return plan, nil
	}
	if err := confirmed(req.GetConfirm(), token, true, ""); err != nil {
		return nil, err
	}
	do := anchorAt(req, false)
	do.At, do.Offset = adminpb.AnchorAt_ANCHOR_AT_OFFSET, plan.GetAfter()
	done, err := s.node.Anchor(ctx, do, author)
	if err != nil {
		return nil, err
	}
	done.Confirm, done.DryRun, done.Node = "", false, s.self
	return done, nil
}

// anchorAt is the request as the node gets it.
func anchorAt(req *adminpb.AnchorRequest, dry bool) *adminpb.AnchorRequest {
	return &adminpb.AnchorRequest{Link: req.GetLink(), Topic: req.GetTopic(), Partition: req.GetPartition(), At: req.GetAt(), Offset: req.GetOffset(),
		Why: req.GetWhy(), DryRun: dry}
}

// anchorToken is that of a plan: a short hash of what would be lost and doubled, and the place where the partition would go on. With
// the place in it, what was told is done although the ends of the log have moved, unless it does something else by now. The lines
// for people are not in it: they may tell what changes by itself.
func anchorToken(req *adminpb.AnchorRequest, plan *adminpb.AnchorResponse) string {
	texts := []string{"Anchor", req.GetLink(), req.GetTopic()}
	for _, n := range []int64{int64(req.GetPartition()), plan.GetBefore(), plan.GetAfter(), plan.GetLost(), plan.GetDoubled()} {
		texts = append(texts, strconv.FormatInt(n, 10))
	}
	for _, e := range plan.GetEntries() {
		texts = append(texts, e.GetReason(), fmt.Sprint(e.GetFirst(), e.GetLast(), e.GetRecords()))
	}
	return fmt.Sprintf("%s@%d", tokenOf(texts...), plan.GetAfter())
}

// copier finds the other node that copies a partition, by what all nodes say.
func (s *service) copier(ctx context.Context, link, topic string, partition int32) (Peer, error) {
	st, err := s.status(ctx, link, true)
	if err != nil {
		return Peer{}, err
	}
	var found *adminpb.Partition
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				if f.GetTopic() == topic && p.GetPartition() == partition {
					found = p
				}
			}
		}
	}
	if found == nil {
		return Peer{}, fmt.Errorf("link %s mirrors no partition %.300s:%d: %w", link, topic, partition, ErrUnknown)
	}
	if owns(found.GetState()) {
		peers := s.peers()
		if i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name == found.GetNode() }); i >= 0 {
			return peers[i], nil
		}
	}
	text := "no node that answers copies it"
	for _, u := range st.GetUnanswered() {
		text += fmt.Sprintf("; node %s: %s", u.GetNode(), u.GetTrouble())
	}
	return Peer{}, fmt.Errorf("link %s %s:%d: %s: %w", link, topic, partition, text, ErrNotReady)
}

// ofPeer is the refusal of another node as one of ours, so that its code and its words reach who asked. That it refuses us, or cannot
// be asked, is no matter of theirs.
func ofPeer(name string, err error) error {
	if err == nil {
		return nil
	}
	switch c := status.Code(err); c {
	case codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument, codes.Aborted, codes.ResourceExhausted:
		return &answer{cmp.Or(status.Convert(err).Message(), c.String()), explained[c]}
	case codes.Internal, codes.Unknown:
		return fmt.Errorf("node %s: %s", name, plain(err))
	}
	return fmt.Errorf("node %s: %s: %w", name, plain(err), ErrNotReady)
}
