package gate

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Book has the gates of a set's partitions in one generation, and the ids that its home sees. It is safe for concurrent use.
type Book struct {
	salted func(id int64) (int64, error)
	until  time.Time
	closed atomic.Int64 // gates with producers that are remembered

	mu    sync.Mutex
	gates map[string]map[int32]*Gate
	count [reasons]int64
}

// NewBook returns the gates of a generation that began at a time, for what the left logs knew. salted is [Salted] in this generation.
func NewBook(began time.Time, left []Partition, salted func(id int64) (int64, error)) (*Book, error) {
	b := &Book{salted: salted, until: began.Add(Keep), gates: make(map[string]map[int32]*Gate)}
	for _, p := range left {
		g, err := New(p.Producers)
		if err != nil {
			return nil, fmt.Errorf("topic %s, partition %d: %w", p.Topic, p.Partition, err)
		}
		if b.gates[p.Topic] == nil {
			b.gates[p.Topic] = make(map[int32]*Gate)
		}
		if b.gates[p.Topic][p.Partition] != nil {
			return nil, fmt.Errorf("topic %s, partition %d is there twice", p.Topic, p.Partition)
		}
		if b.gates[p.Topic][p.Partition] = g; g.Left() > 0 {
			b.closed.Add(1)
		}
	}
	return b, nil
}

// Salted is the id that the home sees of a client's; false leaves it as it is: it is none that a router gave.
func (b *Book) Salted(id int64) (int64, bool) {
	out, err := b.salted(id)
	return out, err == nil
}

// Open reports whether nothing is gated any more.
func (b *Book) Open(now time.Time) bool { return b.closed.Load() == 0 || now.After(b.until) }

// Batch decides about a batch for a partition; see [Gate.Batch].
func (b *Book) Batch(topic string, partition int32, conn uint64, one Batch) Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := forward(Unknown)
	if g := b.gates[topic][partition]; g != nil {
		d = g.Batch(conn, one)
	}
	b.count[d.Reason]++
	return d
}

// Acked is for each batch that the home acknowledged; see [Gate.Acked].
func (b *Book) Acked(topic string, partition int32, one Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.gates[topic][partition]
	if g == nil {
		return
	}
	if g.Acked(one); g.Left() == 0 {
		delete(b.gates[topic], partition)
		b.closed.Add(-1)
	}
}

// Refused is for each batch that was forwarded and that the home did not acknowledge; see [Gate.Refused].
func (b *Book) Refused(topic string, partition int32, one Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.gates[topic][partition]; g != nil {
		g.Refused(one)
	}
}

// Counts is how many batches were decided about, by reason.
func (b *Book) Counts() map[Reason]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[Reason]int64)
	for r, n := range b.count {
		if n > 0 {
			out[Reason(r)] = n
		}
	}
	return out
}
