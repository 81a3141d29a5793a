package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What ReadRange asks for at a time, and how patient it is.
const (
	rangeBytes    = 8 << 20
	rangeWait     = 500 * time.Millisecond
	rangeAttempts = 10 // consecutive ones without an answer
	rangeBackoff  = 200 * time.Millisecond
)

// ReadRange hands each record from offset from up to, without, offset to fn, in order, and returns when the place to is reached,
// also where no record is left before it. to = -1 is the end of the log as it is at the call: the high watermark, or the last stable
// offset of committed data. An error of fn ends it and is returned as it is. from before the log's start is kerr.OffsetOutOfRange.
//
// It shares nothing with [FetchSession]: requests, decoding, checksums and the dropping of aborted records are franz-go's, so that
// it may be the witness of what a mirror wrote.
func (c *Cluster) ReadRange(ctx context.Context, topic string, partition int32, from, to int64, committed bool, fn func(Record) error) error {
	what := fmt.Sprintf("read %s:%d", topic, partition)
	if to < 0 {
		end, err := c.ListOffsets(ctx, topic, partition, Latest, committed)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		to = end.Offset
	}
	r := rangeReader{c: c, topic: topic, partition: partition, committed: committed, leader: -1, codec: newRangeDecompressor()}
	defer r.codec.close()
	failures := 0
	for at := from; at < to; {
		records, next, err := r.read(ctx, at)
		if err != nil {
			if failures++; failures > rangeAttempts || ctx.Err() != nil || !r.worthRetry(err) {
				return fmt.Errorf("%s at %d: %w", what, at, err)
			}
			r.leader = -1
			if err := pause(ctx, rangeBackoff); err != nil {
				return fmt.Errorf("%s at %d: %w", what, at, err)
			}
			continue
		}
		failures = 0
		for _, rec := range records {
			if rec.Offset >= to {
				return nil
			}
			if err := fn(fromClient(rec)); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// rangeReader reads one partition through the client's own requests.
type rangeReader struct {
	c         *Cluster
	topic     string
	partition int32
	committed bool
	leader    int32 // -1 = to be looked up
	id        TopicID
	codec     *rangeDecompressor
}

// worthRetry: what the leader's move explains. A topic that is not there is not waited for.
func (r *rangeReader) worthRetry(err error) bool {
	return Classify(err) == Retry || staleLeader(err)
}

// find looks for the leader.
func (r *rangeReader) find(ctx context.Context) error {
	m, err := r.c.Metadata(ctx, r.topic)
	if err != nil {
		return err
	}
	t := m.Topics[r.topic]
	if t.Err != nil {
		return t.Err
	}
	if r.partition < 0 || int(r.partition) >= len(t.Partitions) {
		return kerr.UnknownTopicOrPartition
	}
	p := t.Partitions[r.partition]
	if p.Leader < 0 {
		return kerr.LeaderNotAvailable
	}
	r.leader, r.id = p.Leader, t.ID
	return nil
}

// read returns the records of one answer from at on, and the place after it, which moves on over batches that have no record
// to show.
func (r *rangeReader) read(ctx context.Context, at int64) ([]*kgo.Record, int64, error) {
	if r.leader < 0 {
		if err := r.find(ctx); err != nil {
			return nil, at, err
		}
	}
	resp, err := r.c.client.Broker(int(r.leader)).RetriableRequest(ctx, r.request(at))
	if err != nil {
		return nil, at, r.c.profile.explainClient(err)
	}
	answer, ok := resp.(*kmsg.FetchResponse)
	if !ok || answer.ErrorCode != 0 {
		if ok {
			return nil, at, codeError(answer.ErrorCode)
		}
		return nil, at, protocolErrorf("a %T for a fetch", resp)
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, at, protocolErrorf("an answer without the one partition that was asked for")
	}
	level := kgo.ReadUncommitted()
	if r.committed {
		level = kgo.ReadCommitted()
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: at, IsolationLevel: level, Topic: r.topic, Partition: r.partition,
	}, &answer.Topics[0].Partitions[0], r.codec, nil)
	if got.Err != nil && len(got.Records) == 0 {
		e := &PartitionError{Cluster: r.c.profile.Name, Topic: r.topic, Partition: r.partition, Err: got.Err}
		if forbidden(got.Err) {
			e.Right = "READ"
		}
		return nil, at, e
	}
	return got.Records, max(at, next), nil
}

// request asks for one partition, without a session.
func (r *rangeReader) request(at int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch = -1, sessionOnce
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(rangeWait.Milliseconds()), 1, rangeBytes
	req.IsolationLevel = isolation(r.committed)
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = r.partition, at, rangeBytes
	rp.CurrentLeaderEpoch, rp.LastFetchedEpoch, rp.LogStartOffset = -1, -1, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = r.topic, r.id, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}
