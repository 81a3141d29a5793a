package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Drift implements the call of that name.
func (s *service) Drift(ctx context.Context, req *adminpb.DriftRequest) (*adminpb.DriftResponse, error) {
	res, err := s.drift(ctx, req)
	if err != nil {
		return nil, s.code("Drift", err)
	}
	who := callerOf(ctx)
	res.Drifts = slices.DeleteFunc(res.GetDrifts(), func(d *adminpb.Drift) bool {
		return who.scoped() && (d.GetTopic() == "" || !who.sees(d.GetTopic())) // what is of no topic is nobody's who is bound to some
	})
	slices.SortStableFunc(res.GetDrifts(), func(a, b *adminpb.Drift) int {
		return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return res, nil
}

// drift asks this node, and if it does not reach both clusters, one after the other of those that may.
func (s *service) drift(ctx context.Context, req *adminpb.DriftRequest) (*adminpb.DriftResponse, error) {
	if err := fields(missing("link", req.GetLink(), "name a link of the topology")); err != nil {
		return nil, err
	}
	if !s.drifts.take() {
		return nil, fmt.Errorf("node %s compares %d links already; ask again when they are done: %w", s.self, cap(s.drifts), ErrBusy)
	}
	defer s.drifts.leave()
	found, err := s.node.Drift(ctx, req.GetLink())
	if err == nil {
		return &adminpb.DriftResponse{Node: s.self, Drifts: found}, nil
	}
	if callerOf(ctx).peer != "" || ctx.Err() != nil {
		return nil, err
	}
	unknown := err
	var troubles []string
	if !errors.Is(err, ErrUnknown) {
		unknown, troubles = nil, append(troubles, fmt.Sprintf("node %s: %s", s.self, err))
	}
	for _, p := range s.peers() {
		res, err := s.forward.drift(ctx, p, req)
		if err == nil {
			return res, nil
		}
		if status.Code(err) != codes.NotFound {
			troubles = append(troubles, fmt.Sprintf("node %s: %s", p.Name, plain(err)))
		}
	}
	if unknown != nil {
		return nil, unknown
	}
	return nil, fmt.Errorf("no node can compare the ends of link %s now: %s: %w", req.GetLink(), strings.Join(troubles, "; "), ErrNotReady)
}

// places bounds what is done at a time.
type places chan struct{}

// take takes a place, if one is free.
func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) leave() { <-p }
