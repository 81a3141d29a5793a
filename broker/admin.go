package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config is one setting of a topic, as it is in effect.
type Config struct {
	Value   string // empty also where the broker hides it
	Dynamic bool   // set on the topic itself; false = a default of the broker or of Kafka
}

// TopicConfigs returns the settings in effect, by topic and name. Topics whose settings could not be read are missing from the
// answer and joined in the error; the others are there.
func (c *Cluster) TopicConfigs(ctx context.Context, topics ...string) (map[string]map[string]Config, error) {
	all := map[string]map[string]Config{}
	if len(topics) == 0 {
		return all, nil
	}
	described, err := c.admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return nil, c.failed(ctx, "describe topic configurations", err)
	}
	var errs []error
	for _, d := range described {
		if d.Err != nil {
			errs = append(errs, fmt.Errorf("describe configuration of topic %s: %w", d.Name, d.Err))
			continue
		}
		configs := make(map[string]Config, len(d.Configs))
		for _, v := range d.Configs {
			configs[v.Key] = Config{Value: orEmpty(v.Value), Dynamic: v.Source == kmsg.ConfigSourceDynamicTopicConfig}
		}
		all[d.Name] = configs
	}
	return all, errors.Join(errs...)
}

// CreateTopic creates a topic; kerr.TopicAlreadyExists if it is there. The brokers may need a moment before they all know it.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int, replicationFactor int, configs map[string]string) error {
	settings := make(map[string]*string, len(configs))
	for k, v := range configs {
		settings[k] = &v
	}
	resp, err := c.admin.CreateTopic(ctx, int32(partitions), int16(replicationFactor), settings, name)
	if err != nil && !answered(err) {
		return c.failed(ctx, "create topic "+name, err)
	}
	return c.refused("create topic "+name, err, resp.ErrMessage)
}

// GrowTopic gives a topic more partitions, to in all. A topic that has as many already is no error; one that has more is
// kerr.InvalidPartitions.
func (c *Cluster) GrowTopic(ctx context.Context, name string, to int) error {
	what := fmt.Sprintf("grow topic %s to %d partitions", name, to)
	m, err := c.Metadata(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t := m.Topics[name]
	if t.Err != nil {
		return c.refused(what, t.Err, "")
	}
	if len(t.Partitions) == to {
		return nil
	}
	responses, err := c.admin.UpdatePartitions(ctx, to, name)
	if err != nil {
		return c.failed(ctx, what, err)
	}
	r, ok := responses[name]
	if !ok {
		return c.failed(ctx, what, protocolErrorf("no answer for the topic"))
	}
	return c.refused(what, r.Err, r.ErrMessage)
}

// answered reports whether an error is a broker's answer rather than the lack of one.
func answered(err error) bool {
	var e *kerr.Error
	return errors.As(err, &e)
}

// refused is a broker's answer with its own words; nil stays nil.
func (c *Cluster) refused(what string, err error, words string) error {
	switch {
	case err == nil:
		return nil
	case words != "":
		return fmt.Errorf("%s of cluster %s: %w (%s)", what, c.profile.Name, err, words)
	}
	return fmt.Errorf("%s of cluster %s: %w", what, c.profile.Name, err)
}

// Special times of ListOffsets.
const (
	Latest   = int64(-1) // the high watermark, or the last stable offset of committed data
	Earliest = int64(-2) // the log start
)

// Position is a place in a partition.
type Position struct {
	Offset      int64 // -1: no record is as late as the time that was asked for
	LeaderEpoch int32 // of the record, or of the leader; -1 unknown
	Timestamp   int64 // ms, of the record found by time; -1 otherwise
}

// ListOffsets returns the place of a time: [Latest], [Earliest], or the first record at or after it, in ms.
func (c *Cluster) ListOffsets(ctx context.Context, topic string, partition int32, at int64, committed bool) (Position, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation(committed)
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = partition, -1, at
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return Position{}, c.failed(ctx, fmt.Sprintf("list offsets of %s:%d", topic, partition), err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if t.Topic != topic || p.Partition != partition {
				continue
			}
			if err := partitionError(topic, partition, p.ErrorCode, ""); err != nil {
				return Position{}, c.failed(ctx, "list offsets", err)
			}
			return Position{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Timestamp: p.Timestamp}, nil
		}
	}
	return Position{}, c.failed(ctx, "list offsets", &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer})
}

// EpochEnd returns the last epoch the leader has that is not after leaderEpoch, and the offset where it ends there
// (OffsetForLeaderEpoch, KIP-101). Both are -1 where the leader knows none.
func (c *Cluster) EpochEnd(ctx context.Context, topic string, partition int32, leaderEpoch int32) (epoch int32, end int64, err error) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = partition, -1, leaderEpoch
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return -1, -1, c.failed(ctx, fmt.Sprintf("ask for the end of epoch %d of %s:%d", leaderEpoch, topic, partition), err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if t.Topic != topic || p.Partition != partition {
				continue
			}
			if err := partitionError(topic, partition, p.ErrorCode, ""); err != nil {
				return -1, -1, c.failed(ctx, "ask for the end of an epoch", err)
			}
			return p.LeaderEpoch, p.EndOffset, nil
		}
	}
	return -1, -1, c.failed(ctx, "ask for the end of an epoch", &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer})
}

// ProducerState is what the leader of a partition remembers of one producer. It counts batches that are not replicated yet.
type ProducerState struct {
	ID            int64
	Epoch         int16
	LastSequence  int32
	LastTimestamp int64 // ms
}

// Producers returns the producers the leader of a partition remembers (DescribeProducers, KIP-664). [ErrUnsupported] where the
// broker has no such request; kfake names only producers with a transactional id.
func (c *Cluster) Producers(ctx context.Context, topic string, partition int32) ([]ProducerState, error) {
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		if ok, verr := c.supports(ctx, req.Key()); verr == nil && !ok {
			err = ErrUnsupported
		}
		return nil, c.failed(ctx, fmt.Sprintf("describe producers of %s:%d", topic, partition), err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if t.Topic != topic || p.Partition != partition {
				continue
			}
			if err := partitionError(topic, partition, p.ErrorCode, orEmpty(p.ErrorMessage)); err != nil {
				return nil, c.failed(ctx, "describe producers", err)
			}
			states := make([]ProducerState, 0, len(p.ActiveProducers))
			for _, a := range p.ActiveProducers {
				states = append(states, ProducerState{a.ProducerID, int16(a.ProducerEpoch), a.LastSequence, a.LastTimestamp})
			}
			return states, nil
		}
	}
	return nil, c.failed(ctx, "describe producers", &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer})
}

// supports asks whether all brokers that answer know a request.
func (c *Cluster) supports(ctx context.Context, key int16) (bool, error) {
	all, err := c.admin.ApiVersions(ctx)
	if err != nil {
		return false, err
	}
	known := true
	all.Each(func(v kadm.BrokerApiVersions) {
		if v.Err == nil {
			_, exists := v.KeyMaxVersion(key)
			known = known && exists
		}
	})
	return known, nil
}
