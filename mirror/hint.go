package mirror

import "context"

// What the target's broker remembers of our producer ids (DescribeProducers). It
// is a hint: it counts batches that are not replicated yet.
const (
	hintNone   = iota // not answered, or the id is unknown there
	hintEqual         // every lane is exactly where our headers are
	hintAhead         // newer than our headers
	hintBehind        // older than our headers
)

func (l *Link) hint(ctx context.Context, p *pump, at Checkpoint) int {
	producers, err := l.to.Producers(ctx, p.id.Topic, p.id.Partition)
	if err != nil {
		return hintNone
	}
	equal, lanes := 0, 0
	for _, lane := range at.Lanes {
		if lane.Count == 0 && lane.Epoch == 0 {
			continue
		}
		lanes++
		id := l.producerID(lane.Origin)
		for _, s := range producers {
			if s.ID != id {
				continue
			}
			next := Lane{Origin: lane.Origin, Epoch: lane.Epoch, Base: lane.Base, Count: lane.Count}.countAt((s.LastSequence + 1) & 0x7fffffff)
			switch {
			case s.Epoch > lane.Epoch || s.Epoch == lane.Epoch && next > lane.Count:
				return hintAhead
			case s.Epoch < lane.Epoch || next < lane.Count:
				return hintBehind
			}
			equal++
		}
	}
	if lanes > 0 && equal == lanes {
		return hintEqual
	}
	return hintNone
}

// provenByHint: if the broker still knows our ids exactly as we left them,
// nobody else has written, and the sequence lock holds.
func (l *Link) provenByHint(ctx context.Context, p *pump, base Checkpoint) bool {
	return base.started() && l.hint(ctx, p, base) == hintEqual
}
