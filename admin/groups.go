package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// translatesAtOnce bounds the positions of a group that are translated at a time.
const translatesAtOnce = 8

// hiddenTrouble is what a caller that is bound to topics is told of a trouble: its words may be about others.
const hiddenTrouble = "not all could be learnt; who may see all topics is told what"

// Groups implements the call of that name.
func (s *service) Groups(ctx context.Context, req *adminpb.GroupsRequest) (*adminpb.GroupsResponse, error) {
	if err := s.takeGroups(); err != nil {
		return nil, s.code("Groups", err)
	}
	defer s.groups.leave()
	links := []string{req.GetLink()}
	if req.GetLink() == "" {
		links = s.node.KeepsGroups()
		slices.Sort(links)
	}
	res := &adminpb.GroupsResponse{}
	for _, link := range links {
		of, err := s.linkGroups(ctx, link, req.GetGroup())
		if err != nil && (req.GetLink() != "" || ctx.Err() != nil) {
			return nil, s.code("Groups", err)
		}
		if err != nil { // of many, one does not hide the others
			of = &adminpb.LinkGroups{Link: link, Keeps: true, Trouble: valid(err.Error())}
			callerOf(ctx).bind(of)
		}
		res.Links = append(res.Links, of)
	}
	return res, nil
}

// TranslateGroup implements the call of that name.
func (s *service) TranslateGroup(ctx context.Context, req *adminpb.TranslateGroupRequest) (*adminpb.TranslateGroupResponse, error) {
	res, err := s.translateGroup(ctx, req)
	if err != nil {
		return nil, s.code("TranslateGroup", err)
	}
	return res, nil
}

func (s *service) translateGroup(ctx context.Context, req *adminpb.TranslateGroupRequest) (*adminpb.TranslateGroupResponse, error) {
	err := fields(missing("link", req.GetLink(), "name a link of the topology"), missing("group", req.GetGroup(), "give the id of a group"))
	if err != nil {
		return nil, err
	}
	if err := s.takeGroups(); err != nil {
		return nil, err
	}
	defer s.groups.leave()
	of, err := s.linkGroups(ctx, req.GetLink(), req.GetGroup())
	if err != nil {
		return nil, err
	}
	if !of.GetKeeps() {
		return nil, &FieldError{"link", fmt.Sprintf("%s keeps no positions of groups: give its [[link]] groups = [%q], or translate single positions", req.GetLink(), req.GetGroup())}
	}
	res := &adminpb.TranslateGroupResponse{Link: of.GetLink(), Group: req.GetGroup(), From: of.GetFrom(), To: of.GetTo(), Trouble: of.GetTrouble()}
	if req.GetReverse() {
		res.From, res.To = res.To, res.From
	}
	for _, p := range of.GetPositions() {
		place := p.GetSource()
		if req.GetReverse() {
			place = p.GetTarget()
		}
		if place.GetOffset() >= 0 {
			res.Positions = append(res.Positions, &adminpb.TranslatedPosition{Topic: p.GetTopic(), Partition: p.GetPartition(), Offset: place.GetOffset(), Result: -1})
		}
	}
	var all errgroup.Group
	all.SetLimit(translatesAtOnce)
	for _, p := range res.Positions {
		all.Go(func() error {
			at, err := s.translate(ctx, &adminpb.TranslateRequest{Link: req.GetLink(), Topic: p.GetTopic(), Partition: p.GetPartition(), Offset: p.GetOffset(), Reverse: req.GetReverse()})
			if err != nil {
				p.Trouble = valid(err.Error())
				return nil
			}
			p.Result, p.Exact = at.GetResult(), at.GetExact()
			return nil
		})
	}
	_ = all.Wait() // each position has its trouble
	return res, ctx.Err()
}

// takeGroups takes a place for a question about groups.
func (s *service) takeGroups() error {
	if s.groups.take() {
		return nil
	}
	return fmt.Errorf("node %s answers %d questions about groups already; ask again when they are done: %w", s.self, cap(s.groups), ErrBusy)
}

// linkGroups is where groups stand on the ends of a link, in order, as far as the caller may know. This node is asked, and if it does not reach
// both clusters, one after the other of those that may.
func (s *service) linkGroups(ctx context.Context, link, group string) (*adminpb.LinkGroups, error) {
	found, err := s.node.Groups(ctx, link, group)
	if err == nil {
		found.Node, found.At = s.self, timestamppb.New(s.now())
	} else if callerOf(ctx).peer == "" && ctx.Err() == nil {
		found, err = s.linkGroupsElsewhere(ctx, &adminpb.GroupsRequest{Link: link, Group: group}, err)
	}
	if err != nil {
		return nil, err
	}
	callerOf(ctx).bind(found)
	slices.SortStableFunc(found.GetPositions(), func(a, b *adminpb.GroupPosition) int {
		return cmp.Or(cmp.Compare(a.GetGroup(), b.GetGroup()), cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
	return found, nil
}

// bind leaves of a link's groups what a caller may know.
func (c caller) bind(of *adminpb.LinkGroups) {
	of.Positions = slices.DeleteFunc(of.GetPositions(), func(p *adminpb.GroupPosition) bool { return !c.sees(p.GetTopic()) })
	if !c.scoped() {
		return
	}
	of.Share = nil // of which topics they are is not known
	if of.GetTrouble() != "" {
		of.Trouble = hiddenTrouble
	}
}

// linkGroupsElsewhere asks the other nodes; here is why this one cannot.
func (s *service) linkGroupsElsewhere(ctx context.Context, req *adminpb.GroupsRequest, here error) (*adminpb.LinkGroups, error) {
	var troubles []string
	if !errors.Is(here, ErrUnknown) {
		troubles = append(troubles, fmt.Sprintf("node %s: %s", s.self, here))
	}
	for _, p := range s.peers() {
		res, err := s.forward.groups(ctx, p, req)
		if err == nil && len(res.GetLinks()) == 1 {
			return res.GetLinks()[0], nil
		}
		if err != nil && status.Code(err) != codes.NotFound {
			troubles = append(troubles, fmt.Sprintf("node %s: %s", p.Name, plain(err)))
		}
	}
	if errors.Is(here, ErrUnknown) {
		return nil, here
	}
	return nil, fmt.Errorf("no node can tell where the groups of link %s stand now: %s: %w", req.GetLink(), strings.Join(troubles, "; "), ErrNotReady)
}
