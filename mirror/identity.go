package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// sameTopics compares the topics' identities with the checkpoint's.
func (l *Link) sameTopics(ctx context.Context, p *pump, base Checkpoint) error {
	p.flow.mu.Lock()
	source, target := p.flow.sourceID, p.flow.targetID
	p.flow.mu.Unlock()
	var none [16]byte
	if source != none && base.SourceTopicID != none && source != base.SourceTopicID {
		return recreated(false, p.id.Topic, l.from.Name(), base.SourceTopicID, source)
	}
	if target != none && base.TargetTopicID != none && target != base.TargetTopicID {
		return recreated(true, p.id.Target(), l.to.Name(), base.TargetTopicID, target)
	}
	if base.TargetEpoch >= 0 && base.TargetLast >= 0 {
		epoch, end, err := l.to.EpochEnd(ctx, p.id.Target(), p.id.Partition, base.TargetEpoch)
		switch {
		case err != nil && broker.Classify(err) == broker.Retry:
			return err // what is written on unseen could never be compared again
		case err != nil || end < 0 || end > base.TargetLast && epoch >= base.TargetEpoch:
			return nil
		}
		if holds, err := l.holdsLast(ctx, p, base); err != nil {
			return err
		} else if !holds {
			return l.targetLost(ctx, p, base, min(end, base.TargetLast))
		}
	}
	return nil
}

// holdsLast reports whether the target still has our last batch where it was acknowledged. An
// epoch of the target that ends before it does not say that it is gone: the leader may have been elected anew
// before we wrote it, and an acknowledgement does not tell its epoch. What cannot be read proves nothing: that is an error.
func (l *Link) holdsLast(ctx context.Context, p *pump, base Checkpoint) (bool, error) {
	frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, base.TargetLast, 1, false)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read back our last batch: %w", err)
	}
	defer frame.Release()
	h, err := batch.ParseHeader(frame.Partitions[0].Batches)
	if err != nil || h.LastOffset() != base.TargetLast {
		return false, nil
	}
	origin, ours := p.flow.wroteThis(h.ProducerID)
	lane := base.lane(origin)
	if !ours || h.ProducerEpoch > lane.Epoch {
		return false, nil
	}
	// A repeat, or one of a fenced epoch, may be the last of ours.
	return h.ProducerEpoch < lane.Epoch || lane.countAt(h.BaseSequence)+int64(h.LastOffsetDelta)+1 <= lane.Count, nil
}

// bounds are the ends of the source's log.
type bounds struct{ start, end int64 }

// sourceBounds reads the ends of the source's log and checks that it still is
// the log we read. doubt: it was another one the last time, and a log that has become long enough is no proof.
func (l *Link) sourceBounds(ctx context.Context, p *pump, base Checkpoint, doubt bool) (bounds, error) {
	var start, end broker.Position
	var noStart, noEnd, noEpoch error
	epoch, epochEnd := int32(-1), int64(-1)
	var all sync.WaitGroup
	all.Go(func() { start, noStart = l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, -2, false) })
	all.Go(func() { end, noEnd = l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, -1, false) })
	if base.SourceEpoch >= 0 {
		all.Go(func() { epoch, epochEnd, noEpoch = l.from.EpochEnd(ctx, p.id.Topic, p.id.Partition, base.SourceEpoch) })
	}
	all.Wait()
	if err := errors.Join(noStart, noEnd); err != nil {
		return bounds{}, err
	}
	suspect, lost := min(end.Offset, base.SourceNext), doubt || end.Offset < base.SourceNext
	if base.SourceEpoch >= 0 {
		if noEpoch != nil && broker.Classify(noEpoch) == broker.Retry {
			return bounds{}, noEpoch
		}
		if noEpoch == nil && epochEnd >= 0 {
			// A leader that does not have the epoch at all has other records in its place, however long its log is; unless
			// nothing is left of the epoch, which only the records tell.
			suspect, lost = min(suspect, epochEnd), lost || epochEnd < base.SourceNext || epoch < base.SourceEpoch
		}
	}
	if lost {
		if err := l.sourceLost(ctx, p, base, suspect, start.Offset); err != nil {
			return bounds{}, err
		}
	}
	return bounds{start.Offset, end.Offset}, nil
}

// orRecreated returns a damage, unless the topic was deleted and made anew since the
// last look at the metadata: then that is what is wrong.
func orRecreated(ctx context.Context, c *broker.Cluster, id [16]byte, topic string, d *damage) error {
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	if now := m.Topics[topic].ID; id != [16]byte{} && now != id && now != [16]byte{} {
		return recreated(d.target, topic, c.Name(), id, now)
	}
	return d
}
