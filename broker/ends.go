package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// LogEnds returns where the logs of all partitions of some topics end at their leaders, by topic and partition: behind all that a leader has taken, replicated or not, which
// a consumer is not told (OffsetForLeaderEpoch of the epoch that goes on, KIP-101). One request a leader; topics whose partitions are not all known are in the error.
func (c *Cluster) LogEnds(ctx context.Context, topics ...string) (map[string][]int64, error) {
	m, err := c.Metadata(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends := make(map[string][]int64)
	at := make(map[int32]*kmsg.OffsetForLeaderEpochRequest)
	var errs []error
	for _, name := range topics {
		t := m.Topics[name]
		if t.Err != nil || len(t.Partitions) == 0 {
			errs = append(errs, fmt.Errorf("topic %s of cluster %s: %w", name, c.Name(), errors.Join(t.Err, errNoAnswer)))
			continue
		}
		ends[name] = make([]int64, len(t.Partitions))
		for _, p := range t.Partitions {
			if ends[name][p.ID] = -1; p.Err != nil || p.Leader < 0 {
				errs = append(errs, &PartitionError{Topic: name, Partition: p.ID, Err: errors.Join(p.Err, errNoAnswer)})
				continue
			}
			addEpoch(at, p.Leader, name, p.ID, p.LeaderEpoch)
		}
	}
	if len(errs) > 0 {
		return nil, c.failed(ctx, "ask for the ends of logs", errors.Join(errs...))
	}
	var mu sync.Mutex
	var ask errgroup.Group
	ask.SetLimit(coordinatorsAtOnce)
	for _, leader := range slices.Sorted(maps.Keys(at)) {
		ask.Go(func() error {
			call, cancel := context.WithTimeoutCause(ctx, leaderPatience, errSilent)
			defer cancel()
			return endsOf(call, c.client.Broker(int(leader)), at[leader], &mu, ends)
		})
	}
	if err := ask.Wait(); err != nil {
		return nil, c.failed(ctx, "ask for the ends of logs", c.profile.denied(err, "DESCRIBE", "topics"))
	}
	for name, all := range ends {
		if p := slices.Index(all, -1); p >= 0 {
			return nil, c.failed(ctx, "ask for the ends of logs", &PartitionError{Topic: name, Partition: int32(p), Err: errNoAnswer})
		}
	}
	return ends, nil
}

// addEpoch adds a partition to what one leader is asked.
func addEpoch(at map[int32]*kmsg.OffsetForLeaderEpochRequest, leader int32, topic string, partition, epoch int32) {
	req := at[leader]
	if req == nil {
		req = kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID = -1
		at[leader] = req
	}
	if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != topic {
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		req.Topics = append(req.Topics, rt)
	}
	rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = partition, epoch, epoch
	rt := &req.Topics[len(req.Topics)-1]
	rt.Partitions = append(rt.Partitions, rp)
}

// endsOf asks one leader.
func endsOf(ctx context.Context, b *kgo.Broker, req *kmsg.OffsetForLeaderEpochRequest, mu *sync.Mutex, ends map[string][]int64) error {
	resp, err := askOf[*kmsg.OffsetForLeaderEpochResponse](ctx, b, req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	var errs []error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			all := ends[t.Topic]
			switch err := partitionError(t.Topic, p.Partition, p.ErrorCode, "", "DESCRIBE"); {
			case err != nil:
				errs = append(errs, err)
			case p.Partition < 0 || int(p.Partition) >= len(all) || p.EndOffset < 0:
				errs = append(errs, protocolErrorf("an end of %s:%d at %d that was not asked for", t.Topic, p.Partition, p.EndOffset))
			default:
				all[p.Partition] = p.EndOffset
			}
		}
	}
	return errors.Join(errs...)
}
