package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxIdleReaders is how many idle connections of FetchOnce are kept for each broker.
const maxIdleReaders = 2

// onceWait is how long FetchOnce lets the broker wait for the first byte.
const onceWait = 250 * time.Millisecond

// spareTopic is what FetchOnce remembers of a topic, until the cluster contradicts it.
type spareTopic struct {
	topic   Topic
	brokers map[int32]Broker
}

// FetchOnce reads one partition from offset, without a session: for recovery, not for streams. The leader is looked up, and
// once more if it has moved. The frame holds one partition whose own error is nil; it is empty at the end of the log. TopicID in it is
// that of the topic that was read.
func (c *Cluster) FetchOnce(ctx context.Context, topic string, partition int32, offset int64, maxBytes int32, committed bool) (*Frame, error) {
	var last error
	for range 3 {
		r, p, err := c.spareReader(ctx, topic, partition)
		if err != nil {
			return nil, fmt.Errorf("fetch %s:%d at %d: %w", topic, partition, offset, err)
		}
		p.Offset, p.MaxBytes = offset, maxBytes
		r.Set(p)
		frame, err := r.Fetch(ctx, FetchOptions{MaxWait: onceWait, MinBytes: 1, MaxBytes: maxBytes, ReadCommitted: committed})
		r.Forget(p.Topic, p.TopicID, p.Partition)
		if err != nil {
			c.forgetLeader(topic)
			last = err
			if ctx.Err() != nil || Classify(err) == Fatal {
				break
			}
			continue
		}
		c.keepReader(r)
		err = onceError(frame)
		if err == nil {
			return frame, nil
		}
		frame.Release()
		last = err
		if !staleLeader(err) {
			break
		}
		c.forgetLeader(topic)
	}
	return nil, fmt.Errorf("fetch %s:%d at %d: %w", topic, partition, offset, last)
}

// onceError is the error of the one partition that was asked for.
func onceError(f *Frame) error {
	if len(f.Partitions) != 1 {
		return protocolErrorf("%d partitions in the answer to a fetch of one", len(f.Partitions))
	}
	return f.Partitions[0].Err
}

// staleLeader reports the errors that a look at the metadata may cure.
func staleLeader(err error) bool {
	for _, e := range []error{
		kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID,
		kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// spareReader returns a connection to the partition's leader, an idle one if there is one.
func (c *Cluster) spareReader(ctx context.Context, topic string, partition int32) (*FetchSession, FetchPartition, error) {
	var none FetchPartition
	t, err := c.leaders(ctx, topic)
	if err != nil {
		return nil, none, err
	}
	if partition < 0 || int(partition) >= len(t.topic.Partitions) {
		c.forgetLeader(topic)
		return nil, none, &PartitionError{Topic: topic, Partition: partition, Err: kerr.UnknownTopicOrPartition}
	}
	leader, ok := t.brokers[t.topic.Partitions[partition].Leader]
	if !ok {
		c.forgetLeader(topic)
		return nil, none, &PartitionError{Topic: topic, Partition: partition, Err: kerr.LeaderNotAvailable}
	}
	want := FetchPartition{
		Topic: topic, TopicID: t.topic.ID, Partition: partition,
		LeaderEpoch: -1, LastFetchedEpoch: -1, LogStart: -1,
	}
	if r := c.idleReader(leader); r != nil {
		return r, want, nil
	}
	r, err := c.FetchSession(ctx, leader)
	if err != nil {
		c.forgetLeader(topic)
		return nil, none, err
	}
	r.once = true
	return r, want, nil
}

// leaders returns what is known of a topic and asks the cluster if that is nothing.
func (c *Cluster) leaders(ctx context.Context, topic string) (spareTopic, error) {
	c.spare.mu.Lock()
	t, ok := c.spare.leaders[topic]
	c.spare.mu.Unlock()
	if ok {
		return t, nil
	}
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		return spareTopic{}, err
	}
	t = spareTopic{topic: m.Topics[topic], brokers: m.Brokers}
	if t.topic.Err != nil {
		return spareTopic{}, t.topic.Err
	}
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	c.spare.leaders[topic] = t
	return t, nil
}

func (c *Cluster) forgetLeader(topic string) {
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	delete(c.spare.leaders, topic)
}

// idleReader takes an idle connection to b, which may have moved since.
func (c *Cluster) idleReader(b Broker) *FetchSession {
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	idle := c.spare.idle[b.ID]
	for n := len(idle); n > 0; n-- {
		r := idle[n-1]
		idle = idle[:n-1]
		c.spare.idle[b.ID] = idle
		if r.broker.address() == b.address() && r.w.err() == nil {
			return r
		}
		go r.Close() // a close may wait for the network, and the lock is held
	}
	return nil
}

// keepReader keeps a connection for the next one who needs it.
func (c *Cluster) keepReader(r *FetchSession) {
	c.spare.mu.Lock()
	keep := !c.spare.shut && len(c.spare.idle[r.broker.ID]) < maxIdleReaders
	if keep {
		c.spare.idle[r.broker.ID] = append(c.spare.idle[r.broker.ID], r)
	}
	c.spare.mu.Unlock()
	if !keep {
		_ = r.Close()
	}
}
