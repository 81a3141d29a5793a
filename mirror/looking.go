package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// busyLooks is how often the end of the target is followed before another owner
// is taken to be writing at this moment.
const busyLooks = 3

// readAll feeds the finder until the target's broker knows of nothing newer of
// ours than the headers say. busy: the end kept moving away.
func (l *Link) readAll(ctx context.Context, p *pump, end int64, fd *finder) (busy bool, last int64, err error) {
	from := fd.at.TargetFrom
	for range busyLooks {
		if from, err = l.readOwn(ctx, p, from, end, fd); err != nil {
			return false, end, err
		}
		if l.hint(ctx, p, fd.at) != hintAhead {
			return false, max(end, from), nil
		}
		now, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, -1, false)
		if err != nil {
			return false, end, err
		}
		if now.Offset <= max(end, from) {
			_, written, err := l.to.EpochEnd(ctx, p.id.Target(), p.id.Partition, now.LeaderEpoch)
			if err == nil && written == now.Offset && fd.overtaken {
				return false, end, l.believe(ctx, p, fd)
			}
			return false, end, errors.New("the target's broker knows of newer batches of ours that are not replicated yet")
		}
		end = now.Offset
	}
	return true, end, nil
}

// readOwn feeds the finder with our own batches on the target, from at to end,
// and returns where it stopped.
func (l *Link) readOwn(ctx context.Context, p *pump, at, end int64, fd *finder) (int64, error) {
	for at < end {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, recoveryFetchBytes, false)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			first, err := l.afterRetention(ctx, p, at, err)
			if err != nil {
				return at, err
			}
			fd.targetHoles = fd.targetHoles || fd.mayJump
			fd.unseen, fd.vouched = fd.unseen+first-at, nil
			fd.mayJump, fd.overtaken, at = true, true, first
			continue
		}
		if err != nil {
			return at, err
		}
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, raw []byte, origin string) error {
			return fd.own(h, raw, origin)
		})
		fd.targetHoles = fd.targetHoles || fd.mayJump && gapped(frame.Partitions[0].Batches, at)
		frame.Release()
		switch {
		case errors.Is(err, errUnanchored), errors.Is(err, errCleaned):
			return at, &haltError{"unanchored", err.Error()}
		case errors.Is(err, errSourceShort) && fd.patience <= 0:
			return at, &damage{short: true, halt: &haltError{"truncated-source", err.Error()}}
		case err != nil:
			return at, err
		case next == at:
			return at, fmt.Errorf("the target answers nothing at offset %d although it ends at %d", at, end)
		}
		at = next
	}
	return at, nil
}

// ownIn walks target batches and reports those that this link wrote.
func (f *flow) ownIn(raw []byte, from int64, fn func(batch.Header, []byte, string) error) (next int64, err error) {
	for next = from; len(raw) > 0; {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrMagic) { // somebody's before Kafka 0.11
			h, _, one, rest, err = batch.NextOld(raw, finderDecodeBytes)
		}
		if errors.Is(err, batch.ErrShort) {
			return next, nil
		}
		if err != nil {
			return next, fmt.Errorf("read target after offset %d: %w", next, err)
		}
		raw = rest
		if h.BaseOffset >= from {
			if origin, ok := f.wroteThis(h.ProducerID); ok {
				if err := fn(h, one, origin); err != nil {
					return next, err
				}
			}
		}
		next = max(next, h.NextOffset())
	}
	return next, nil
}

// strayBytes bounds the look for own batches behind the place where a pump that
// has copied nothing yet would begin.
const strayBytes = 16 << 20

// strayOffsets bounds it too.
const strayOffsets = 20_000

// noStrays makes sure that a pump without history really has none: own batches
// before its beginning mean that its durable state was lost.
func (l *Link) noStrays(ctx context.Context, p *pump, base Checkpoint) error {
	if base.TargetFrom == 0 {
		return nil
	}
	stray := &haltError{"unanchored", fmt.Sprintf("the target already holds records of this link before offset %d, but %s has no checkpoint for them", base.TargetFrom, topicCheckpoints)}
	// The memory of the broker does not say where a producer wrote: what it knows now may be another owner's that began behind the beginning.
	if !base.Fresh {
		if producers, err := l.to.Producers(ctx, p.id.Target(), p.id.Partition); err == nil && p.flow.knownIn(producers) {
			return stray
		}
	}
	start, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, -2, false)
	if err != nil {
		return err
	}
	read := 0
	for at := max(start.Offset, base.TargetFrom-strayOffsets); at < base.TargetFrom && read < strayBytes; {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return err
		}
		read += len(frame.Partitions[0].Batches)
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, _ string) error {
			if h.BaseOffset < base.TargetFrom {
				return stray
			}
			return nil
		})
		frame.Release()
		if err != nil || next == at {
			return err
		}
		at = next
	}
	return nil
}

// knownIn reports whether ids of ours are among the producers of a partition.
func (f *flow) knownIn(producers []broker.ProducerState) bool {
	return slices.ContainsFunc(producers, func(s broker.ProducerState) bool {
		_, ours := f.wroteThis(s.ID)
		return ours
	})
}

// othersIn looks into a stretch of the target, between the place that was found and
// the first acknowledgement after it: own batches there are another owner's, which
// the broker took because it had forgotten the sequence.
func (l *Link) othersIn(ctx context.Context, p *pump, from, to int64) (there bool, err error) {
	for at := from; at < to && !there; {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, recoveryFetchBytes, false)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			if at, err = l.afterRetention(ctx, p, at, err); err != nil {
				return false, err
			}
			continue
		}
		if err != nil {
			return false, err
		}
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, _ string) error {
			there = there || h.BaseOffset < to
			return nil
		})
		frame.Release()
		if err != nil {
			return false, err
		}
		if next == at {
			break
		}
		at = next
	}
	return there, nil
}

// sourceReader pulls source batches with their decisions, for finding a place.
type sourceReader struct {
	link  *Link
	pump  *pump
	at    int64
	frame *broker.Frame
	list  []*sourceBatch
	// sparse: offsets without records were seen, also in what nobody asked for yet.
	sparse  bool
	clients []clientCopy // that it gave, the last ones
}

func (r *sourceReader) seek(at int64) { r.at, r.list = at, nil }

func (r *sourceReader) close() {
	if r.frame != nil {
		r.frame.Release()
		r.frame = nil
	}
}

// next returns io.EOF at the end of what is readable now.
func (r *sourceReader) next(ctx context.Context) (*sourceBatch, error) {
	for len(r.list) == 0 {
		r.close()
		frame, err := r.link.from.FetchOnce(ctx, r.pump.id.Topic, r.pump.id.Partition, r.at, recoveryFetchBytes, true)
		if err != nil {
			return nil, atSource(err)
		}
		r.frame = frame
		from := r.at
		if err := r.pump.flow.walk(&frame.Partitions[0], from, func(s *sourceBatch) error {
			r.sparse = r.sparse || s.act == actSkip && s.why != whyBelow || !s.header.Dense() || s.header.BaseOffset > r.at
			r.list = append(r.list, s)
			r.at = max(r.at, s.header.NextOffset())
			return nil
		}); err != nil && (len(r.list) == 0 || !errors.Is(err, errPoison)) { // what is before it is whole, and may be all that is asked for
			return nil, err
		}
		if r.at == from {
			return nil, io.EOF
		}
	}
	s := r.list[0]
	r.list = r.list[1:]
	r.clients = passClient(r.clients, s)
	return s, nil
}
