package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config is one setting of a topic, as it is in effect.
type Config struct {
	Value   string // empty also where the broker hides it
	Dynamic bool   // set on the topic itself; false = a default of the broker or of Kafka
}

// configsAtOnce is how many topics one request asks for: brokers tell a kilobyte and a half of each, and what is over
// maxPlainAnswer is not read.
const configsAtOnce = 2000

// TopicConfigs returns the settings in effect, by topic and name. Topics whose settings could not be read are missing from the
// answer and joined in the error; the others are there. It is nil where the cluster did not answer.
func (c *Cluster) TopicConfigs(ctx context.Context, topics ...string) (map[string]map[string]Config, error) {
	all := make(map[string]map[string]Config, len(topics))
	var errs []error
	for some := range slices.Chunk(topics, configsAtOnce) {
		refused, err := c.someConfigs(ctx, all, some)
		if err != nil { // the rest would go the same way, and each has the patience of a request
			if len(all) == 0 {
				all = nil
			}
			errs = append(errs, err)
			break
		}
		errs = append(errs, refused...)
	}
	return all, errors.Join(errs...)
}

// someConfigs puts the settings of topics into all. refused are those the cluster does not tell, err is that of the request.
func (c *Cluster) someConfigs(ctx context.Context, all map[string]map[string]Config, topics []string) (refused []error, err error) {
	// Not by kadm, for which one topic without rights is the end of all others.
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, t := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, t
		req.Resources = append(req.Resources, r)
	}
	resp, err := askAny(ctx, c, *req, (*kmsg.DescribeConfigsRequest).RequestWith)
	if err != nil {
		return nil, c.failed(ctx, "describe topic configurations", err)
	}
	for _, r := range resp.Resources {
		if err := codeError(r.ErrorCode); err != nil {
			refused = append(refused, c.refused("describe the configuration of topic "+r.ResourceName,
				c.profile.denied(err, "DESCRIBE_CONFIGS", "topic "+r.ResourceName), orEmpty(r.ErrorMessage)))
			continue
		}
		configs := make(map[string]Config, len(r.Configs))
		for _, v := range r.Configs {
			configs[v.Name] = Config{Value: orEmpty(v.Value), Dynamic: v.Source == kmsg.ConfigSourceDynamicTopicConfig}
		}
		all[r.ResourceName] = configs
	}
	return refused, nil
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
	return c.refused("create topic "+name, c.profile.denied(err, "CREATE", "topic "+name+" or the cluster"), resp.ErrMessage)
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
	return c.refused(what, c.profile.denied(r.Err, "ALTER", "topic "+name), r.ErrMessage)
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
	var found Position
	err := c.atLeader(ctx, topic, partition, func(ctx context.Context, b *kgo.Broker) error {
		own := *req
		resp, err := askOf[*kmsg.ListOffsetsResponse](ctx, b, &own)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if t.Topic == topic && p.Partition == partition {
					found = Position{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Timestamp: p.Timestamp}
					return partitionError(topic, partition, p.ErrorCode, "", "DESCRIBE")
				}
			}
		}
		return &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer}
	})
	if err != nil {
		return Position{}, c.failed(ctx, fmt.Sprintf("list offsets of %s:%d", topic, partition), c.profile.denied(err, "DESCRIBE", "topic "+topic))
	}
	return found, nil
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
	err = c.atLeader(ctx, topic, partition, func(ctx context.Context, b *kgo.Broker) error {
		own := *req
		resp, err := askOf[*kmsg.OffsetForLeaderEpochResponse](ctx, b, &own)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if t.Topic == topic && p.Partition == partition {
					epoch, end = p.LeaderEpoch, p.EndOffset
					return partitionError(topic, partition, p.ErrorCode, "", "DESCRIBE")
				}
			}
		}
		return &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer}
	})
	if err != nil {
		return -1, -1, c.failed(ctx, fmt.Sprintf("ask for the end of epoch %d of %s:%d", leaderEpoch, topic, partition), c.profile.denied(err, "DESCRIBE", "topic "+topic))
	}
	return epoch, end, nil
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
	var states []ProducerState
	err := c.atLeader(ctx, topic, partition, func(ctx context.Context, b *kgo.Broker) error {
		own := *req
		resp, err := askOf[*kmsg.DescribeProducersResponse](ctx, b, &own)
		if err != nil {
			if knows, unsure := knows(ctx, b, req.Key()); unsure == nil && !knows {
				err = ErrUnsupported
			}
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if t.Topic != topic || p.Partition != partition {
					continue
				}
				states = producerStates(&p)
				return partitionError(topic, partition, p.ErrorCode, orEmpty(p.ErrorMessage), "READ")
			}
		}
		return &PartitionError{Topic: topic, Partition: partition, Err: errNoAnswer}
	})
	if err != nil {
		return nil, c.failed(ctx, fmt.Sprintf("describe producers of %s:%d", topic, partition), c.profile.denied(err, "READ", "topic "+topic))
	}
	return states, nil
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

// BrokerConfigs returns the settings in effect of these brokers, by node id and name. Brokers whose settings could not be read
// are missing and joined in the error; the others are there. Settings that the broker hides are empty.
func (c *Cluster) BrokerConfigs(ctx context.Context, ids ...int32) (map[int32]map[string]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// Not by kadm, for which one broker that is down or refuses is the end of all others.
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, id := range ids {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id))
		req.Resources = append(req.Resources, r)
	}
	all := make(map[int32]map[string]string)
	var errs []error
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			errs = append(errs, c.failed(ctx, "describe the configuration of "+brokerNames(shard.Req), shard.Err))
			continue
		}
		for _, r := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			what := "describe the configuration of broker " + r.ResourceName
			if err := codeError(r.ErrorCode); err != nil {
				errs = append(errs, c.refused(what, c.profile.denied(err, "DESCRIBE_CONFIGS", "the cluster"), orEmpty(r.ErrorMessage)))
				continue
			}
			id, err := strconv.ParseInt(r.ResourceName, 10, 32)
			if err != nil || !slices.Contains(ids, int32(id)) {
				errs = append(errs, c.failed(ctx, "describe broker configurations", protocolErrorf("broker %.20q was not asked for", r.ResourceName)))
				continue
			}
			configs := make(map[string]string, len(r.Configs))
			for _, v := range r.Configs {
				configs[v.Name] = orEmpty(v.Value)
			}
			all[int32(id)] = configs
		}
	}
	if len(errs) == 0 && len(all) < len(ids) {
		errs = append(errs, c.failed(ctx, "describe broker configurations", protocolErrorf("%d of %d brokers are in the answer", len(all), len(ids))))
	}
	return all, errors.Join(errs...)
}

// brokerNames are the brokers of one piece of the request, which the client library cut by broker.
func brokerNames(req kmsg.Request) string {
	d, ok := req.(*kmsg.DescribeConfigsRequest)
	if !ok || len(d.Resources) == 0 {
		return "brokers"
	}
	names := make([]string, len(d.Resources))
	for i, r := range d.Resources {
		names[i] = r.ResourceName
	}
	return "broker " + strings.Join(names, ", ")
}
