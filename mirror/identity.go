package mirror

import (
	"context"
	"fmt"

	"github.com/isthmus-project/isthmus/broker"
)

// sameTopics compares the topics' identities with the checkpoint's.
func (l *Link) sameTopics(ctx context.Context, p *pump, base Checkpoint) error {
	p.flow.mu.Lock()
	source, target := p.flow.sourceID, p.flow.targetID
	p.flow.mu.Unlock()
	var none [16]byte
	if source != none && base.SourceTopicID != none && source != base.SourceTopicID {
		return &haltError{"recreated", fmt.Sprintf("topic %s was deleted and created again on %s", p.id.Topic, l.from.Name())}
	}
	if target != none && base.TargetTopicID != none && target != base.TargetTopicID {
		return &haltError{"recreated", fmt.Sprintf("topic %s was deleted and created again on %s", p.id.Topic, l.to.Name())}
	}
	if base.TargetEpoch >= 0 && base.TargetLast >= 0 {
		_, end, err := l.to.EpochEnd(ctx, p.id.Topic, p.id.Partition, base.TargetEpoch)
		if err == nil && end >= 0 && end <= base.TargetLast {
			return orRecreated(ctx, l.to, base.TargetTopicID, p.id.Topic, &haltError{"truncated-target",
				fmt.Sprintf("epoch %d of the target ends at offset %d, our last record was at %d: acknowledged records are gone there", base.TargetEpoch, end, base.TargetLast)})
		}
	}
	return nil
}

// bounds are the ends of the source's log.
type bounds struct{ start, end int64 }

// sourceBounds reads the ends of the source's log and checks that it still is
// the log we read.
func (l *Link) sourceBounds(ctx context.Context, p *pump, base Checkpoint) (bounds, error) {
	start, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, -2, false)
	if err != nil {
		return bounds{}, err
	}
	end, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, -1, false)
	if err != nil {
		return bounds{}, err
	}
	if end.Offset < base.SourceNext {
		return bounds{}, orRecreated(ctx, l.from, base.SourceTopicID, p.id.Topic, &haltError{"truncated-source",
			fmt.Sprintf("the source ends at offset %d, we had read up to %d: records that were mirrored are gone there", end.Offset, base.SourceNext)})
	}
	if base.SourceEpoch >= 0 {
		_, epochEnd, err := l.from.EpochEnd(ctx, p.id.Topic, p.id.Partition, base.SourceEpoch)
		if err == nil && epochEnd >= 0 && epochEnd < base.SourceNext {
			return bounds{}, orRecreated(ctx, l.from, base.SourceTopicID, p.id.Topic, &haltError{"truncated-source",
				fmt.Sprintf("epoch %d of the source ends at offset %d, we had read up to %d: records that were mirrored are gone there", base.SourceEpoch, epochEnd, base.SourceNext)})
		}
	}
	return bounds{start.Offset, end.Offset}, nil
}

// orRecreated returns halt, unless the topic was deleted and made anew since the
// last look at the metadata: then that is what is wrong.
func orRecreated(ctx context.Context, c *broker.Cluster, id [16]byte, topic string, halt *haltError) error {
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	if now := m.Topics[topic].ID; id != [16]byte{} && now != id && now != [16]byte{} {
		return &haltError{"recreated", fmt.Sprintf("topic %s was deleted and created again on %s", topic, c.Name())}
	}
	return halt
}
