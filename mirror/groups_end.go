package mirror

import (
	"context"
	"errors"

	"github.com/isthmus-project/isthmus/broker"
)

// clusterEnd is the groups of a real cluster.
type clusterEnd struct {
	cluster *broker.Cluster
	names   groupNames
}

// clusterEnds are those of a link.
func (l *Link) clusterEnds() [2]groupEnd {
	return [2]groupEnd{clusterEnd{l.from, groupNames{l, false}}, clusterEnd{l.to, groupNames{l, true}}}
}

func (e clusterEnd) positions(ctx context.Context, groups []string) (map[string]map[topicPartition]groupPosition, error) {
	all := make(map[string]map[topicPartition]groupPosition, len(groups))
	var errs []error
	for group, told := range e.cluster.GroupOffsets(ctx, groups...) {
		if told.Err != nil {
			errs = append(errs, told.Err)
			continue
		}
		at := make(map[topicPartition]groupPosition, len(told.Offsets))
		for _, o := range told.Offsets {
			if o.Err != nil { // who may not see one position may not decide about it
				errs = append(errs, o.Err)
				at = nil
				break
			}
			topic, ok := e.names.known(o.Topic)
			if !ok {
				continue
			}
			at[topicPartition{topic, o.Partition}] = groupPosition{offset: o.Offset, metadata: o.Metadata, time: -1}
		}
		if at != nil {
			all[group] = at
		}
	}
	return all, errors.Join(errs...)
}

func (e clusterEnd) active(ctx context.Context, groups []string) (map[string]bool, error) {
	described, err := e.cluster.DescribeGroups(ctx, groups...)
	active := make(map[string]bool, len(described))
	for id, g := range described {
		active[id] = g.Active()
	}
	return active, err
}

func (e clusterEnd) set(ctx context.Context, group string, at map[topicPartition]groupPosition) (map[topicPartition]error, error) {
	offsets := make([]broker.GroupOffset, 0, len(at))
	for tp, p := range at {
		offsets = append(offsets, broker.GroupOffset{TopicPartition: broker.TopicPartition{Topic: e.names.called(tp.topic), Partition: tp.partition},
			Offset: p.offset, LeaderEpoch: -1, Metadata: p.metadata}) // the epoch of the record before it is the other cluster's
	}
	told, err := e.cluster.CommitGroup(ctx, group, offsets)
	return e.byPartition(told), err
}

func (e clusterEnd) remove(ctx context.Context, group string, at []topicPartition) (map[topicPartition]error, error) {
	gone := make([]broker.TopicPartition, len(at))
	for i, tp := range at {
		gone[i] = broker.TopicPartition{Topic: e.names.called(tp.topic), Partition: tp.partition}
	}
	told, err := e.cluster.DeleteGroupOffsets(ctx, group, gone)
	return e.byPartition(told), err
}

func (e clusterEnd) byPartition(told map[broker.TopicPartition]error) map[topicPartition]error {
	refused := make(map[topicPartition]error, len(told))
	for tp, why := range told {
		if topic, ok := e.names.known(tp.Topic); ok {
			refused[topicPartition{topic, tp.Partition}] = why
		}
	}
	return refused
}
