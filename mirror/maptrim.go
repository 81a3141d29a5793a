package mirror

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
)

// Of a record that neither end keeps nobody needs the place. Whether both logs begin behind it is asked now and then, and believed only of the
// topics that the map is of: of another topic with that name the offsets mean something else.
const (
	trimEvery = 10 * time.Minute
	trimLeast = 4 * blockRuns // runs of a map that is worth it
)

// logStarts are where both logs of a pump begin.
type logStarts struct {
	pump           *pump
	source, target int64
}

// trimMaps forgets what of the pumps' maps neither end keeps, here and in the state topic.
func (l *Link) trimMaps(ctx context.Context, pumps []*pump, s *settled) error {
	if len(pumps) == 0 {
		return nil
	}
	starts := make([]logStarts, len(pumps))
	var calls errgroup.Group
	calls.SetLimit(8)
	for i, p := range pumps {
		calls.Go(func() error {
			source, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Earliest, false)
			if err != nil {
				return nil // another time
			}
			target, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Earliest, false)
			if err == nil {
				starts[i] = logStarts{p, source.Offset, target.Offset}
			}
			return nil
		})
	}
	_ = calls.Wait() // none gives an error: who is not answered asks again
	var topics, targetTopics []string
	for _, p := range pumps {
		topics, targetTopics = append(topics, p.id.Topic), append(targetTopics, p.id.Target())
	}
	// After the starts: a topic that is this one still was this one then, because ids never come back.
	sources, err := l.from.Metadata(ctx, topics...)
	if err != nil {
		return fmt.Errorf("trim maps: %w", err)
	}
	targets, err := l.to.Metadata(ctx, targetTopics...)
	if err != nil {
		return fmt.Errorf("trim maps: %w", err)
	}
	for _, at := range starts {
		if at.pump == nil {
			continue
		}
		id := at.pump.id
		if at, ok := at.pump.trim(at, sources.Topics[id.Topic].ID, targets.Topics[id.Target()].ID); ok {
			if err := l.trimChunks(ctx, at, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// trim forgets the runs that neither log keeps, if the logs are those that the map is of. It returns before what it forgot: the newest
// runs stay, as witnesses of where the copy ends and of whether the source has holes.
func (p *pump) trim(at logStarts, source, target [16]byte) (logStarts, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	none := [16]byte{}
	if !p.born || p.gone || source == none || target == none || p.acked.SourceTopicID != source || p.acked.TargetTopicID != target {
		return at, false
	}
	at.source = min(at.source, p.offsets.newest())
	if at.source <= 0 || at.target <= 0 {
		return at, false
	}
	was := p.offsets.Len()
	p.offsets.DropBefore(at.source, at.target)
	if dropped := was - p.offsets.Len(); dropped > 0 {
		p.link.log.Debug("offset map trimmed", "pump", p.id.String(), "runs", dropped, "source_offset", at.source, "target_offset", at.target)
	}
	return at, true
}

// newest is the source offset before which a map may be trimmed.
func (m *OffsetMap) newest() int64 {
	if n := len(m.blocks); n > 0 {
		return m.blocks[n-1].from[bySource]
	}
	return 0
}

// trimChunks deletes the chunks of a pump that hold nothing any more that either log keeps.
func (l *Link) trimChunks(ctx context.Context, at logStarts, s *settled) error {
	id := at.pump.id
	at.pump.mu.Lock()
	open := at.pump.chunk
	at.pump.mu.Unlock()
	chunks, anchors := l.store.finished(id, l.writer, open, s.before(partitionOf(id)))
	var gone []broker.Record
	for _, c := range chunks {
		if c.goneBefore(at.source, at.target, anchors) {
			gone = append(gone, broker.Record{Topic: topicMap, Partition: partitionOf(id), Key: chunkKey(id, c.writer, c.first)})
		}
	}
	if err := l.store.append(ctx, gone); err != nil {
		return err
	}
	at.pump.mu.Lock()
	at.pump.closed = len(chunks) - len(gone)
	at.pump.mu.Unlock()
	return nil
}

// goneBefore reports whether all runs of a chunk end at or before both logs' starts. What cannot be read is not gone.
func (c durableChunk) goneBefore(source, target int64, anchors []Incarnation) bool {
	r := newChunkReader(c.value)
	for r.next() {
		run := r.run
		for _, i := range anchors {
			run = i.keeps(run)
		}
		if run.Records > 0 && (run.sourceEnd() > source || run.targetEnd() > target) {
			return false
		}
	}
	return r.err == nil
}
