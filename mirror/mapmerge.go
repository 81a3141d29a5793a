package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// The chunks of a map are merged as in a log-structured tree: as soon as there are some of one size they become one of the next, so that a run is
// written a few times in its life, and a map of millions of runs is a few dozen records. The merged chunk is written before those that are in
// it are deleted: who reads in between reads the same twice.
const (
	mergeFan   = 8         // chunks of a size that become one
	mergeLeast = 4 << 10   // bytes of the smallest size
	mergeMost  = 256 << 10 // bytes of a chunk: far below what a message may have
	// mergeEvery is how far apart two looks at a pump's chunks are.
	mergeEvery = time.Minute
	// tendEvery is how often a link looks for what to merge and to trim, and tendPumps how many pumps one look may take.
	tendEvery = 10 * time.Second
	tendPumps = 64
	// settledAfter is for how long another writer's chunk is as it is before it is taken for finished. A writer that lives and copies writes its
	// open chunk every second.
	settledAfter = 10 * time.Minute
)

// tending is what was done last to keep a pump's map small.
type tending struct {
	closed  int       // chunks that are finished, or may be
	merged  time.Time // when they were looked at
	trimmed time.Time // when the logs' starts were asked for
}

// mergePlan says which chunks are to be merged: groups of one size, in the order of their source offsets.
func mergePlan(chunks []durableChunk) (groups [][]durableChunk) {
	var sizes [4][]durableChunk
	for _, c := range chunks {
		size := 0
		for most := mergeLeast; len(c.value) > most && size < len(sizes)-1; most *= mergeFan {
			size++
		}
		sizes[size] = append(sizes[size], c)
	}
	for _, same := range sizes {
		if len(same) < mergeFan {
			continue
		}
		slices.SortFunc(same, func(a, b durableChunk) int {
			return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.offset, b.offset))
		})
		var group []durableChunk
		bytes := 0
		for _, c := range same {
			if bytes > 0 && bytes+len(c.value) > mergeMost {
				groups, group, bytes = append(groups, group), nil, 0
			}
			group, bytes = append(group, c), bytes+len(c.value)
		}
		groups = append(groups, group)
	}
	return slices.DeleteFunc(groups, func(g []durableChunk) bool { return len(g) < 2 })
}

// settled tells which records of other writers have been as they are for long.
type settled struct {
	marks [2]settledMark // the newer one last
}

// settledMark is how far the partitions of the map's topic had been read at a time.
type settledMark struct {
	at   time.Time
	read [statePartitions]int64
}

// mark notes how far the topic has been read now.
func (s *settled) mark(read [statePartitions]int64, now time.Time) {
	if now.Sub(s.marks[1].at) >= settledAfter {
		s.marks[0], s.marks[1] = s.marks[1], settledMark{now, read}
	}
}

// before is the offset in a partition before which everything is older than settledAfter. Marks are that far apart, so the older one is that old.
func (s *settled) before(partition int32) int64 { return s.marks[0].read[partition] }

// mapLoop keeps the durable maps of the link's pumps small.
func (l *Link) mapLoop(ctx context.Context) error {
	var s settled
	regularly(ctx, tendEvery, nil, func(call context.Context) {
		if err := l.tendMaps(call, &s); err != nil && ctx.Err() == nil {
			l.log.Debug("offset maps", "error", err)
		}
	})
	return nil
}

// tendMaps merges and trims what is due.
func (l *Link) tendMaps(ctx context.Context, s *settled) error {
	merge, trim := l.tendable()
	if len(merge)+len(trim) == 0 {
		return nil
	}
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	s.mark(l.store.readOfMaps(), l.now())
	for _, p := range merge {
		if err := l.mergeChunks(ctx, p, s.before(partitionOf(p.id))); err != nil {
			return err
		}
	}
	return l.trimMaps(ctx, trim, s)
}

// tendable are the pumps of which chunks may be merged, and those of which the map may be trimmed.
func (l *Link) tendable() (merge, trim []*pump) {
	now := l.now()
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			p.mu.Lock()
			if p.born && !p.gone && p.unread == nil && p.state != StateElsewhere {
				if p.closed >= mergeFan && now.Sub(p.merged) >= mergeEvery && len(merge) < tendPumps {
					merge, p.merged = append(merge, p), now
				}
				if (p.offsets.Len() >= trimLeast || p.closed > 1) && now.Sub(p.trimmed) >= trimEvery && len(trim) < tendPumps {
					trim, p.trimmed = append(trim, p), now
				}
			}
			p.mu.Unlock()
		}
	}
	return merge, trim
}

// readOfMaps is how far the map's topic has been read.
func (s *stateLog) readOfMaps() (read [statePartitions]int64) {
	for partition := range read {
		read[partition] = s.position(topicPartition{topicMap, int32(partition)}, -1)
	}
	return read
}

// finished are the chunks of a pump that nobody writes any more: those that this writer has closed, and others' from before a record of the topic.
func (s *store) finished(p PumpID, writer string, open, before int64) (out []durableChunk, anchors []Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return nil, nil
	}
	for _, c := range st.chunks {
		if c.writer == writer && c.first < open || c.writer != writer && c.offset < before {
			out = append(out, c)
		}
	}
	return out, st.anchorsLocked()
}

// mergeChunks merges what of a pump's chunks is to be merged.
func (l *Link) mergeChunks(ctx context.Context, p *pump, before int64) error {
	p.mu.Lock()
	open := p.chunk
	p.mu.Unlock()
	chunks, anchors := l.store.finished(p.id, l.writer, open, before)
	left := len(chunks)
	for _, group := range mergePlan(chunks) {
		if err := l.mergeInto(ctx, p, group, anchors, open); err != nil {
			return err
		}
		left -= len(group) - 1
	}
	p.mu.Lock()
	p.closed = left
	p.mu.Unlock()
	return nil
}

// mergeInto writes one chunk for a group, and deletes the group.
func (l *Link) mergeInto(ctx context.Context, p *pump, group []durableChunk, anchors []Incarnation, open int64) error {
	m, err := mapOf(group, anchors)
	if err != nil {
		return fmt.Errorf("merge map chunks of %s: %w", p.id, err)
	}
	into := ""
	if first, ok := m.First(); ok {
		c := durableChunk{writer: l.writer, first: first, value: encodeRuns(m.Len(), m.all())}
		into = string(chunkKey(p.id, c.writer, c.first))
		// Noted before it is written: who forgets the pump meanwhile takes it away as well.
		if first == open || !l.store.noteChunk(p.id, into, c, group) {
			return nil // the key is another chunk's
		}
		if err := l.store.append(ctx, []broker.Record{{Topic: topicMap, Partition: partitionOf(p.id), Key: []byte(into), Value: c.value}}); err != nil {
			return err
		}
	}
	var gone []broker.Record
	for _, c := range group {
		if key := chunkKey(p.id, c.writer, c.first); string(key) != into {
			gone = append(gone, broker.Record{Topic: topicMap, Partition: partitionOf(p.id), Key: key})
		}
	}
	if err := l.store.append(ctx, gone); err != nil || p.here() {
		return err
	}
	return l.unlessForgotten(ctx, p.id, into)
}

// unlessForgotten deletes a chunk again if its pump was forgotten while it was written. One that went to another node was not.
func (l *Link) unlessForgotten(ctx context.Context, p PumpID, key string) error {
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	if _, known := l.store.best(p); known || key == "" {
		return nil
	}
	return l.store.append(ctx, []broker.Record{{Topic: topicMap, Partition: partitionOf(p), Key: []byte(key)}})
}

// noteChunk adds a chunk that is about to be written, unless its key is taken by one that is not in it.
func (s *store) noteChunk(p PumpID, key string, c durableChunk, of []durableChunk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return false
	}
	is, taken := st.chunks[key]
	if taken && !slices.ContainsFunc(of, func(o durableChunk) bool {
		return o.writer == is.writer && o.first == is.first && o.offset == is.offset
	}) {
		return false
	}
	if !taken {
		st.chunks[key] = c
	}
	return true
}
