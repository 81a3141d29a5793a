package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/test/process"
)

// askEvery is the pause between two looks at a broker that is not ready yet.
const askEvery = 100 * time.Millisecond

// WaitReady returns when every broker that runs and is not paused answers and knows all the others that do; and, if none
// is down or paused, when every partition has a leader that answers for it. Its error tells what was missing when ctx ended, or that a
// broker died, and has the end of that broker's log.
func (c *Cluster) WaitReady(ctx context.Context) error {
	var ids []int32
	for i, b := range c.brokers {
		if p := b.process(); p != nil && !p.paused.Load() {
			ids = append(ids, int32(i+1))
		}
	}
	for _, id := range ids {
		if err := c.waitBroker(ctx, int(id-1), ids); err != nil {
			return err
		}
	}
	return nil
}

// waitBroker asks one broker until it is ready.
func (c *Cluster) waitBroker(ctx context.Context, i int, ids []int32) error {
	b := c.brokers[i]
	opts := []kgo.Opt{kgo.SeedBrokers(b.addr), kgo.RetryTimeout(time.Second), kgo.DialTimeout(time.Second)}
	cl, err := kgo.NewClient(append(opts, c.o.ClientOptions...)...)
	if err != nil {
		return fmt.Errorf("wait for broker %d of %s: %w", i, c.o.Name, err)
	}
	defer cl.Close()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		lack := c.ask(ctx, cl, int32(i+1), ids)
		if lack == nil {
			return nil
		}
		p := b.process()
		if p == nil {
			return fmt.Errorf("wait for broker %d of %s: it was stopped meanwhile", i, c.o.Name)
		}
		select {
		case <-p.Done():
			return fmt.Errorf("wait for broker %d of %s: it ended: %v; its log ends:\n%s", i, c.o.Name, p.Err(), process.Tail(b.logPath(), tailLines))
		case <-ctx.Done():
			return fmt.Errorf("wait for broker %d of %s: %w: %w; its log ends:\n%s", i, c.o.Name, ctx.Err(), lack, process.Tail(b.logPath(), tailLines))
		case <-tick.C:
		}
	}
}

// ask returns what the broker of a node id, behind cl, still lacks; nil if nothing.
func (c *Cluster) ask(ctx context.Context, cl *kgo.Client, id int32, ids []int32) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl.SeedBrokers()[0])
	if err != nil {
		return err
	}
	known := make([]int32, 0, len(resp.Brokers))
	for _, b := range resp.Brokers {
		known = append(known, b.NodeID)
	}
	for _, other := range ids {
		if !slices.Contains(known, other) {
			return fmt.Errorf("it does not know node %d yet", other)
		}
	}
	if resp.ControllerID < 0 {
		return errors.New("it knows no controller yet")
	}
	if len(ids) < len(c.brokers) {
		return nil // a partition may have lost its only replica
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 {
				return fmt.Errorf("partition %d of topic %s has no leader", p.Partition, *t.Topic)
			}
		}
	}
	return leads(ctx, cl, id, resp.Topics)
}

// leads returns what a broker does not answer for yet although it tells that it leads it: one that has just started knows of leaders before it
// has loaded what it leads itself.
func leads(ctx context.Context, cl *kgo.Client, id int32, topics []kmsg.MetadataResponseTopic) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for _, t := range topics {
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = *t.Topic
		for _, p := range t.Partitions {
			if p.Leader != id {
				continue
			}
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = p.Partition, -1, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			req.Topics = append(req.Topics, rt)
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, cl.SeedBrokers()[0])
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); slices.Contains(notYet, err) {
				return fmt.Errorf("it does not lead %s:%d yet: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// notYet is what a broker says of partitions that it is about to lead. What else it may say is not for whoever waits for its start.
var notYet = []error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.ReplicaNotAvailable, kerr.UnknownTopicOrPartition}
