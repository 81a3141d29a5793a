package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// pumpState is what the state topics say about one pump.
type pumpState struct {
	checkpoints  map[string]stored[Checkpoint] // by writer
	incarnations []stored[Incarnation]         // in offset order
	vanished     *vanished                     // since when the source's topic is gone; of the first partition
	trouble      *troubleNote                  // what is wrong with it; nil: nothing is noted
	behind       map[string]behind             // of checkpoints, by writer: see stale
	chunks       map[string]durableChunk       // of the offset map, by their keys
	groups       map[string]groupPair          // positions of groups that were alike
	clients      map[string]clientRecord       // what was copied of routers' clients, by writer
	laneEnds     []stored[laneEnd]             // in offset order, as are
	successions  []stored[succession]
}

type stored[T any] struct {
	value  T
	offset int64
}

// path is the way that the pumps of a link go.
type path struct{ from, to string }

func (p PumpID) path() path { return path{p.From, p.To} }

// stateLog is what a node knows of the state topics of one cluster, and how far it has read them. All links of the node to the
// cluster share one: the topics hold the state of all of them, and reading them is what a node that takes over waits for.
type stateLog struct {
	cluster *broker.Cluster
	log     *slog.Logger

	turn  chan struct{} // one reader at a time: reading the topics is I/O, no mutex
	began atomic.Int64  // counts looks at the state topics
	fresh atomic.Int64  // the last one that ended well

	mu        sync.Mutex
	read      map[topicPartition]int64 // next offset to read; moved by who has the turn
	pumps     map[PumpID]*pumpState
	ledger    map[path]map[string]LedgerEntry // by key
	omitted   map[PumpID]omitted              // by the entries of the ledger:
	omissions map[PumpID]omissions
	notes     map[path]map[noteKey]map[string]noted
	faults    map[string]bool // said once
	tailBook
	lanes laneIndex
}

// laneIndex finds what links do with origins that others brought before.
type laneIndex struct {
	changes atomic.Int64               // counts what may change who carries what in the pumps' lanes
	sources map[string]map[string]bool // by target: the sources of all pumps
	relays  map[copyKey][]string       // the sources of those that have copied what was not produced there
}

func newStateLog(c *broker.Cluster, log *slog.Logger) *stateLog {
	return &stateLog{cluster: c, log: log, turn: make(chan struct{}, 1), read: make(map[topicPartition]int64),
		pumps: make(map[PumpID]*pumpState), ledger: make(map[path]map[string]LedgerEntry),
		omitted: make(map[PumpID]omitted), omissions: make(map[PumpID]omissions),
		notes: make(map[path]map[noteKey]map[string]noted), faults: make(map[string]bool),
		lanes: laneIndex{sources: make(map[string]map[string]bool), relays: make(map[copyKey][]string)}}
}

// refresh reads what was added to the state topics until now. Who waits for his turn meanwhile may find it done.
func (s *stateLog) refresh(ctx context.Context) error {
	asked := s.began.Load()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	if s.fresh.Load() > asked {
		return nil // a look that began after we asked has ended
	}
	look := s.began.Add(1)
	if err := s.readAll(ctx); err != nil {
		return err
	}
	s.fresh.Store(look)
	return nil
}

// readAll is one look at all state topics.
func (s *stateLog) readAll(ctx context.Context) error {
	// What a checkpoint covers is in the map before it is written: so the map is read after it.
	for _, topic := range []string{topicCheckpoints, topicMap, topicLedger} {
		n := int32(statePartitions)
		if topic == topicLedger {
			n = 1
		}
		var all errgroup.Group
		for partition := range n {
			all.Go(func() error {
				if err := s.readOn(ctx, topic, partition); err != nil {
					return fmt.Errorf("read state %s:%d: %w", topic, partition, err)
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// readOn reads one state partition from where it was left to its end.
func (s *stateLog) readOn(ctx context.Context, topic string, partition int32) error {
	key := topicPartition{topic, partition}
	end, err := s.cluster.ListOffsets(ctx, topic, partition, -1, false)
	if err != nil {
		return err
	}
	at := s.position(key, -1)
	if at == 0 {
		start, err := s.cluster.ListOffsets(ctx, topic, partition, -2, false)
		if err != nil {
			return err
		}
		at = start.Offset
	}
	for at < end.Offset {
		frame, err := s.cluster.FetchOnce(ctx, topic, partition, at, 4<<20, false)
		if err != nil {
			return err
		}
		next, err := s.apply(topic, at, frame.Partitions[0].Batches)
		frame.Release()
		if err != nil {
			return err
		}
		if next == at {
			return nil
		}
		at = s.position(key, next)
	}
	return nil
}

// position is up to where a state partition was read; a next that is not negative moves it there.
func (s *stateLog) position(key topicPartition, next int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next >= 0 {
		s.read[key] = next
	}
	return s.read[key]
}

func (s *stateLog) apply(topic string, from int64, raw []byte) (next int64, err error) {
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
func (s *stateLog) take(topic string, r batch.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeLocked(r); err != nil && !s.faults[topic] {
		s.faults[topic] = true
		s.log.Warn("state record not understood", "topic", topic, "offset", r.Offset, "error", err)
	}
}

var restOf = map[byte]int{kindCheckpoint: 1, kindIncarnation: 2, kindMap: 2, kindLedger: 2, kindNote: 2, kindVanished: 0, kindTrouble: 0, kindGroup: 1,
	kindEnd: 2, kindSuccession: 2, kindClients: 1}

func (s *stateLog) takeLocked(r batch.Record) error {
	if len(r.Key) < 2 {
		return errShortState
	}
	n, known := restOf[r.Key[1]]
	if r.Key[0] == formatVersion && !known {
		return nil // of a newer release, and nothing that this one needs
	}
	kind, p, rest, err := decodeStateKey(r.Key, n)
	if err != nil {
		return err
	}
	switch kind {
	case kindLedger:
		return s.takeLedger(r, p)
	case kindNote:
		return s.takeNote(r, p, rest)
	case kindEnd, kindSuccession:
		return s.takeEnd(kind, r, p, rest)
	}
	st := s.stateLocked(p)
	if r.Value == nil {
		switch kind {
		case kindCheckpoint:
			delete(st.checkpoints, rest[0])
		case kindMap:
			delete(st.chunks, string(r.Key))
		case kindIncarnation:
			st.incarnations = slices.DeleteFunc(st.incarnations, func(i stored[Incarnation]) bool { return string(i.value.key()) == string(r.Key) })
			s.omitAgainLocked(p)
		case kindVanished:
			st.vanished = nil
		case kindTrouble:
			st.trouble = nil
		case kindGroup:
			st.keepGroup(rest[0], nil)
		case kindClients:
			delete(st.clients, rest[0])
		}
		return nil
	}
	switch kind {
	case kindCheckpoint:
		return s.takeCheckpoint(st, r, p, rest[0])
	case kindIncarnation:
		i, err := decodeIncarnation(p, rest[0], r.Value)
		if err != nil {
			return err
		}
		st.incarnations = append(st.incarnations, stored[Incarnation]{i, r.Offset})
		if i.anchor != nil {
			s.lanes.changes.Add(1)
			s.omitAgainLocked(p)
		}
	case kindVanished:
		v, err := decodeVanished(p, r.Value)
		if err != nil {
			return err
		}
		st.vanished = &v
	case kindTrouble:
		n, err := decodeTroubleNote(p, r.Value)
		if err != nil {
			return err
		}
		st.trouble = &n
	case kindGroup:
		return st.takeGroup(rest[0], r.Value)
	case kindMap:
		return st.takeChunk(r, rest)
	case kindClients:
		st.takeClients(rest[0], r.Value)
	}
	return nil
}

func (s *stateLog) takeCheckpoint(st *pumpState, r batch.Record, p PumpID, writer string) error {
	c, err := decodeCheckpoint(p, writer, r.Value)
	if err != nil {
		return err
	}
	at := r.Offset
	if was, ok := st.checkpoints[writer]; ok && !c.started() {
		at = was.offset // who was elected stays it, while all that he finds is left out
	}
	st.checkpoints[writer] = stored[Checkpoint]{c, at}
	if slices.ContainsFunc(c.Lanes, func(l Lane) bool { return l.Origin != p.From && l.held() }) {
		s.relaysLocked(p)
	}
	return nil
}

// stateLocked finds or makes what is known of a pump.
func (s *stateLog) stateLocked(p PumpID) *pumpState {
	st := s.pumps[p]
	if st == nil {
		st = &pumpState{checkpoints: make(map[string]stored[Checkpoint]), chunks: make(map[string]durableChunk)}
		s.pumps[p] = st
		if s.lanes.sources[p.To] == nil {
			s.lanes.sources[p.To] = make(map[string]bool)
		}
		s.lanes.sources[p.To][p.From] = true
	}
	return st
}

// takeChunk keeps a chunk of the map, which is written again as it grows. It is read when its map is needed: what is wrong with it is said then.
func (st *pumpState) takeChunk(r batch.Record, rest []string) error {
	first, err := strconv.ParseInt(rest[1], 10, 64)
	if err != nil {
		return fmt.Errorf("decode key of a map chunk by %s: %w", rest[0], err)
	}
	st.chunks[string(r.Key)] = durableChunk{writer: rest[0], first: first, offset: r.Offset, value: slices.Clone(r.Value)}
	return nil
}

func (s *stateLog) takeLedger(r batch.Record, p PumpID) error {
	if r.Value == nil {
		s.strikeLocked(p, string(r.Key))
		return nil
	}
	l, err := decodeLedgerEntry(p, r.Value)
	if err == nil {
		s.noteLocked(string(r.Key), l)
	}
	return err
}

// strikeLocked forgets an entry of the ledger that was taken back.
func (s *stateLog) strikeLocked(p PumpID, key string) {
	if l := s.ledger[p.path()][key]; l.Tail != nil {
		delete(s.tails[l.Pump], l.Tail.key())
	}
	delete(s.ledger[p.path()], key)
	s.stayLocked(p, key)
}

// noteLocked keeps an entry of the ledger.
func (s *stateLog) noteLocked(key string, l LedgerEntry) {
	of := s.ledger[l.Pump.path()]
	if of == nil {
		of = make(map[string]LedgerEntry)
		s.ledger[l.Pump.path()] = of
	}
	of[key] = l
	s.noteTailLocked(l)
	s.omitLocked(key, l)
}
