package mirror

import (
	"context"
	"sync"

	"github.com/isthmus-project/isthmus/broker"
)

// What the target's broker remembers of our producer ids (DescribeProducers). It
// is a hint: it counts batches that are not replicated yet.
const (
	hintNone   = iota // not answered, or the id is unknown there
	hintEqual         // every lane is exactly where our headers are
	hintAhead         // newer than our headers
	hintBehind        // older than our headers
)

func (l *Link) hint(ctx context.Context, p *pump, at Checkpoint) int {
	producers, err := l.to.Producers(ctx, p.id.Target(), p.id.Partition)
	if err != nil {
		return hintNone
	}
	equal, lanes := 0, 0
	for _, lane := range at.Lanes {
		if lane.Count > 0 || lane.Epoch > 0 {
			lanes++
		}
	}
	for _, s := range producers {
		origin, ours := p.flow.wroteThis(s.ID)
		if !ours {
			continue
		}
		lane := at.lane(origin) // of nothing, where we know of no batch
		next := lane.countBehind(s.LastSequence)
		switch {
		case s.Epoch > lane.Epoch || s.Epoch == lane.Epoch && next > lane.Count:
			return hintAhead
		case s.Epoch < lane.Epoch || next < lane.Count:
			return hintBehind
		}
		equal++
	}
	if lanes > 0 && equal == lanes {
		return hintEqual
	}
	return hintNone
}

// proven is a quick proof that nobody else has written since the base. If the broker
// still knows our ids exactly as we left them, the sequence lock holds. If it may have
// forgotten them, it may have learned the same from a lagging owner: then only a log
// that ends where we left it proves anything.
func (l *Link) proven(ctx context.Context, p *pump, s search) bool {
	if !s.base.started() {
		return false
	}
	if !s.old {
		return l.hint(ctx, p, s.base) == hintEqual
	}
	end, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false)
	return err == nil && end.Offset == s.base.TargetFrom
}

// confirmed is the same for a place that the owner before has just released, asked all at once because the partition stands
// still meanwhile. A log that ends at the place counts also for a broker that tells nothing of its producers.
func (l *Link) confirmed(ctx context.Context, p *pump, s search) bool {
	if !s.base.started() || s.examineFrom >= 0 {
		return false
	}
	var changed, failed error
	var end broker.Position
	remembered := hintNone
	var all sync.WaitGroup
	all.Go(func() { changed = l.sameTopics(ctx, p, s.base) })
	all.Go(func() { remembered = l.hint(ctx, p, s.base) })
	all.Go(func() { end, failed = l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false) })
	all.Wait()
	ends := failed == nil && end.Offset == s.base.TargetFrom
	switch {
	case changed != nil:
		return false
	case s.old:
		return ends
	}
	return remembered == hintEqual || remembered == hintNone && ends
}
