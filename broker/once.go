package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	silent := 0
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
			if errors.Is(err, os.ErrDeadlineExceeded) { // an idle connection may have died unheard, so a new one is tried, once
				c.dropIdle(r.broker)
				silent++
			}
			if ctx.Err() != nil || Classify(err) == Fatal || silent > 1 {
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
	leader, id, err := c.lookUp(ctx, topic, partition)
	if err != nil {
		return nil, none, err
	}
	want := FetchPartition{
		Topic: topic, TopicID: id, Partition: partition,
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

// lookUp returns the leader of a partition and the id of the topic, from memory if they are there.
func (c *Cluster) lookUp(ctx context.Context, topic string, partition int32) (Broker, TopicID, error) {
	for {
		t, remembered, err := c.leaders(ctx, topic)
		if err != nil {
			return Broker{}, TopicID{}, err
		}
		var missing error = kerr.UnknownTopicOrPartition
		if partition >= 0 && int(partition) < len(t.topic.Partitions) {
			leader, ok := t.brokers[t.topic.Partitions[partition].Leader]
			if ok {
				return leader, t.topic.ID, nil
			}
			missing = kerr.LeaderNotAvailable
		}
		c.forgetLeader(topic)
		if !remembered {
			return Broker{}, TopicID{}, &PartitionError{Topic: topic, Partition: partition, Err: missing}
		}
	}
}

// leaders returns what is known of a topic and asks the cluster if that is nothing.
func (c *Cluster) leaders(ctx context.Context, topic string) (t spareTopic, remembered bool, err error) {
	c.spare.mu.Lock()
	t, remembered = c.spare.leaders[topic]
	c.spare.mu.Unlock()
	if remembered {
		return t, true, nil
	}
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		return spareTopic{}, false, err
	}
	t = spareTopic{topic: m.Topics[topic], brokers: m.Brokers}
	if t.topic.Err != nil {
		return spareTopic{}, false, t.topic.Err
	}
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	c.spare.leaders[topic] = t
	return t, false, nil
}

// moved takes what the cluster said of topics whose leaders are remembered: a leader that is silent does not say that it is none any more.
func (s *spareReaders) moved(m Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.leaders {
		switch t, ok := m.Topics[name]; {
		case !ok:
		case t.Err != nil:
			delete(s.leaders, name)
		default:
			s.leaders[name] = spareTopic{topic: t, brokers: m.Brokers}
		}
	}
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

// dropIdle closes the idle connections to a broker that does not answer.
func (c *Cluster) dropIdle(b Broker) {
	c.spare.mu.Lock()
	idle := c.spare.idle[b.ID]
	delete(c.spare.idle, b.ID)
	c.spare.mu.Unlock()
	for _, r := range idle {
		_ = r.Close()
	}
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
