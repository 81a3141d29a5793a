package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// gapped reports whether batches of the target, from an offset on, leave offsets out.
func gapped(raw []byte, from int64) bool {
	for len(raw) > 0 {
		h, _, rest, err := batch.Next(raw)
		if err != nil {
			return false // what comes after is looked at with the next answer
		}
		if h.BaseOffset > from || h.NextOffset() > from && !h.Dense() && !h.Control() {
			return true
		}
		raw, from = rest, max(from, h.NextOffset())
	}
	return false
}

// afterRetention is where the target's log begins, for a reader at an offset that is not in it: retention, or somebody's
// DeleteRecords, has passed our place. Any other reason is an error.
func (l *Link) afterRetention(ctx context.Context, p *pump, at int64, cause error) (int64, error) {
	first, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Earliest, false)
	switch {
	case err != nil:
		return 0, err
	case first.Offset <= at:
		return 0, cause
	}
	return first.Offset, nil
}

// believe takes over what the target's broker remembers of our ids where the batches themselves are gone: retention, or
// somebody's DeleteRecords, keeps the memory. Only for a log that is replicated to its end.
func (l *Link) believe(ctx context.Context, p *pump, fd *finder) error {
	producers, err := l.to.Producers(ctx, p.id.Target(), p.id.Partition)
	if err != nil {
		return err
	}
	for _, s := range producers {
		origin, ours := p.flow.wroteThis(s.ID)
		lane := fd.at.lane(origin)
		if !ours || s.Epoch < lane.Epoch {
			continue
		}
		if s.Epoch > lane.Epoch {
			if err := fd.enter(&lane, s.Epoch); err != nil {
				return &haltError{"unanchored", err.Error()}
			}
		}
		if count := lane.countBehind(s.LastSequence); count > lane.Count {
			fd.skipped += count - lane.Count
			lane.Count = count
			fd.at.setLane(lane)
		}
	}
	return nil
}

// unseen is how many records, from the place on, the target may have held and deleted before anybody noted that they were copied: they are copied
// again. Later batches tell by their sequences what came before them, and brokers by what they remember. That is not known where neither is
// left: of records so old that the broker forgets an id by them, and of a target that tells nothing of its producers.
func (l *Link) unseen(ctx context.Context, p *pump, s search, fd *finder) (int64, error) {
	vouches := func(n Lane) bool { return n.Count == 0 || slices.Contains(fd.vouched, n.Origin) }
	switch alone := !s.first && !s.contended && len(s.sent) == 0; {
	case fd.unseen == 0, alone:
		return 0, nil
	case len(fd.vouched) > 0 && !slices.ContainsFunc(fd.at.Lanes, func(n Lane) bool { return !vouches(n) }):
		return 0, nil
	case l.hint(ctx, p, fd.at) == hintEqual:
		return 0, nil
	}
	if err := fd.pull(); errors.Is(err, io.EOF) {
		return 0, nil // nothing is there that could have been copied
	} else if err != nil {
		return 0, err
	}
	if !l.mum.Load() && !l.mayBeForgotten(fd.cur.header.MaxTimestamp, l.now()) {
		return 0, nil
	}
	return fd.unseen, nil
}

// remembered halts where the target was cleaned since the checkpoint and its broker has forgotten our ids: then the
// last batches may be gone from both, the headers say less than was copied, and copying again would put old values
// behind newer ones of others. While an id is known the cleaner keeps its last batch. A broker forgets by the records' own
// times: had young records been copied, it would remember. So an id is only missed if what comes next is old.
func (l *Link) remembered(ctx context.Context, p *pump, fd *finder) error {
	if err := fd.pull(); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if !l.mayBeForgotten(fd.cur.header.MaxTimestamp, l.now()) {
		return nil
	}
	producers, err := l.to.Producers(ctx, p.id.Target(), p.id.Partition)
	if err != nil && !errors.Is(err, broker.ErrUnsupported) { // what does not tell may have forgotten
		return err
	}
	known := func(origin string) bool {
		id := p.flow.producerID(origin)
		return slices.ContainsFunc(producers, func(s broker.ProducerState) bool { return s.ID == id })
	}
	forgotten := !fd.at.started() // without a lane there is nothing that could be known
	for _, lane := range fd.at.Lanes {
		forgotten = forgotten || lane.Count > 0 && !known(lane.Origin)
	}
	if !forgotten {
		return nil
	}
	return &haltError{"unanchored", fmt.Sprintf("the target was compacted since our last checkpoint (target offset %d) and its broker has forgotten our producer id: "+
		"what was copied after the checkpoint may have been cleaned away, and copying it again could put old values behind newer ones", fd.at.TargetFrom)}
}
