// Package journal is the topic __isthmus.routers of one cluster: what nodes append there for routers, and read back in offset order. It knows nothing
// of what the records say.
package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// Topic holds what routers keep in a cluster. It is compacted, and has one partition.
const Topic = "__isthmus.routers"

const (
	fetchBytes = 1 << 20
	lookAgain  = 100 * time.Millisecond
)

// Journal appends to the topic of one cluster and reads it once, from its beginning on. One goroutine at a time uses it.
type Journal struct {
	cluster  *broker.Cluster
	producer *broker.Producer
	made     bool  // the topic was seen
	next     int64 // offset that was not read yet
	own      int64 // behind the last that was appended
}

// New returns the journal of a cluster. Nothing is dialled.
func New(cluster *broker.Cluster) *Journal { return &Journal{cluster: cluster} }

// Cluster is the name of the cluster.
func (j *Journal) Cluster() string { return j.cluster.Name() }

// Close ends the connections for writing; the cluster stays open.
func (j *Journal) Close() {
	if j.producer != nil {
		j.producer.Close()
		j.producer = nil
	}
}

// Append writes records in their order, which all replicas in sync have when it returns, and makes the topic if it is not there. It waits while brokers do
// not know the topic yet. After an error records may be there all the same, or come later.
func (j *Journal) Append(ctx context.Context, records ...broker.Record) error {
	for i := range records {
		records[i].Topic = Topic
	}
	return whenThere(ctx, func(ctx context.Context) error {
		if j.producer == nil {
			p, err := j.cluster.Producer(broker.ProducerOptions{ManualPartition: true})
			if err != nil {
				return err
			}
			j.producer = p
		}
		err := j.make(ctx)
		if err == nil {
			var there []broker.Record
			if there, err = j.producer.Produce(ctx, records...); err == nil {
				for _, r := range there {
					j.own = max(j.own, r.Offset+1)
				}
			}
		}
		if err != nil { // a producer never goes over to a new topic of the same name
			j.producer.Close()
			j.producer, j.made = nil, false
		}
		return err
	})
}

// make sees to it that the topic is there, as safe as the cluster allows. Two instances that do it at once are no harm.
func (j *Journal) make(ctx context.Context) error {
	if j.made {
		return nil
	}
	m, err := j.cluster.Metadata(ctx, Topic)
	if err != nil {
		return err
	}
	switch err = m.Topics[Topic].Err; {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		factor := min(3, max(1, len(m.Brokers)))
		err = j.cluster.CreateTopic(ctx, Topic, 1, factor, map[string]string{"cleanup.policy": "compact", "compression.type": "producer",
			"min.insync.replicas": fmt.Sprint(max(1, factor-1)), "segment.bytes": fmt.Sprint(16 << 20)})
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	case err != nil:
		return fmt.Errorf("find topic %s of cluster %s: %w", Topic, j.cluster.Name(), err)
	}
	j.made = true
	return nil
}

// Read gives take what is new, in offset order, up to the end that the log has now; a record without a value is one that was taken back. A topic that is not
// there has no records. A record that take refuses is given to it again by the next Read.
func (j *Journal) Read(ctx context.Context, take func(key, value []byte) error) error {
	return whenThere(ctx, func(ctx context.Context) error { return j.read(ctx, take) })
}

// ReadBack is Read up to what was appended last: who is as far knows whether somebody was faster. It asks for nothing but the records.
func (j *Journal) ReadBack(ctx context.Context, take func(key, value []byte) error) error {
	for j.next < j.own {
		at := j.next
		if err := j.fetch(ctx, take); err != nil || j.next == at { // the brokers may not know yet which one leads
			return j.Read(ctx, take)
		}
	}
	return nil
}

func (j *Journal) read(ctx context.Context, take func(key, value []byte) error) error {
	if j.next == 0 && !j.made {
		m, err := j.cluster.Metadata(ctx, Topic)
		if err != nil {
			return err
		}
		if err := m.Topics[Topic].Err; errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil
		}
	}
	end, err := j.cluster.ListOffsets(ctx, Topic, 0, broker.Latest, false)
	if err != nil {
		return err
	}
	if end.Offset < j.next {
		return fmt.Errorf("topic %s of cluster %s ends at %d and was read up to %d; was it deleted? Clients keep what they were told until this node is restarted", Topic, j.cluster.Name(), end.Offset, j.next)
	}
	for at := j.next; at < end.Offset; at = j.next {
		if err := j.fetch(ctx, take); err != nil {
			return err
		}
		if j.next <= at { // what is left was compacted away
			j.next = end.Offset
		}
	}
	return nil
}

// fetch reads what one answer holds.
func (j *Journal) fetch(ctx context.Context, take func(key, value []byte) error) error {
	frame, err := j.cluster.FetchOnce(ctx, Topic, 0, j.next, fetchBytes, false)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		start, err := j.cluster.ListOffsets(ctx, Topic, 0, broker.Earliest, false)
		if err != nil {
			return err
		}
		if start.Offset <= j.next {
			return fmt.Errorf("read topic %s of cluster %s at offset %d, and it begins at %d: %w", Topic, j.cluster.Name(), j.next, start.Offset, kerr.OffsetOutOfRange)
		}
		j.next = start.Offset
		return nil
	}
	if err != nil {
		return err
	}
	defer frame.Release()
	return j.batches(j.next, frame.Partitions[0].Batches, take)
}

// batches reads what one answer holds from an offset on.
func (j *Journal) batches(from int64, raw []byte, take func(key, value []byte) error) error {
	at := func(offset int64, err error) error {
		return fmt.Errorf("%s of cluster %s at offset %d: %w", Topic, j.cluster.Name(), offset, err)
	}
	for len(raw) > 0 {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return nil
		}
		if err != nil {
			return at(from, err)
		}
		raw = rest
		if h.Control() || h.Records == 0 || h.LastOffset() < from {
			j.next = max(j.next, h.NextOffset())
			continue
		}
		records, err := batch.Decode(one, 2*fetchBytes)
		if err != nil {
			return at(h.BaseOffset, err)
		}
		for _, rec := range records {
			if rec.Offset < from {
				continue
			}
			j.next = max(j.next, rec.Offset)
			if err := take(rec.Key, rec.Value); err != nil {
				return at(rec.Offset, err)
			}
			j.next = rec.Offset + 1
		}
		j.next = max(j.next, h.NextOffset())
	}
	return nil
}

// whenThere calls fn until the brokers all know a new topic and its leader.
func whenThere(ctx context.Context, fn func(context.Context) error) error {
	for {
		err := fn(ctx)
		if !notYet(err) {
			return err
		}
		timer := time.NewTimer(lookAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// notYet reports the errors of a topic that is new, or whose leader is new.
func notYet(err error) bool {
	for _, e := range []error{kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
