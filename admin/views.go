package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Bounds of History.
const (
	usualHistory = 50
	maxHistory   = 10_000
)

// Nodes implements the call of that name.
func (s *service) Nodes(ctx context.Context, _ *adminpb.NodesRequest) (*adminpb.NodesResponse, error) {
	res, err := s.node.Nodes(ctx)
	if err != nil {
		return nil, s.code("Nodes", err)
	}
	return res, nil
}

// Owners implements the call of that name.
func (s *service) Owners(ctx context.Context, req *adminpb.OwnersRequest) (*adminpb.OwnersResponse, error) {
	owners, err := s.node.Owners(ctx)
	if err != nil {
		return nil, s.code("Owners", err)
	}
	st, err := s.status(ctx, req.GetLink(), true)
	if err != nil {
		return nil, s.code("Owners", err)
	}
	who := callerOf(ctx)
	owners = slices.DeleteFunc(owners, func(o *adminpb.Owner) bool {
		return req.GetLink() != "" && o.GetLink() != req.GetLink() || req.GetTopic() != "" && o.GetTopic() != req.GetTopic() || !who.sees(o.GetTopic())
	})
	if req.GetTopic() != "" && len(owners) == 0 {
		return nil, s.code("Owners", fmt.Errorf("topic %.300q: %w", req.GetTopic(), ErrUnknown))
	}
	join(owners, st.GetLinks())
	return &adminpb.OwnersResponse{Node: st.GetNode(), Owners: owners, Unanswered: st.GetUnanswered()}, nil
}

// join tells for each partition who says that it copies it, and orders them.
func join(owners []*adminpb.Owner, links []*adminpb.Link) {
	type key struct {
		link, topic string
		partition   int32
	}
	parts := make(map[key]*adminpb.Partition)
	for _, l := range links {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				parts[key{l.GetName(), f.GetTopic(), p.GetPartition()}] = p
			}
		}
	}
	for _, o := range owners {
		o.Copies, o.State, o.Reason = nil, adminpb.State_STATE_UNSPECIFIED, ""
		p := parts[key{o.GetLink(), o.GetTopic(), o.GetPartition()}]
		if p == nil {
			continue
		}
		o.State, o.Reason = p.GetState(), p.GetReason()
		if copies(p.GetState()) {
			o.Copies = append([]string{p.GetNode()}, p.GetAlso()...)
		}
	}
	slices.SortFunc(owners, func(a, b *adminpb.Owner) int {
		return cmp.Or(cmp.Compare(a.GetLink(), b.GetLink()), cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
}

// Settings implements the call of that name.
func (s *service) Settings(ctx context.Context, req *adminpb.SettingsRequest) (*adminpb.SettingsResponse, error) {
	res, err := s.node.Settings(ctx)
	if err != nil {
		return nil, s.code("Settings", err)
	}
	who := callerOf(ctx)
	res.Settings = slices.DeleteFunc(res.GetSettings(), func(e *adminpb.Setting) bool {
		return !strings.HasPrefix(e.GetKey(), req.GetPrefix()) || !who.seesKey(e.GetKey())
	})
	return res, nil
}

// seesKey reports whether a caller may know of a setting: one that is bound to topics knows of their pauses.
func (c caller) seesKey(key string) bool {
	p, ok := parsePause(key)
	return !c.scoped() || ok && c.covers(p.Topics.String())
}

// History implements the call of that name.
func (s *service) History(ctx context.Context, req *adminpb.HistoryRequest) (*adminpb.HistoryResponse, error) {
	limit := cmp.Or(int(req.GetLimit()), usualHistory)
	if err := fields(when(limit < 0 || limit > maxHistory, "limit", "%d is not between 0 and %d", limit, maxHistory)); err != nil {
		return nil, s.code("History", err)
	}
	changes, err := s.history(ctx, limit)
	if err != nil {
		return nil, s.code("History", err)
	}
	who := callerOf(ctx)
	if who.scoped() {
		for _, c := range changes {
			c.Entries = slices.DeleteFunc(c.GetEntries(), func(e *adminpb.PastEntry) bool { return !who.seesKey(e.GetKey()) })
		}
		changes = slices.DeleteFunc(changes, func(c *adminpb.PastChange) bool { return len(c.GetEntries()) == 0 })
	}
	return &adminpb.HistoryResponse{Changes: changes}, nil
}

func (s *service) history(ctx context.Context, limit int) ([]*adminpb.PastChange, error) {
	changes, err := s.node.History(ctx, limit)
	for i, c := range changes {
		c.Number = int32(i + 1)
	}
	return changes, err
}

// Export implements the call of that name.
func (s *service) Export(ctx context.Context, _ *adminpb.ExportRequest) (*adminpb.ExportResponse, error) {
	res, err := s.node.Export(ctx)
	if err != nil {
		return nil, s.code("Export", err)
	}
	return res, nil
}
