package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// The state topics of a target cluster. All are compacted.
const (
	topicCheckpoints = "__isthmus.checkpoints" // checkpoints and incarnations
	topicMap         = "__isthmus.map"         // chunks of the offset maps
	topicLedger      = "__isthmus.ledger"
)

// statePartitions spreads the pumps' records; a pump's records of one topic are
// all in one partition, so that "first in offset order" means something.
const statePartitions = 4

// pumpState is what the state topics say about one pump.
type pumpState struct {
	checkpoints  map[string]stored[Checkpoint] // by writer
	incarnations []stored[Incarnation]         // in offset order
	chunks       map[string][]Run              // of the offset map, by what is in their keys
}

type stored[T any] struct {
	value  T
	offset int64
}

// store is the durable state of a link's pumps in its target cluster. What is
// on disk at a node is nothing: this is all.
type store struct {
	cluster  *broker.Cluster
	from, to string
	log      *slog.Logger

	turn     chan struct{} // one reader at a time: reading the topics is I/O, no mutex
	producer *broker.Producer
	read     map[topicPartition]int64 // next offset to read; owned by who has the turn

	mu     sync.Mutex
	pumps  map[PumpID]*pumpState
	ledger map[string]LedgerEntry // by key
	faults map[string]bool        // said once
}

func newStore(c *broker.Cluster, from, to string, log *slog.Logger) *store {
	return &store{cluster: c, from: from, to: to, log: log, turn: make(chan struct{}, 1),
		read: make(map[topicPartition]int64), pumps: make(map[PumpID]*pumpState),
		ledger: make(map[string]LedgerEntry), faults: make(map[string]bool)}
}

// open creates the state topics where they are missing, as strong as the
// cluster allows, and reads them.
func (s *store) open(ctx context.Context, brokers int) error {
	factor := min(3, max(1, brokers))
	configs := map[string]string{"cleanup.policy": "compact", "compression.type": "producer",
		"min.insync.replicas": fmt.Sprint(max(1, factor-1)), "max.message.bytes": fmt.Sprint(4 << 20)}
	for topic, n := range map[string]int{topicCheckpoints: statePartitions, topicMap: statePartitions, topicLedger: 1} {
		err := s.cluster.CreateTopic(ctx, topic, n, factor, configs)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create state topic: %w", err)
		}
	}
	if s.producer == nil {
		p, err := s.cluster.Producer(broker.ProducerOptions{ManualPartition: true, MaxBatchBytes: 1 << 20})
		if err != nil {
			return fmt.Errorf("open state producer: %w", err)
		}
		s.producer = p
	}
	// The brokers may need a moment before they all know a new topic.
	for {
		err := s.refresh(ctx)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) && !errors.Is(err, kerr.LeaderNotAvailable) && !errors.Is(err, kerr.NotLeaderForPartition) {
			return err
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

func (s *store) close() {
	if s.producer != nil {
		s.producer.Close()
	}
}

// partitionOf is where a pump's state lies.
func partitionOf(p PumpID) int32 {
	h := fnv.New32a()
	h.Write(stateKey(0, p))
	return int32(h.Sum32() % statePartitions)
}

// refresh reads what was added to the state topics since the last time.
func (s *store) refresh(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	for _, topic := range []string{topicMap, topicCheckpoints, topicLedger} {
		n := int32(statePartitions)
		if topic == topicLedger {
			n = 1
		}
		for partition := range n {
			if err := s.readOn(ctx, topic, partition); err != nil {
				return fmt.Errorf("read state %s:%d: %w", topic, partition, err)
			}
		}
	}
	return nil
}

// readOn reads one state partition from where it was left to its end.
func (s *store) readOn(ctx context.Context, topic string, partition int32) error {
	key := topicPartition{topic, partition}
	end, err := s.cluster.ListOffsets(ctx, topic, partition, -1, false)
	if err != nil {
		return err
	}
	if s.read[key] == 0 {
		start, err := s.cluster.ListOffsets(ctx, topic, partition, -2, false)
		if err != nil {
			return err
		}
		s.read[key] = start.Offset
	}
	for s.read[key] < end.Offset {
		frame, err := s.cluster.FetchOnce(ctx, topic, partition, s.read[key], 4<<20, false)
		if err != nil {
			return err
		}
		next, err := s.apply(topic, s.read[key], frame.Partitions[0].Batches)
		frame.Release()
		if err != nil {
			return err
		}
		if next == s.read[key] {
			return nil
		}
		s.read[key] = next
	}
	return nil
}

func (s *store) apply(topic string, from int64, raw []byte) (next int64, err error) {
	for next = from; len(raw) > 0; {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return next, nil
		}
		if err != nil {
			return next, err
		}
		raw, next = rest, max(next, h.NextOffset())
		if h.Control() || h.Records == 0 || h.LastOffset() < from {
			continue
		}
		records, err := batch.Decode(one, 64<<20)
		if err != nil {
			return next, err
		}
		for _, r := range records {
			if r.Offset >= from {
				s.take(topic, r)
			}
		}
	}
	return next, nil
}

// take applies one state record. What cannot be read is said once and left
// alone: a record of a newer format must not stop the pumps that do not need it.
func (s *store) take(topic string, r batch.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeLocked(r); err != nil && !s.faults[topic] {
		s.faults[topic] = true
		s.log.Warn("state record not understood", "topic", topic, "offset", r.Offset, "error", err)
	}
}

var restOf = map[byte]int{kindCheckpoint: 1, kindIncarnation: 2, kindMap: 2, kindLedger: 2}

func (s *store) takeLocked(r batch.Record) error {
	if len(r.Key) < 2 {
		return errShortState
	}
	kind, p, rest, err := decodeStateKey(r.Key, restOf[r.Key[1]])
	if err != nil {
		return err
	}
	if p.From != s.from || p.To != s.to {
		return nil
	}
	if kind == kindLedger {
		return s.takeLedger(r, p)
	}
	st := s.pumps[p]
	if st == nil {
		st = &pumpState{checkpoints: make(map[string]stored[Checkpoint]), chunks: make(map[string][]Run)}
		s.pumps[p] = st
	}
	if r.Value == nil {
		switch kind {
		case kindCheckpoint:
			delete(st.checkpoints, rest[0])
		case kindMap:
			delete(st.chunks, string(r.Key))
		}
		return nil
	}
	switch kind {
	case kindCheckpoint:
		c, err := decodeCheckpoint(p, rest[0], r.Value)
		if err != nil {
			return err
		}
		st.checkpoints[rest[0]] = stored[Checkpoint]{c, r.Offset}
	case kindIncarnation:
		i, err := decodeIncarnation(p, rest[0], r.Value)
		if err != nil {
			return err
		}
		st.incarnations = append(st.incarnations, stored[Incarnation]{i, r.Offset})
	case kindMap:
		c, err := decodeMapChunk(p, rest[0], r.Value)
		if err != nil {
			return err
		}
		st.chunks[string(r.Key)] = c.Runs // a chunk is written again as it grows
	}
	return nil
}

func (s *store) takeLedger(r batch.Record, p PumpID) error {
	if r.Value == nil {
		delete(s.ledger, string(r.Key))
		return nil
	}
	l, err := decodeLedgerEntry(p, r.Value)
	if err == nil {
		s.ledger[string(r.Key)] = l
	}
	return err
}

// best returns the checkpoint that is ahead of all others. While nothing was
// copied it is the first in offset order, which is how the first checkpoint of a
// pump is elected: start points of two nodes may differ (start = latest).
func (s *store) best(p PumpID) (Checkpoint, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil || len(st.checkpoints) == 0 {
		return Checkpoint{}, false
	}
	var best *stored[Checkpoint]
	for _, c := range st.checkpoints {
		if best == nil || preferred(c, *best) {
			best = &c
		}
	}
	return best.value.clone(), true
}

// preferred reports whether a is to be taken rather than b.
func preferred(a, b stored[Checkpoint]) bool {
	if (a.value.started() || b.value.started()) && (a.value.ahead(b.value) || b.value.ahead(a.value)) {
		return a.value.ahead(b.value)
	}
	return a.offset < b.offset
}

// incarnation returns the decision about an epoch: the first in offset order.
func (s *store) incarnation(p PumpID, epoch int16) (Incarnation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		for _, i := range st.incarnations {
			if i.value.Epoch == epoch {
				return i.value, true
			}
		}
	}
	return Incarnation{}, false
}

// runs returns the offset map as far as it is durable. It is merged once; the
// pump that asks becomes its keeper.
func (s *store) runs(p PumpID) []Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return nil
	}
	var out []Run
	for _, runs := range st.chunks {
		out = append(out, runs...)
	}
	clear(st.chunks)
	slices.SortFunc(out, func(a, b Run) int {
		switch {
		case a.Source != b.Source:
			return int(min(max(a.Source-b.Source, -1), 1))
		case a.Target != b.Target:
			return int(min(max(a.Target-b.Target, -1), 1))
		default:
			return int(min(max(b.Records-a.Records, -1), 1))
		}
	})
	return out
}

// stale returns the keys of other writers' checkpoints that ours is ahead of.
func (s *store) stale(ours Checkpoint) (keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[ours.Pump]; st != nil {
		for writer, c := range st.checkpoints {
			if writer != ours.Writer && ours.ahead(c.value) {
				keys = append(keys, c.value.key())
				delete(st.checkpoints, writer)
			}
		}
	}
	return keys
}

// append writes state records and returns when they are stored.
func (s *store) append(ctx context.Context, records []broker.Record) error {
	if len(records) == 0 {
		return nil
	}
	if _, err := s.producer.Produce(ctx, records...); err != nil {
		return fmt.Errorf("write state of %s→%s: %w", s.from, s.to, err)
	}
	return nil
}

func checkpointRecord(c Checkpoint) broker.Record {
	return broker.Record{Topic: topicCheckpoints, Partition: partitionOf(c.Pump), Key: c.key(), Value: c.encode()}
}

// propose writes first checkpoints, reads up to them, and returns the winners.
// A proposal that lost is overwritten with what won, so that compaction can
// never bring it back.
func (s *store) propose(ctx context.Context, proposals []Checkpoint) (map[PumpID]Checkpoint, error) {
	var records []broker.Record
	for _, c := range proposals {
		records = append(records, checkpointRecord(c))
	}
	if err := s.append(ctx, records); err != nil {
		return nil, err
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	won := make(map[PumpID]Checkpoint, len(proposals))
	var lost []broker.Record
	for _, c := range proposals {
		w, ok := s.best(c.Pump)
		if !ok {
			return nil, fmt.Errorf("first checkpoint of %s is not in %s after it was written: is the topic compacted too early or deleted", c.Pump, topicCheckpoints)
		}
		if w.Writer != c.Writer {
			mine := w.clone()
			mine.Writer = c.Writer
			lost = append(lost, checkpointRecord(mine))
		}
		won[c.Pump] = w
	}
	return won, s.append(ctx, lost)
}

// decide proposes an incarnation and returns the one that won.
func (s *store) decide(ctx context.Context, i Incarnation) (Incarnation, error) {
	err := s.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(i.Pump), Key: i.key(), Value: i.encode()}})
	if err != nil {
		return i, err
	}
	if err := s.refresh(ctx); err != nil {
		return i, err
	}
	won, ok := s.incarnation(i.Pump, i.Epoch)
	if !ok {
		return i, fmt.Errorf("incarnation %d of %s is not in %s after it was written", i.Epoch, i.Pump, topicCheckpoints)
	}
	return won, nil
}

// enter adds entries to the ledger.
func (s *store) enter(ctx context.Context, entries ...LedgerEntry) error {
	var records []broker.Record
	for _, l := range entries {
		records = append(records, broker.Record{Topic: topicLedger, Key: l.key(), Value: l.encode()})
	}
	if err := s.append(ctx, records); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range entries {
		s.ledger[string(l.key())] = l
	}
	return nil
}

// entries returns the ledger in the order of topics, partitions and offsets.
func (s *store) entries() []LedgerEntry {
	s.mu.Lock()
	out := make([]LedgerEntry, 0, len(s.ledger))
	for _, l := range s.ledger {
		out = append(out, l)
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b LedgerEntry) int {
		switch {
		case a.Pump.Topic != b.Pump.Topic:
			if a.Pump.Topic < b.Pump.Topic {
				return -1
			}
			return 1
		case a.Pump.Partition != b.Pump.Partition:
			return int(a.Pump.Partition - b.Pump.Partition)
		}
		return int(min(max(a.First-b.First, -1), 1))
	})
	return out
}
