package sets

import "github.com/twmb/franz-go/pkg/kmsg"

// ofGroups sends who asks about a group of another set to look for its coordinator again.
func ofGroups(m kmsg.Request, here Here, resp kmsg.Response) bool {
	switch m := m.(type) {
	case *kmsg.JoinGroupRequest:
		resp.(*kmsg.JoinGroupResponse).ErrorCode = notCoordinator
		return !here.Group(m.Group)
	case *kmsg.SyncGroupRequest:
		resp.(*kmsg.SyncGroupResponse).ErrorCode = notCoordinator
		return !here.Group(m.Group)
	case *kmsg.HeartbeatRequest:
		resp.(*kmsg.HeartbeatResponse).ErrorCode = notCoordinator
		return !here.Group(m.Group)
	case *kmsg.LeaveGroupRequest:
		resp.(*kmsg.LeaveGroupResponse).ErrorCode = notCoordinator
		return !here.Group(m.Group)
	case *kmsg.OffsetDeleteRequest:
		resp.(*kmsg.OffsetDeleteResponse).ErrorCode = notCoordinator
		return !here.Group(m.Group)
	case *kmsg.OffsetCommitRequest:
		committed(m, resp.(*kmsg.OffsetCommitResponse))
		return !here.Group(m.Group)
	case *kmsg.OffsetFetchRequest:
		return fetched(m, here, resp.(*kmsg.OffsetFetchResponse))
	case *kmsg.DescribeGroupsRequest:
		r := resp.(*kmsg.DescribeGroupsResponse)
		for _, g := range m.Groups {
			d := kmsg.NewDescribeGroupsResponseGroup()
			d.Group, d.ErrorCode = g, notCoordinator
			r.Groups = append(r.Groups, d)
		}
		_, some := others(m.Groups, here.Group, itself)
		return some
	case *kmsg.DeleteGroupsRequest:
		r := resp.(*kmsg.DeleteGroupsResponse)
		for _, g := range m.Groups {
			d := kmsg.NewDeleteGroupsResponseGroup()
			d.Group, d.ErrorCode = g, notCoordinator
			r.Groups = append(r.Groups, d)
		}
		_, some := others(m.Groups, here.Group, itself)
		return some
	}
	return false
}

func committed(m *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse) {
	for _, t := range m.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, notCoordinator
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
}

// fetched is about one group in old versions, whose error is of the answer from version 2 on and of each partition before, and about several from
// version 8 on.
func fetched(m *kmsg.OffsetFetchRequest, here Here, r *kmsg.OffsetFetchResponse) bool {
	if m.Version >= 8 {
		for _, g := range m.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, notCoordinator
			r.Groups = append(r.Groups, rg)
		}
		_, some := others(m.Groups, here.Group, func(g *kmsg.OffsetFetchRequestGroup) string { return g.Group })
		return some
	}
	r.ErrorCode = notCoordinator
	for _, t := range m.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.ErrorCode = p, -1, notCoordinator
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return !here.Group(m.Group)
}

// OwnGroups takes the groups of other sets out of a list: a home may have copies of them.
func OwnGroups(m *kmsg.ListGroupsResponse, here Here) {
	own := m.Groups[:0]
	for _, g := range m.Groups {
		if here.Group(g.Group) {
			own = append(own, g)
		}
	}
	m.Groups = own
}
