package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// headerTailOffset says in each record that was diverted where it was in the lost home's log. Who is killed before the ledger has the decision goes on behind the last of them.
const headerTailOffset = "isthmus-tail-offset"

// divertBytes is how much is gathered before it is written.
const divertBytes = 1 << 20

// diversion writes what is diverted of a tail to a topic of its own, which is made as the topic is. It is the target's; other links bring it on like any topic.
type diversion struct {
	link     *Link
	pump     *pump
	topic    string
	producer *broker.Producer
	behind   int64 // source offset of the last one that is there already; -1: none
	buffer   []broker.Record
	bytes    int
}

// newDiversion is one that writes nothing unless the policy says so. Where another link brings the tail to the new home, that one does it.
func (l *Link) newDiversion(p *pump, t Tail, other bool) *diversion {
	d := &diversion{link: l, pump: p}
	if t.Policy == topology.DivertTail && !other {
		d.topic = DivertedTo(p.id.Target(), p.id.From, t.Generation)
	}
	return d
}

// DivertedTo is the topic with the tail of another one, which a cluster had that was lost in a generation.
func DivertedTo(topic, lost string, generation int64) string {
	return fmt.Sprintf("%s.tail.%s.%d", topic, lost, generation)
}

// detail says where records are that were not copied.
func (d *diversion) detail(out fate, t Tail) string {
	switch {
	case out == outDiverted && d.topic == "":
		return "another link has brought them to a topic of their own"
	case out == outDiverted:
		return "in topic " + d.topic
	case out == outListed:
		return "listed only: they are at " + d.pump.id.From
	case len(t.Homes) > 0:
		return "their clients had sent them again to " + t.Homes[0].Cluster
	}
	return "their clients had sent them again"
}

// take writes what of a batch was decided to be diverted, which is in the last ranges.
func (d *diversion) take(ctx context.Context, f *tailFate, b tailBatch, s *sourceBatch) error {
	if d.topic == "" {
		return nil
	}
	var records []batch.Record
	for _, r := range f.ranges[max(0, len(f.ranges)-3):] { // a batch is in three ranges at most
		if r.out != outDiverted || r.last < b.first || r.first > b.last {
			continue
		}
		if records == nil {
			var err error
			if records = s.old; records == nil {
				if records, err = batch.Decode(s.raw, d.link.cfg.DecodeBytes); err != nil {
					return fmt.Errorf("divert the batch at source offset %d: %w", b.base, err)
				}
			}
		}
		for _, rec := range records {
			if rec.Offset < max(r.first, b.first) || rec.Offset > r.last {
				continue
			}
			if err := d.put(ctx, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *diversion) put(ctx context.Context, r batch.Record) error {
	if d.producer == nil {
		if err := d.open(ctx); err != nil {
			return fmt.Errorf("divert a tail to topic %s of %s: %w", d.topic, d.link.spec.To, err)
		}
	}
	if r.Offset <= d.behind {
		return nil
	}
	out := broker.Record{Topic: d.topic, Partition: d.pump.id.Partition, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, broker.RecordHeader{Key: h.Key, Value: h.Value})
	}
	out.Headers = append(out.Headers, broker.RecordHeader{Key: headerTailOffset, Value: strconv.AppendInt(nil, r.Offset, 10)})
	d.buffer, d.bytes = append(d.buffer, out), d.bytes+len(r.Key)+len(r.Value)
	if d.bytes < divertBytes {
		return nil
	}
	return d.write(ctx)
}

func (d *diversion) write(ctx context.Context) error {
	if len(d.buffer) == 0 {
		return nil
	}
	if _, err := d.producer.Produce(ctx, d.buffer...); err != nil {
		return fmt.Errorf("divert a tail to topic %s of %s: %w", d.topic, d.link.spec.To, err)
	}
	d.buffer, d.bytes = d.buffer[:0], 0
	return nil
}

// flush writes the rest.
func (d *diversion) flush(ctx context.Context) error {
	if d.producer == nil {
		return nil
	}
	return d.write(ctx)
}

// close ends what was opened.
func (d *diversion) close() {
	if d.producer != nil {
		d.producer.Close()
	}
}

// open makes the topic, and finds what of the tail is in it.
func (d *diversion) open(ctx context.Context) error {
	l, id := d.link, d.pump.id
	configs, err := l.from.TopicConfigs(ctx, id.Topic)
	if err != nil {
		return atSource(err)
	}
	l.mu.Lock()
	source, brokers := l.source.Topics[id.Topic], len(l.target.Brokers)
	l.mu.Unlock()
	factor := l.terms().ReplicationFactor
	if factor == 0 && len(source.Partitions) > 0 {
		factor = len(source.Partitions[0].Replicas)
	}
	err = l.to.CreateTopic(ctx, d.topic, max(len(source.Partitions), int(id.Partition)+1), max(1, min(factor, brokers)), targetConfigs(configs[id.Topic], l.terms().Keeps.ConfigsExclude))
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	if d.behind, err = d.last(ctx); err != nil {
		return err
	}
	d.producer, err = l.to.Producer(broker.ProducerOptions{ManualPartition: true, MaxBatchBytes: int32(cmp.Or(d.pump.flow.limits().maxBytes, divertBytes))})
	return err
}

// last is the source offset of the last record in the topic, -1 if there is none.
func (d *diversion) last(ctx context.Context) (int64, error) {
	partition := d.pump.id.Partition
	end, err := d.link.to.ListOffsets(ctx, d.topic, partition, broker.Latest, false)
	for errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.LeaderNotAvailable) { // it was made a moment ago
		if sleep(ctx, 100*time.Millisecond) != nil {
			return -1, err
		}
		end, err = d.link.to.ListOffsets(ctx, d.topic, partition, broker.Latest, false)
	}
	if err != nil || end.Offset == 0 {
		return -1, err
	}
	frame, err := d.link.to.FetchOnce(ctx, d.topic, partition, end.Offset-1, recoveryFetchBytes, false)
	if err != nil {
		return -1, err
	}
	defer frame.Release()
	at := int64(-1)
	for raw := frame.Partitions[0].Batches; len(raw) > 0; {
		_, one, rest, err := batch.Next(raw)
		if err != nil {
			return -1, err
		}
		raw = rest
		records, err := batch.Decode(one, d.link.cfg.DecodeBytes)
		if err != nil {
			return -1, err
		}
		for _, r := range records {
			for _, h := range r.Headers {
				if h.Key != headerTailOffset {
					continue
				}
				if at, err = strconv.ParseInt(string(h.Value), 10, 64); err != nil {
					return -1, fmt.Errorf("the record at offset %d is of somebody else: header %s: %w", r.Offset, headerTailOffset, err)
				}
			}
		}
	}
	return at, nil
}
