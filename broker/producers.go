package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// producersAtOnce bounds the partitions that a leader is asked about in one request, so that its answer is some megabytes at most.
	producersAtOnce = 500
	// refusalsNamed is how many partitions an error names.
	refusalsNamed = 8
)

// ProducersOf returns the producers that the leaders of many partitions remember, as [Cluster.Producers] does of one, by topic and partition. Each leader gets one
// request for each 500 of its partitions, one after the other; all leaders are asked at a time, again where they have moved. Partitions that there are not are left
// out. Any other that cannot be asked is an error, which names some of them.
func (c *Cluster) ProducersOf(ctx context.Context, partitions map[string][]int32) (map[string]map[int32][]ProducerState, error) {
	a := inquiry{left: make(map[TopicPartition]error), out: make(map[string]map[int32][]ProducerState)}
	for topic, ps := range partitions {
		for _, p := range ps {
			a.left[TopicPartition{topic, p}] = errNoAnswer
		}
	}
	for try := 0; len(a.left) > 0 && (try == 0 || try < leaderTries && a.passes() && pause(ctx, leaderWait<<(try-1)) == nil); try++ {
		if err := c.askProducers(ctx, &a); err != nil {
			return nil, c.failed(ctx, "describe producers", c.profile.denied(err, "READ", "topics"))
		}
	}
	maps.DeleteFunc(a.left, func(_ TopicPartition, err error) bool { return errors.Is(err, kerr.UnknownTopicOrPartition) })
	if len(a.left) > 0 {
		return nil, c.failed(ctx, "describe producers", a.refusals())
	}
	return a.out, nil
}

func comparePartitions(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// inquiry is how far many partitions have been asked.
type inquiry struct {
	mu   sync.Mutex
	left map[TopicPartition]error // what is not answered, and why
	out  map[string]map[int32][]ProducerState
}

// passes reports whether another try may answer what is left.
func (a *inquiry) passes() bool {
	for _, err := range a.left {
		var said *kerr.Error
		if errors.Is(err, ErrUnsupported) || errors.Is(err, errSilent) || errors.As(err, &said) && !said.Retriable && !staleLeader(err) {
			return false
		}
	}
	return true
}

// refusals is why what is left was not answered.
func (a *inquiry) refusals() error {
	all := slices.SortedFunc(maps.Keys(a.left), comparePartitions)
	var named []error
	for _, at := range all[:min(len(all), refusalsNamed)] {
		err := a.left[at]
		var told *PartitionError
		if !errors.As(err, &told) {
			err = fmt.Errorf("%s:%d: %w", at.Topic, at.Partition, err)
		}
		named = append(named, err)
	}
	if n := len(all) - len(named); n > 0 {
		named = append(named, fmt.Errorf("and %d other partitions", n))
	}
	return errors.Join(named...)
}

// askProducers asks the leaders of now once for all that is left.
func (c *Cluster) askProducers(ctx context.Context, a *inquiry) error {
	topics := make(map[string]bool)
	for at := range a.left {
		topics[at.Topic] = true
	}
	m, err := c.Metadata(ctx, slices.Sorted(maps.Keys(topics))...)
	if err != nil {
		return err
	}
	leaders := make(map[int32][]TopicPartition)
	for at := range a.left {
		t := m.Topics[at.Topic]
		switch {
		case t.Err != nil:
			a.left[at] = t.Err
		case at.Partition < 0 || int(at.Partition) >= len(t.Partitions):
			a.left[at] = kerr.UnknownTopicOrPartition
		case t.Partitions[at.Partition].Leader < 0:
			a.left[at] = kerr.LeaderNotAvailable
		default:
			id := t.Partitions[at.Partition].Leader
			leaders[id] = append(leaders[id], at)
		}
	}
	var all sync.WaitGroup
	for id, list := range leaders {
		all.Go(func() {
			slices.SortFunc(list, comparePartitions)
			for part := range slices.Chunk(list, producersAtOnce) {
				if err := c.askLeader(ctx, id, part, a); err != nil {
					a.note(list, err)
					return
				}
			}
		})
	}
	all.Wait()
	return nil
}

// note says why those of a leader's partitions that have no answer have none.
func (a *inquiry) note(list []TopicPartition, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range list {
		if _, ok := a.left[at]; ok {
			a.left[at] = err
		}
	}
}

// askLeader asks one broker about partitions that it leads.
func (c *Cluster) askLeader(ctx context.Context, id int32, list []TopicPartition, a *inquiry) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderPatience, errSilent)
	defer cancel()
	req := kmsg.NewPtrDescribeProducersRequest()
	for _, at := range list {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != at.Topic {
			rt := kmsg.NewDescribeProducersRequestTopic()
			rt.Topic = at.Topic
			req.Topics = append(req.Topics, rt)
		}
		rt := &req.Topics[len(req.Topics)-1]
		rt.Partitions = append(rt.Partitions, at.Partition)
	}
	b := c.client.Broker(int(id))
	resp, err := askOf[*kmsg.DescribeProducersResponse](ctx, b, req)
	if err != nil {
		return whyNot(ctx, b, req.Key(), err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			p := &t.Partitions[k]
			a.takeLocked(TopicPartition{t.Topic, p.Partition}, p)
		}
	}
	return nil
}

// whyNot is why a broker did not answer: it may not know the request, or say nothing.
func whyNot(ctx context.Context, b *kgo.Broker, key int16, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if known, unsure := knows(ctx, b, key); unsure == nil && !known {
		return ErrUnsupported
	}
	return err
}

// takeLocked takes the answer of one partition.
func (a *inquiry) takeLocked(at TopicPartition, p *kmsg.DescribeProducersResponseTopicPartition) {
	if _, asked := a.left[at]; !asked {
		return
	}
	if err := partitionError(at.Topic, at.Partition, p.ErrorCode, orEmpty(p.ErrorMessage), "READ"); err != nil {
		a.left[at] = err
		return
	}
	delete(a.left, at)
	if a.out[at.Topic] == nil {
		a.out[at.Topic] = make(map[int32][]ProducerState)
	}
	a.out[at.Topic][at.Partition] = producerStates(p)
}

func producerStates(p *kmsg.DescribeProducersResponseTopicPartition) []ProducerState {
	states := make([]ProducerState, 0, len(p.ActiveProducers))
	for _, a := range p.ActiveProducers {
		states = append(states, ProducerState{a.ProducerID, int16(a.ProducerEpoch), a.LastSequence, a.LastTimestamp})
	}
	return states
}
