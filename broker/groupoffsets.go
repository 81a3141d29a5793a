package broker

import (
	"context"
	"maps"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicPartition is a partition by its topic's name.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// GroupOffset is where a group stands in one partition.
type GroupOffset struct {
	TopicPartition
	Offset      int64  // of the next record it wants
	LeaderEpoch int32  // of the record before that; -1 unknown
	Metadata    string // the group's own words
	Err         error  // a *PartitionError: the coordinator did not tell the rest; nil otherwise
}

// GroupOffsets is what is told of one group. Err is why nothing is.
type GroupOffsets struct {
	Offsets []GroupOffset
	Err     error
}

const (
	// offsetsAtOnce is how many groups one request asks for: with fifty partitions each the answer has some ten megabytes. One that is
	// over maxPlainAnswer is asked for in halves.
	offsetsAtOnce = 5000
	// multiGroupFetch is the first version of OffsetFetch that asks for many groups (KIP-709, Kafka 3.0), and lastNamedFetch the last
	// that speaks of topics by name: what comes later leaves out topics that are gone, and wants their ids known.
	multiGroupFetch, lastNamedFetch = 8, 9
)

// GroupOffsets returns what groups have committed, of all topics that the user may describe, with one request to each coordinator. What
// transactions have not committed yet is not waited for. Each group that was asked for is in the answer; one that is not there has no
// offsets and no error.
func (c *Cluster) GroupOffsets(ctx context.Context, groups ...string) map[string]GroupOffsets {
	all := make(map[string]GroupOffsets, len(groups))
	var mu sync.Mutex
	failed := c.atCoordinators(ctx, groups, offsetsAtOnce, func(ctx context.Context, b coordinator, groups []string) (map[string]error, error) {
		newest, err := newestOf(ctx, b.Broker, int16(kmsg.OffsetFetch))
		if err != nil {
			return nil, err
		}
		fetch := c.offsetsOf
		if newest < multiGroupFetch {
			fetch = c.offsetsOneByOne
		}
		got, refused, err := fetch(ctx, b, groups)
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(all, got)
		return refused, err
	})
	for group, err := range failed {
		all[group] = GroupOffsets{Err: c.groupError(ctx, "fetch the offsets of group "+group, err, group, "DESCRIBE", "DESCRIBE")}
	}
	return all
}

// offsetsOf asks for many groups with one request.
func (c *Cluster) offsetsOf(ctx context.Context, b coordinator, groups []string) (map[string]GroupOffsets, map[string]error, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	for _, group := range groups {
		rg := kmsg.NewOffsetFetchRequestGroup()
		rg.Group = group // no topics: all
		req.Groups = append(req.Groups, rg)
	}
	resp, err := askOf[*kmsg.OffsetFetchResponse](ctx, b.Broker, atMost{req, lastNamedFetch})
	if err != nil {
		return nil, nil, err
	}
	got, refused := make(map[string]GroupOffsets, len(groups)), make(map[string]error)
	for _, g := range resp.Groups {
		if err := codeError(g.ErrorCode); err != nil {
			refused[g.Group] = err
			continue
		}
		var list []GroupOffset
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				list = c.groupOffset(list, TopicPartition{t.Topic, p.Partition}, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
		got[g.Group] = GroupOffsets{Offsets: list}
	}
	for _, group := range groups {
		_, told := got[group]
		if _, wrong := refused[group]; !told && !wrong {
			refused[group] = protocolErrorf("no answer for the group")
		}
	}
	return settled(got, refused)
}

// offsetsOneByOne asks a broker that is older than Kafka 3.0.
func (c *Cluster) offsetsOneByOne(ctx context.Context, b coordinator, groups []string) (map[string]GroupOffsets, map[string]error, error) {
	got, refused := make(map[string]GroupOffsets, len(groups)), make(map[string]error)
	for _, group := range groups {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group = group
		resp, err := askOf[*kmsg.OffsetFetchResponse](ctx, b.Broker, atMost{req, multiGroupFetch - 1})
		if err != nil {
			return got, refused, err
		}
		if err := codeError(resp.ErrorCode); err != nil {
			refused[group] = err
			continue
		}
		var list []GroupOffset
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				list = c.groupOffset(list, TopicPartition{t.Topic, p.Partition}, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
		got[group] = GroupOffsets{Offsets: list}
	}
	return settled(got, refused)
}

// settled takes a group that is not there for one without offsets.
func settled(got map[string]GroupOffsets, refused map[string]error) (map[string]GroupOffsets, map[string]error, error) {
	for group, err := range refused {
		if err == kerr.GroupIDNotFound {
			got[group] = GroupOffsets{}
			delete(refused, group)
		}
	}
	return got, refused, nil
}

// groupOffset adds one partition of an answer; where nothing is committed there is nothing to add.
func (c *Cluster) groupOffset(list []GroupOffset, at TopicPartition, offset int64, epoch int32, metadata *string, code int16) []GroupOffset {
	o := GroupOffset{TopicPartition: at, Offset: offset, LeaderEpoch: epoch, Metadata: orEmpty(metadata)}
	o.Err = partitionError(at.Topic, at.Partition, code, "", "DESCRIBE")
	atCluster(o.Err, c.profile.Name)
	if o.Err == nil && offset < 0 {
		return list
	}
	return append(list, o)
}
