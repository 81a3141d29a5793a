package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrGroupActive is wrapped by the errors of CommitGroup, DeleteGroup and DeleteGroupOffsets where the group has members: its offsets
// are theirs.
var ErrGroupActive = errors.New("the group is active")

const (
	// lastNamedCommit is the last version of OffsetCommit that speaks of topics by name.
	lastNamedCommit = 9
	// A coordinator writes what is committed by one request as one batch of its log, so that is bounded.
	commitsAtOnce     = 1000
	commitBytesAtOnce = 256 << 10
	// commitRecordBytes is what a commit takes in that log beside its names and its metadata, roughly.
	commitRecordBytes = 80
)

// CommitGroup sets offsets of a group that has no members, as a consumer does that is in no group. The coordinator refuses that for a
// group that has some: [ErrGroupActive]. refused has the partitions that it did not take; err is that of the group, after which what
// was not asked for yet is in neither. A partition that the cluster does not have is kerr.UnknownTopicOrPartition. A group that is not
// there is made; where one of another type has the name, a share group, it is kerr.GroupIDNotFound. Whoever consumes without being a
// member and only commits is not in the coordinator's way: such commits are seen in the log of commits alone.
func (c *Cluster) CommitGroup(ctx context.Context, group string, offsets []GroupOffset) (refused map[TopicPartition]error, err error) {
	refused = make(map[TopicPartition]error)
	for len(offsets) > 0 {
		n := commitsIn(group, offsets)
		if err := c.commitSome(ctx, group, offsets[:n], refused); err != nil {
			return refused, err
		}
		offsets = offsets[n:]
	}
	return refused, nil
}

// commitsIn is how many of the offsets go into one request, one at the least.
func commitsIn(group string, offsets []GroupOffset) int {
	bytes := 0
	for i, o := range offsets {
		bytes += commitRecordBytes + len(group) + len(o.Topic) + len(o.Metadata)
		if i > 0 && (bytes > commitBytesAtOnce || i == commitsAtOnce) {
			return i
		}
	}
	return len(offsets)
}

// commitSome is one request of CommitGroup.
func (c *Cluster) commitSome(ctx context.Context, group string, offsets []GroupOffset, refused map[TopicPartition]error) error {
	what := "commit offsets of group " + group
	topics := make(map[string]int)
	var request []kmsg.OffsetCommitRequestTopic
	for _, o := range offsets {
		at, known := topics[o.Topic]
		if !known {
			at = len(request)
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic = o.Topic
			request, topics[o.Topic] = append(request, rt), at
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = o.Partition, o.Offset, o.LeaderEpoch, kmsg.StringPtr(o.Metadata)
		request[at].Partitions = append(request[at].Partitions, rp)
	}
	failed := c.atCoordinators(ctx, []string{group}, 1, func(ctx context.Context, b coordinator, _ []string) (map[string]error, error) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.Topics = group, -1, request
		resp, err := askOf[*kmsg.OffsetCommitResponse](ctx, b.Broker, atMost{req, lastNamedCommit})
		if err != nil {
			return nil, err
		}
		codes := make(map[TopicPartition]int16)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				codes[TopicPartition{t.Topic, p.Partition}] = p.ErrorCode
			}
		}
		return map[string]error{group: c.eachPartition(offsets, codes, refused)}, nil
	})
	return c.groupRefusal(ctx, what, group, failed[group], "READ")
}

// eachPartition puts what a coordinator said of partitions into refused. What it says of a partition and means of the group is returned.
func (c *Cluster) eachPartition(offsets []GroupOffset, codes map[TopicPartition]int16, refused map[TopicPartition]error) error {
	for _, o := range offsets {
		code, told := codes[o.TopicPartition]
		if !told {
			return protocolErrorf("no answer for partition %d of topic %s", o.Partition, o.Topic)
		}
		if err := codeError(code); ofGroup(err) {
			return err
		}
		if err := partitionError(o.Topic, o.Partition, code, "", "READ"); err != nil {
			atCluster(err, c.profile.Name)
			refused[o.TopicPartition] = err
		}
	}
	return nil
}

// ofGroup reports the errors that are the group's, whatever partition they are told of.
func ofGroup(err error) bool {
	return ofMembers(err) || isOneOf(err, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress,
		kerr.GroupAuthorizationFailed, kerr.GroupIDNotFound, kerr.InvalidGroupID)
}

// ofMembers reports the errors of whoever is no member of a group that has some.
func ofMembers(err error) bool {
	return isOneOf(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.NonEmptyGroup,
		kerr.StaleMemberEpoch, kerr.FencedMemberEpoch, kerr.GroupSubscribedToTopic)
}

func isOneOf(err error, these ...error) bool {
	return slices.ContainsFunc(these, func(e error) bool { return errors.Is(err, e) })
}

// groupRefusal is groupError where the lack of one may be that the group is active.
func (c *Cluster) groupRefusal(ctx context.Context, what, group string, err error, right string) error {
	if ofMembers(err) {
		return fmt.Errorf("%s of cluster %s: %w (%w)", what, c.profile.Name, ErrGroupActive, err)
	}
	return c.groupError(ctx, what, err, group, right, "READ")
}

// DeleteGroupOffsets takes a group's offsets in some partitions away; where there are none that is no error. refused has the partitions
// that the coordinator left as they are, those with [ErrGroupActive] because a member reads their topic; err is that of the group.
func (c *Cluster) DeleteGroupOffsets(ctx context.Context, group string, partitions []TopicPartition) (refused map[TopicPartition]error, err error) {
	what := "delete offsets of group " + group
	refused = make(map[TopicPartition]error)
	if len(partitions) == 0 {
		return refused, nil
	}
	topics := make(map[string][]kmsg.OffsetDeleteRequestTopicPartition)
	for _, at := range partitions {
		rp := kmsg.NewOffsetDeleteRequestTopicPartition()
		rp.Partition = at.Partition
		topics[at.Topic] = append(topics[at.Topic], rp)
	}
	failed := c.atCoordinators(ctx, []string{group}, 1, func(ctx context.Context, b coordinator, _ []string) (map[string]error, error) {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		for topic, ps := range topics {
			rt := kmsg.NewOffsetDeleteRequestTopic()
			rt.Topic, rt.Partitions = topic, ps
			req.Topics = append(req.Topics, rt)
		}
		resp, err := askOf[*kmsg.OffsetDeleteResponse](ctx, b.Broker, req)
		if err != nil {
			return nil, err
		}
		if err := codeError(resp.ErrorCode); err != nil {
			return map[string]error{group: err}, nil
		}
		codes := make(map[TopicPartition]int16)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				codes[TopicPartition{t.Topic, p.Partition}] = p.ErrorCode
			}
		}
		for _, at := range partitions {
			code, told := codes[at]
			if !told {
				return map[string]error{group: protocolErrorf("no answer for partition %d of topic %s", at.Partition, at.Topic)}, nil
			}
			err := partitionError(at.Topic, at.Partition, code, "", "READ")
			atCluster(err, c.profile.Name)
			if ofMembers(err) {
				err = fmt.Errorf("%w: %w", ErrGroupActive, err)
			}
			if err != nil {
				refused[at] = err
			}
		}
		return nil, nil
	})
	if errors.Is(failed[group], kerr.GroupIDNotFound) {
		return refused, nil
	}
	return refused, c.groupRefusal(ctx, what, group, failed[group], "DELETE")
}

// DeleteGroup deletes a group with all its offsets. One that is not there is no error; one that has members is [ErrGroupActive].
func (c *Cluster) DeleteGroup(ctx context.Context, group string) error {
	failed := c.atCoordinators(ctx, []string{group}, 1, func(ctx context.Context, b coordinator, _ []string) (map[string]error, error) {
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{group}
		resp, err := askOf[*kmsg.DeleteGroupsResponse](ctx, b.Broker, req)
		if err != nil {
			return nil, err
		}
		for _, g := range resp.Groups {
			if g.Group == group {
				return map[string]error{group: codeError(g.ErrorCode)}, nil
			}
		}
		return map[string]error{group: protocolErrorf("no answer for the group")}, nil
	})
	if errors.Is(failed[group], kerr.GroupIDNotFound) {
		return nil
	}
	return c.groupRefusal(ctx, "delete group "+group, group, failed[group], "DELETE")
}
