package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

const (
	// Topic is the canary's where nobody names another.
	Topic = "isthmus.canary"
	// Every is how often the canary writes to each partition.
	Every = 100 * time.Millisecond

	canaryPartitions = 3
	canaryReplicas   = 3
	// canaryRetention is how long what a canary wrote is kept.
	canaryRetention = time.Hour
	// mostWrites bounds what a canary remembers: some hours of one partition.
	mostWrites = 400_000
	// again is the pause behind a read that failed.
	again = 100 * time.Millisecond
	// mark begins the value of each record; the drill and the number follow.
	mark = "isthmus-canary"
)

// Write is one record that the canary sent.
type Write struct {
	Seq  int64 // counts in its partition, from 1 on
	Sent time.Time
	// Acked is when it was acknowledged; zero: it was not. Err is why not, if that is known.
	Acked time.Time
	Err   string
}

// Read is one record that the canary read back.
type Read struct {
	Seq    int64
	Offset int64
	At     time.Time
}

// Log is what a canary saw in one partition: writes in the order of their numbers, reads as they came.
type Log struct {
	Partition int32
	Writes    []Write
	Reads     []Read
}

// Canary writes to a topic of its own through a router's door, and reads it back there. It consumes in no group.
type Canary struct {
	door  *broker.Cluster
	topic string
	id    string
	every time.Duration

	mu   sync.Mutex
	logs []Log
	next []int64 // offset to be read next, by partition
	bad  []error // why the last read of each partition failed; nil: it did not
}

// NewCanary returns the canary of a drill, which writes to a topic behind a door. Nothing is dialled. door stays the caller's.
func NewCanary(door *broker.Cluster, topic, id string) *Canary {
	return &Canary{door: door, topic: topic, id: id, every: Every}
}

// Prepare makes the topic if it is not there, and finds its ends.
func (c *Canary) Prepare(ctx context.Context) error {
	failed := func(err error) error { return fmt.Errorf("prepare canary topic %s: %w", c.topic, err) }
	m, err := c.door.Metadata(ctx, c.topic)
	if err != nil {
		return failed(err)
	}
	if errors.Is(m.Topics[c.topic].Err, kerr.UnknownTopicOrPartition) {
		if err := c.make(ctx, min(canaryReplicas, max(1, len(m.Brokers)))); err != nil {
			return failed(err)
		}
	}
	for {
		err := c.begin(ctx)
		if err == nil {
			return nil
		}
		if !sleep(ctx, again) {
			return failed(err)
		}
	}
}

// make makes the topic. A door tells of the brokers of all homes, so the home of the topic may have fewer than that: then it has fewer replicas.
func (c *Canary) make(ctx context.Context, replicas int) error {
	for ; ; replicas-- {
		err := c.door.CreateTopic(ctx, c.topic, canaryPartitions, replicas, map[string]string{"retention.ms": strconv.FormatInt(canaryRetention.Milliseconds(), 10)})
		switch {
		case err == nil || errors.Is(err, kerr.TopicAlreadyExists):
			return nil
		case replicas == 1 || !errors.Is(err, kerr.InvalidReplicationFactor):
			return err
		}
	}
}

// begin finds where the partitions end.
func (c *Canary) begin(ctx context.Context) error {
	m, err := c.door.Metadata(ctx, c.topic)
	if err == nil {
		err = m.Topics[c.topic].Err
	}
	if err != nil {
		return err
	}
	n := len(m.Topics[c.topic].Partitions)
	if n == 0 {
		return errors.New("it has no partitions yet")
	}
	next, logs := make([]int64, n), make([]Log, n)
	for p := range next {
		at, err := c.door.ListOffsets(ctx, c.topic, int32(p), broker.Latest, false)
		if err != nil {
			return err
		}
		next[p], logs[p].Partition = at.Offset, int32(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.logs, c.bad = next, logs, make([]error, n)
	return nil
}

// Run writes and reads until ctx ends. Who cannot be written to, or read from, is waited for: that is what it measures. [Canary.Prepare] was called before.
func (c *Canary) Run(ctx context.Context) error {
	p, err := c.door.Producer(broker.ProducerOptions{ManualPartition: true, Patient: true})
	if err != nil {
		return fmt.Errorf("run canary: %w", err)
	}
	defer p.Close()
	var readers sync.WaitGroup
	defer readers.Wait()
	for i := range c.logs {
		readers.Go(func() { c.read(ctx, int32(i)) })
	}
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil && n < mostWrites; n += len(c.logs) {
		for i := range c.logs {
			c.write(ctx, p, int32(i))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	<-ctx.Done()
	return nil
}

// write sends the next record of a partition; nobody waits for its acknowledgement.
func (c *Canary) write(ctx context.Context, p *broker.Producer, partition int32) {
	c.mu.Lock()
	log := &c.logs[partition]
	seq := int64(len(log.Writes) + 1)
	log.Writes = append(log.Writes, Write{Seq: seq, Sent: time.Now()})
	c.mu.Unlock()
	p.ProduceAsync(ctx, broker.Record{Topic: c.topic, Partition: partition, Value: fmt.Appendf(nil, "%s %s %d", mark, c.id, seq)}, func(_ broker.Record, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		w := &c.logs[partition].Writes[seq-1]
		if err == nil {
			w.Acked = time.Now()
		} else if ctx.Err() == nil { // at the end nobody waits any more: that is no error
			w.Err = err.Error()
		}
	})
}

// read reads a partition until ctx ends.
func (c *Canary) read(ctx context.Context, partition int32) {
	for ctx.Err() == nil {
		c.mu.Lock()
		at := c.next[partition]
		c.mu.Unlock()
		err := c.door.ReadRange(ctx, c.topic, partition, at, -1, true, func(r broker.Record) error {
			c.took(partition, r)
			return nil
		})
		c.mu.Lock()
		c.bad[partition] = err
		c.mu.Unlock()
		sleep(ctx, again)
	}
}

// took notes a record that was read. Those of other drills are passed over.
func (c *Canary) took(partition int32, r broker.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next[partition] = r.Offset + 1
	if seq, ok := numberOf(r.Value, c.id); ok {
		log := &c.logs[partition]
		log.Reads = append(log.Reads, Read{Seq: seq, Offset: r.Offset, At: time.Now()})
	}
}

// numberOf is the number of a record of a drill; false: it is none of it.
func numberOf(value []byte, id string) (int64, bool) {
	rest, ok := bytes.CutPrefix(value, []byte(mark+" "+id+" "))
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseInt(string(rest), 10, 64)
	return seq, err == nil && seq > 0
}

// Logs is what was seen so far, and why the last reads failed, if they did.
func (c *Canary) Logs() ([]Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Log, len(c.logs))
	for i, l := range c.logs {
		out[i] = Log{Partition: l.Partition, Writes: append([]Write(nil), l.Writes...), Reads: append([]Read(nil), l.Reads...)}
	}
	return out, errors.Join(c.bad...)
}

// sleep waits, and tells whether ctx did not end meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
