package mirror

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

// topicDeadLetter holds what was left out by the policy dead-letter. It is not compacted; how long it keeps what it has is the target's
// default, and whoever wants another time sets it there.
const topicDeadLetter = "__isthmus.deadletter"

const (
	deadLetterPartitions = 4
	// deadLetterBytes is what one record there may take. A broker takes requests up to 100 MB.
	deadLetterBytes = 96 << 20
)

// What the bytes of a dead letter are.
const (
	letterBatch  = "batch"  // the source's batch as it was read, which nobody could take apart; or what is left of an answer
	letterRecord = "record" // one record, as a batch with nothing else in it
)

// DeadLetter is one record of the dead-letter topic: source bytes that could not be copied, where they come from and why. A letter is
// acknowledged before the pump goes on behind what is in it. Who was killed in between writes it again: readers take one of each Key.
type DeadLetter struct {
	Pump        PumpID
	First, Last int64 // source offsets; inclusive
	Cause       string
	Detail      string
	Writer      string
	At          time.Time
	// Kind says what Raw is: "batch", a batch (or less) as it was read, or "record", a batch of one record that could be decoded.
	Kind string
	Raw  []byte
}

// Key is equal for letters that hold the same.
func (d DeadLetter) Key() []byte { return stateKey(kindDeadLetter, d.Pump, fmt.Sprint(d.First)) }

// Names of the headers.
const (
	headerCluster   = "source-cluster"
	headerTopic     = "topic"
	headerPartition = "partition"
	headerFirst     = "first-offset"
	headerLast      = "last-offset"
	headerReason    = "reason"
	headerDetail    = "detail"
	headerWriter    = "writer"
	headerTime      = "time"
	headerKind      = "kind"
)

func (d DeadLetter) record() broker.Record {
	r := broker.Record{Topic: topicDeadLetter, Partition: partitionOf(d.Pump) % deadLetterPartitions, Key: d.Key(), Value: d.Raw}
	add := func(name, value string) {
		r.Headers = append(r.Headers, broker.RecordHeader{Key: name, Value: []byte(value)})
	}
	add(headerCluster, d.Pump.From)
	add(headerTopic, d.Pump.Topic)
	add(headerPartition, fmt.Sprint(d.Pump.Partition))
	add(headerFirst, fmt.Sprint(d.First))
	add(headerLast, fmt.Sprint(d.Last))
	add(headerReason, d.Cause)
	add(headerDetail, d.Detail)
	add(headerWriter, d.Writer)
	add(headerTime, d.At.UTC().Format(time.RFC3339Nano))
	add(headerKind, d.Kind)
	return r
}

// ParseDeadLetter reads a record of the dead-letter topic.
func ParseDeadLetter(r broker.Record) (DeadLetter, error) {
	kind, pump, _, err := decodeStateKey(r.Key, 1)
	if err != nil || kind != kindDeadLetter {
		return DeadLetter{}, fmt.Errorf("read dead letter at offset %d: its key is none: %w", r.Offset, errors.Join(err, errShortState))
	}
	d := DeadLetter{Pump: pump, Raw: r.Value}
	var faults []error
	number := func(name string, b []byte) int64 {
		n, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil {
			faults = append(faults, fmt.Errorf("header %s: %w", name, err))
		}
		return n
	}
	for _, h := range r.Headers {
		switch h.Key {
		case headerFirst:
			d.First = number(h.Key, h.Value)
		case headerLast:
			d.Last = number(h.Key, h.Value)
		case headerReason:
			d.Cause = string(h.Value)
		case headerDetail:
			d.Detail = string(h.Value)
		case headerWriter:
			d.Writer = string(h.Value)
		case headerKind:
			d.Kind = string(h.Value)
		case headerTime:
			if d.At, err = time.Parse(time.RFC3339Nano, string(h.Value)); err != nil {
				faults = append(faults, fmt.Errorf("header %s: %w", h.Key, err))
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter at offset %d: %w", r.Offset, err)
	}
	return d, nil
}

// letters is the way to the dead-letter topic. It is made for the first letter.
type letters struct {
	mu sync.Mutex
	to *broker.Producer
}

func (l *letters) open() *broker.Producer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to
}

// keep takes a producer, unless another worker was faster: then that one's is returned.
func (l *letters) keep(p *broker.Producer) (kept *broker.Producer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		l.to = p
	}
	return l.to
}

func (l *letters) close() {
	if p := l.open(); p != nil {
		p.Close()
	}
}

// writeLetters returns when all are acknowledged by all replicas in sync.
func (l *Link) writeLetters(ctx context.Context, all []DeadLetter) error {
	to := l.store.letters.open()
	if to == nil {
		made, err := l.openLetters(ctx)
		if err != nil {
			return err
		}
		if to = l.store.letters.keep(made); to != made {
			made.Close()
		}
	}
	for _, d := range all { // each may be as large as a request
		if _, err := to.Produce(ctx, d.record()); err != nil {
			return fmt.Errorf("write dead letter of source offset %d (%d bytes) to topic %s: %w", d.First, len(d.Raw), topicDeadLetter, err)
		}
	}
	return nil
}

// openLetters makes sure of the topic and returns who writes to it.
func (l *Link) openLetters(ctx context.Context) (*broker.Producer, error) {
	l.mu.Lock()
	brokers := len(l.target.Brokers)
	l.mu.Unlock()
	factor := min(3, max(1, brokers))
	configs := map[string]string{"cleanup.policy": "delete", "compression.type": "producer", "max.message.bytes": fmt.Sprint(deadLetterBytes),
		"min.insync.replicas": fmt.Sprint(max(1, factor-1))}
	if err := l.to.CreateTopic(ctx, topicDeadLetter, deadLetterPartitions, factor, configs); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, fmt.Errorf("create topic %s: %w", topicDeadLetter, err)
	}
	p, err := l.to.Producer(broker.ProducerOptions{ManualPartition: true, MaxBatchBytes: deadLetterBytes})
	if err != nil {
		return nil, fmt.Errorf("open a producer of dead letters: %w", err)
	}
	return p, nil
}
