package broker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicID is the id a cluster gave to a topic; a topic that is deleted and created again has another. Zero = the cluster is
// older than topic ids.
type TopicID [16]byte

// Metadata is what a cluster says about itself.
type Metadata struct {
	ClusterID  string
	Controller int32 // -1 unknown
	Brokers    map[int32]Broker
	Topics     map[string]Topic
}

// Broker is one broker of a cluster, at the address it advertises.
type Broker struct {
	ID   int32
	Host string
	Port int32
	Rack string // empty = none
}

// Topic is one topic of a cluster. Err is of package kerr: UnknownTopicOrPartition, TopicAuthorizationFailed and the like; or
// [ErrProtocol] where the cluster says of the topic what cannot be. Then its partitions are unknown, and none are listed.
type Topic struct {
	Name       string
	ID         TopicID
	Internal   bool
	Err        error
	Partitions []Partition // the index is the partition
}

// Partition is one partition of a topic. Err is of package kerr, LeaderNotAvailable above all.
type Partition struct {
	ID          int32
	Leader      int32 // -1 = none
	LeaderEpoch int32 // -1 = the cluster is older than leader epochs
	Replicas    []int32
	ISR         []int32
	Err         error
}

// maxPartitionID bounds the partition ids that are believed: a topic with more would be made on the other side too.
const maxPartitionID = 100_000

// Metadata asks the cluster, never a cache, and creates no topic. No topics given = all. A topic that cannot be described is
// in the answer with its error; the error returned is that of the whole request.
func (c *Cluster) Metadata(ctx context.Context, topics ...string) (Metadata, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t)
		req.Topics = append(req.Topics, rt)
	}
	return c.metadata(ctx, *req)
}

// metadata asks for what a request names.
func (c *Cluster) metadata(ctx context.Context, req kmsg.MetadataRequest) (Metadata, error) {
	resp, err := askAny(ctx, c, req, (*kmsg.MetadataRequest).RequestWith)
	if err == nil {
		err = codeError(resp.ErrorCode)
	}
	if err != nil {
		return Metadata{}, c.failed(ctx, "ask for metadata", err)
	}
	m := Metadata{Controller: resp.ControllerID, Brokers: map[int32]Broker{}, Topics: map[string]Topic{}}
	if resp.ClusterID != nil {
		m.ClusterID = *resp.ClusterID
	}
	for _, b := range resp.Brokers {
		m.Brokers[b.NodeID] = Broker{ID: b.NodeID, Host: b.Host, Port: b.Port, Rack: orEmpty(b.Rack)}
	}
	for i := range resp.Topics {
		t := metadataTopic(&resp.Topics[i])
		t.Err = c.profile.denied(t.Err, "DESCRIBE", "topic "+t.Name)
		m.Topics[t.Name] = t
	}
	c.spare.moved(m)
	return m, nil
}

// failed names what was asked of which cluster.
func (c *Cluster) failed(ctx context.Context, what string, err error) error {
	err = c.profile.explainClient(err)
	if _, told := isAccess(err); told {
		return fmt.Errorf("%s: %w", what, err)
	}
	if ctx.Err() != nil && context.Cause(ctx) != err {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w (the broker hung up; some do so at a wrong password, or where they want TLS or SASL)", err)
	}
	return fmt.Errorf("%s of cluster %s: %w", what, c.profile.Name, err)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// metadataTopic puts the partitions, which come in any order, at their place.
func metadataTopic(rt *kmsg.MetadataResponseTopic) Topic {
	t := Topic{Name: orEmpty(rt.Topic), ID: rt.TopicID, Internal: rt.IsInternal, Err: codeError(rt.ErrorCode)}
	n := int32(0)
	for i := range rt.Partitions {
		id := rt.Partitions[i].Partition
		if id < 0 || id >= maxPartitionID {
			t.Err = protocolErrorf("topic %q has a partition %d", t.Name, id)
			return t
		}
		n = max(n, id+1)
	}
	if int(n) > 2*len(rt.Partitions)+16 { // a few may be missing for a moment, not most
		t.Err = protocolErrorf("topic %q has %d partitions up to number %d", t.Name, len(rt.Partitions), n-1)
		return t
	}
	t.Partitions = make([]Partition, n)
	for i := range t.Partitions {
		t.Partitions[i] = Partition{ID: int32(i), Leader: -1, LeaderEpoch: -1, Err: codeError(leaderNotAvailable)}
	}
	for _, p := range rt.Partitions {
		t.Partitions[p.Partition] = Partition{
			ID: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
			Replicas: p.Replicas, ISR: p.ISR, Err: codeError(p.ErrorCode),
		}
	}
	return t
}

// leaderNotAvailable is the error of a partition that an answer leaves out.
const leaderNotAvailable = 5
