package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
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

// stateSegment is the size of a segment of the state topics. The one that is written to is never compacted: with a broker's
// usual gigabyte, who begins would read gigabytes of old checkpoints.
const stateSegment = 32 << 20

// store is the durable state of a link's pumps in its target cluster. What is
// on disk at a node is nothing: this is all.
type store struct {
	*stateLog
	path     path
	producer *broker.Producer
	letters  letters
}

func newStore(log *stateLog, from, to string) *store {
	return &store{stateLog: log, path: path{from, to}}
}

// open creates the state topics where they are missing, as strong as the
// cluster allows, and reads them.
func (s *store) open(ctx context.Context, brokers int) error {
	factor := min(3, max(1, brokers))
	configs := map[string]string{"cleanup.policy": "compact", "compression.type": "producer",
		"min.insync.replicas": fmt.Sprint(max(1, factor-1)), "max.message.bytes": fmt.Sprint(4 << 20), "segment.bytes": fmt.Sprint(stateSegment)}
	for topic, n := range map[string]int{topicCheckpoints: statePartitions, topicMap: statePartitions, topicLedger: 1} {
		err := s.cluster.CreateTopic(ctx, topic, n, factor, configs)
		if errors.Is(err, kerr.InvalidConfig) || errors.Is(err, kerr.PolicyViolation) {
			plain := maps.Clone(configs)
			delete(plain, "segment.bytes") // not everybody lets it be chosen
			err = s.cluster.CreateTopic(ctx, topic, n, factor, plain)
		}
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
	s.letters.close()
}

// partitionOf is where a pump's state lies.
func partitionOf(p PumpID) int32 {
	h := fnv.New32a()
	h.Write(stateKey(0, p))
	return int32(h.Sum32() % statePartitions)
}

// durable is what the store says of a pump that another node owns: nothing beyond its best checkpoint.
func (s *store) durable(p PumpID) (mapView, bool, error) {
	c, ok := s.best(p)
	if !ok {
		return nil, false, nil
	}
	m, err := s.offsets(p)
	if err != nil {
		return nil, false, err
	}
	m.dropFrom(c.SourceNext)
	return &storedMap{offsets: m, next: c.SourceNext, from: c.TargetFrom, pump: p, store: s}, true, nil
}

// storedMap is a durable offset map.
type storedMap struct {
	offsets OffsetMap
	next    int64 // source offset
	from    int64 // target offset
	pump    PumpID
	store   *store
}

func (m *storedMap) lookup(side int, at int64, origin string) (int64, bool) {
	return m.offsets.lookup(side, at, origin)
}
func (m *storedMap) end() int64     { return m.offsets.endOr(m.from) }
func (m *storedMap) reached() int64 { return m.next }
func (m *storedMap) former() int64  { return m.offsets.formerEnd }

// best returns the checkpoint that is ahead of all others. While nothing was
// copied it is the first in offset order, which is how the first checkpoint of a
// pump is elected, since start points of two nodes may differ (start = latest); then who
// has read on furthest from there.
func (s *store) best(p PumpID) (Checkpoint, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return Checkpoint{}, false
	}
	var best *stored[Checkpoint]
	for _, c := range st.checkpoints {
		if best == nil || preferred(c, *best) {
			best = &c
		}
	}
	var out Checkpoint
	if best != nil {
		out = best.value.clone()
	}
	known := best != nil
	for _, i := range st.anchorsLocked() {
		if i.supersedes(out) {
			out, known = i.moved(out), true
		}
	}
	return out, known
}

// preferred reports whether a is to be taken rather than b.
func preferred(a, b stored[Checkpoint]) bool {
	if (a.value.started() || b.value.started()) && (a.value.ahead(b.value) || b.value.ahead(a.value)) {
		return a.value.ahead(b.value)
	}
	if a.value.Elected != b.value.Elected {
		return a.value.Elected
	}
	if a.value.Elected && a.value.SourceNext != b.value.SourceNext {
		return a.value.SourceNext > b.value.SourceNext
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

// offsets returns the offset map as far as it is durable. What is kept here are a few bytes a run, also of pumps that other nodes
// own: when one comes to this node, its map is there. With [ErrMap] it is what of the map can be read.
func (s *store) offsets(p PumpID) (OffsetMap, error) {
	s.mu.Lock()
	st := s.pumps[p]
	var chunks []durableChunk
	var anchors []Incarnation
	if st != nil {
		chunks, anchors = slices.Collect(maps.Values(st.chunks)), st.anchorsLocked()
	}
	s.mu.Unlock()
	m, err := mapOf(chunks, anchors)
	if err != nil {
		err = fmt.Errorf("read map of %s: %w: %w", p, err, ErrMap)
	}
	return m, err
}

// chunksOf is how many chunks a pump's map is stored in.
func (s *store) chunksOf(p PumpID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		return len(st.chunks)
	}
	return 0
}

// behind is a checkpoint that another writer's is ahead of: which record of the state topic, and since when it is known to be.
type behind struct {
	offset int64
	since  time.Time
}

// stale returns the keys of other writers' checkpoints that ours is ahead of, and that nobody has written for a while: one that is written just now
// would be taken away with what it says that nobody has read yet, and its writer would not write it again.
func (s *store) stale(ours Checkpoint, now time.Time) (keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[ours.Pump]
	if st == nil {
		return nil
	}
	for writer, c := range st.checkpoints {
		if writer == ours.Writer || !ours.ahead(c.value) {
			continue
		}
		known, ok := st.behind[writer]
		switch {
		case !ok || known.offset != c.offset:
			if st.behind == nil {
				st.behind = make(map[string]behind)
			}
			st.behind[writer] = behind{c.offset, now}
		case !within(now, known.since, known.since.Add(settledAfter)):
			keys = append(keys, c.value.key())
			delete(st.checkpoints, writer)
			delete(st.behind, writer)
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
		return fmt.Errorf("write state of %s→%s: %w", s.path.from, s.path.to, err)
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
		s.noteLocked(string(l.key()), l)
	}
	return nil
}

// gone returns the source offsets of a pump that the ledger names as deleted before they were copied.
func (s *store) gone(p PumpID) (out []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.ledger[s.path] {
		if l.Pump == p && l.Reason == ReasonRetention && l.Records >= 0 {
			out = append(out, s.stillOfLocked(p, span{l.First, l.Last - l.First + 1}, l.log))
		}
	}
	return out
}

// entries returns the ledger in the order of topics, partitions and offsets.
func (s *store) entries() []LedgerEntry {
	s.mu.Lock()
	out := make([]LedgerEntry, 0, len(s.ledger[s.path]))
	for _, l := range s.ledger[s.path] {
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
