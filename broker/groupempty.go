package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// emptyTries is how often a group is looked at again for members that came meanwhile.
const emptyTries = 5

// EmptyGroup takes all members out of a group of the classic protocol, as if they had left it, and returns their ids. They learn of it by their next request.
// A group that is not there has none. A group that is not classic, or that goes on getting members, is [ErrGroupActive].
func (c *Cluster) EmptyGroup(ctx context.Context, group string) (members []string, err error) {
	what := "take the members out of group " + group
	for range emptyTries {
		left := false
		failed := c.atCoordinators(ctx, []string{group}, 1, func(ctx context.Context, b coordinator, _ []string) (map[string]error, error) {
			ids, err := emptyOnce(ctx, b, group)
			members, left = append(members, ids...), len(ids) == 0
			if code := (*kerr.Error)(nil); errors.As(err, &code) {
				return map[string]error{group: err}, nil
			}
			return nil, err
		})
		if err := failed[group]; err != nil {
			return members, c.groupError(ctx, what, err, group, "READ", "READ")
		}
		if left {
			return members, c.emptied(ctx, what, group)
		}
	}
	return members, fmt.Errorf("%s of cluster %s: others joined %d times: %w", what, c.profile.Name, emptyTries, ErrGroupActive)
}

// emptied checks that a group has no members of any kind.
func (c *Cluster) emptied(ctx context.Context, what, group string) error {
	all, err := c.DescribeGroups(ctx, group)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if g := all[group]; g.Active() {
		return fmt.Errorf("%s of cluster %s: it is a %s group in state %s with %d members: %w", what, c.profile.Name, g.Type, g.State, g.Members, ErrGroupActive)
	}
	return nil
}

// emptyOnce takes out the members that a group has now.
func emptyOnce(ctx context.Context, b coordinator, group string) (ids []string, err error) {
	ask := kmsg.NewPtrDescribeGroupsRequest()
	ask.Groups = []string{group}
	told, err := askOf[*kmsg.DescribeGroupsResponse](ctx, b.Broker, ask)
	if err != nil {
		return nil, err
	}
	if len(told.Groups) != 1 || told.Groups[0].Group != group {
		return nil, protocolErrorf("no answer for the group")
	}
	if code := told.Groups[0].ErrorCode; code != 0 && code != groupIDNotFound {
		return nil, codeError(code)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range told.Groups[0].Members {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID, one.InstanceID = m.MemberID, m.InstanceID
		leave.Members, ids = append(leave.Members, one), append(ids, m.MemberID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	resp, err := askOf[*kmsg.LeaveGroupResponse](ctx, b.Broker, leave)
	if err != nil {
		return nil, err
	}
	if err := codeError(resp.ErrorCode); err != nil {
		return nil, err
	}
	for _, m := range resp.Members {
		if m.ErrorCode != 0 && m.ErrorCode != kerr.UnknownMemberID.Code { // who is not there any more has left
			return nil, codeError(m.ErrorCode)
		}
	}
	return ids, nil
}
