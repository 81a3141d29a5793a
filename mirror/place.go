package mirror

import (
	"errors"
	"fmt"
	"io"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// Errors of finding a place; each is a named state of the pump.
var (
	// errUnanchored: own batches are on the target, but nothing durable says
	// which source records they are. Never guessed, never copied again.
	errUnanchored = errors.New("own batches without an anchor")
	// errSourceShort: the target holds records that the source no longer has at
	// its end: the source was truncated (or is not yet readable that far).
	errSourceShort = errors.New("target is ahead of the source")
)

// sourceBatch is one source batch with the decision about it.
type sourceBatch struct {
	raw    []byte
	header batch.Header
	act    action
	why    why
	origin string
	from   int64 // records below are not wanted
	forged bool
}

// finder counts source records against the pump's own batches on the target
// ("Finding the place" in DESIGN.md). It is fed the own batches in target order
// through own, pulls source batches as it needs them, and produces nothing. It
// is pure: both logs come in through functions.
//
// Where the source is dense since the checkpoint the counts alone are right and
// the comparison only confirms them. Where it has holes, records may have gone
// after they were copied; then content decides: what is left of the source is a
// subsequence of what was copied, followed by what was not.
type finder struct {
	at          Checkpoint // progress, advanced by own
	next        func() (*sourceBatch, error)
	incarnation func(epoch int16) (Incarnation, bool)
	seek        func(source int64) // restarts next at a source offset
	add         func(Run)

	cur     *sourceBatch
	records []batch.Record // decoded rest of cur, when it had to be decoded
	seen    int64          // source offset after the last batch pulled
	epoch   int32          // leader epoch of the last batch pulled, -1 unknown
	before  int32          // and of the one before it
	holes   bool           // the source is not dense since the checkpoint
	ended   bool           // the source had no more batches

	mayJump  bool // the target may have lost own batches to cleaning or retention
	patience int  // attempts left before a source that is too short is called truncated
	findings
}

// findings are what a finder noticed beside the place.
type findings struct {
	missing  int64 // copied records that the source no longer has
	unlike   int64 // own records that are not the source's although it is dense
	repeated []Run // copied again by a later incarnation
	gapAt    int64 // first source offset that was jumped over on the target, -1 none
}

// finderDecodeBytes bounds what one batch may decompress to while a place is found.
const finderDecodeBytes = 256 << 20

func newFinder(at Checkpoint) *finder {
	return &finder{at: at.clone(), seen: at.SourceNext, epoch: at.SourceEpoch, before: at.SourceEpoch, findings: findings{gapAt: -1}}
}

// own takes the next own batch of the target: its header, its bytes, its origin.
func (f *finder) own(h batch.Header, raw []byte, origin string) error {
	lane := f.at.lane(origin)
	if h.ProducerEpoch < lane.Epoch {
		return nil // fenced long ago; already counted under its own epoch
	}
	if h.ProducerEpoch > lane.Epoch {
		if err := f.enter(&lane, h.ProducerEpoch); err != nil {
			return err
		}
	}
	// A cleaned batch keeps its span of sequences; only its count shrinks.
	span := int64(h.LastOffsetDelta) + 1
	count := lane.countAt(h.BaseSequence)
	if count+span <= lane.Count {
		return nil // known
	}
	if count > lane.Count {
		if err := f.jump(&lane, count); err != nil {
			return err
		}
	}
	if err := f.match(lane, h, raw, origin); err != nil {
		return err
	}
	lane.Count = count + span
	f.at.setLane(lane)
	f.at.TargetLast = h.LastOffset()
	f.at.TargetFrom = h.LastOffset() + 1
	f.at.SourceNext, f.at.SourceEpoch = f.position()
	return nil
}

// enter moves all lanes into a later epoch, as it was decided. What was copied
// behind the decision's back was copied again by the new epoch.
func (f *finder) enter(lane *Lane, epoch int16) error {
	inc, ok := f.incarnation(epoch)
	if !ok {
		return fmt.Errorf("epoch %d was never decided: %w", epoch, errUnanchored)
	}
	for _, l := range f.at.Lanes {
		if base := inc.base(l.Origin); base < l.Count {
			f.repeated = append(f.repeated, Run{Source: inc.Source, Origin: l.Origin, Epoch: epoch, Count: base, Records: l.Count - base})
		}
		f.at.setLane(inc.lane(l.Origin))
	}
	if at, _ := f.position(); at != inc.Source {
		f.seek(inc.Source)
		f.cur, f.records, f.seen, f.ended = nil, nil, inc.Source, false
		f.epoch, f.before = -1, -1
	}
	*lane = inc.lane(lane.Origin)
	return nil
}

// jump is called when own batches are missing on the target before this one.
// If cleaning or retention may have taken them, the source is advanced by as
// many records; else the order is broken and the first source offset that was
// jumped over is remembered, so that the caller repairs from there.
func (f *finder) jump(lane *Lane, count int64) error {
	if !f.mayJump {
		if f.gapAt < 0 {
			f.gapAt, _ = f.position()
		}
	}
	for lane.Count < count {
		origin, err := f.drop()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if origin == lane.Origin {
			lane.Count++
		}
	}
	lane.Count = count
	return nil
}

// match compares the batch with the source from its current position on and
// reports every record that is found as a run.
func (f *finder) match(lane Lane, h batch.Header, raw []byte, origin string) error {
	whole, err := f.matchWhole(lane, h, raw, origin)
	if whole || err != nil {
		return err
	}
	target, err := batch.Decode(raw, finderDecodeBytes)
	if err != nil {
		return fmt.Errorf("decode own batch at target offset %d: %w", h.BaseOffset, err)
	}
	for _, t := range target {
		s, sOrigin, err := f.peek()
		switch {
		case errors.Is(err, io.EOF):
			f.missing++
			if !f.holes {
				return fmt.Errorf("own record at target offset %d: %w", t.Offset, errSourceShort)
			}
			continue
		case err != nil:
			return err
		case sOrigin != origin || !batch.Equal(s, t):
			f.missing++
			if !f.holes {
				// Somebody wrote other content under our sequence. The source
				// record stays to be copied: content decides, never the count.
				f.unlike++
			}
			continue
		}
		f.take()
		f.add(Run{Source: s.Offset, Target: t.Offset, Records: 1, Origin: origin,
			Epoch: lane.Epoch, Count: lane.countAt(h.BaseSequence) + t.Offset - h.BaseOffset})
	}
	return nil
}

// matchWhole is the common case: the target batch is the source batch.
func (f *finder) matchWhole(lane Lane, h batch.Header, raw []byte, origin string) (bool, error) {
	if err := f.pull(); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	if f.records != nil || f.cur.act != actCopy || f.cur.origin != origin || !batch.SamePayload(f.cur.raw, raw) {
		return false, nil
	}
	f.add(Run{Source: f.cur.header.BaseOffset, Target: h.BaseOffset, Records: int64(h.Records), Origin: origin,
		Epoch: lane.Epoch, Count: lane.countAt(h.BaseSequence)})
	f.cur = nil
	return true, nil
}

// pull makes cur a batch that has records to copy.
func (f *finder) pull() error {
	for f.cur == nil {
		if f.ended {
			return io.EOF
		}
		b, err := f.next()
		if err != nil {
			f.ended = errors.Is(err, io.EOF)
			return err
		}
		if b.header.BaseOffset > f.seen || !b.header.Dense() && !b.header.Control() {
			f.holes = true
		}
		f.seen = b.header.NextOffset()
		f.before, f.epoch = f.epoch, b.header.LeaderEpoch
		if b.act != actSkip {
			f.cur, f.records = b, nil
		}
	}
	return nil
}

// peek returns the next source record that is to be copied, and its origin.
func (f *finder) peek() (batch.Record, string, error) {
	for {
		if err := f.pull(); err != nil {
			return batch.Record{}, "", err
		}
		if f.records == nil {
			records, err := batch.Decode(f.cur.raw, finderDecodeBytes)
			if err != nil {
				return batch.Record{}, "", fmt.Errorf("decode source batch at offset %d: %w", f.cur.header.BaseOffset, err)
			}
			for len(records) > 0 && records[0].Offset < f.cur.from {
				records = records[1:]
			}
			f.records = records
		}
		if len(f.records) > 0 {
			return f.records[0], f.cur.origin, nil
		}
		f.cur, f.records = nil, nil
	}
}

func (f *finder) take() {
	f.records = f.records[1:]
	if len(f.records) == 0 {
		f.cur, f.records = nil, nil
	}
}

// drop takes the next source record unseen.
func (f *finder) drop() (origin string, err error) {
	_, origin, err = f.peek()
	if err == nil {
		f.take()
	}
	return origin, err
}

// position is the source offset at which copying goes on, and the leader epoch
// of what lies before it: the two must belong together, or a later check of the
// source's epochs sees a truncation where there is none.
func (f *finder) position() (offset int64, epoch int32) {
	switch {
	case f.cur == nil:
		return f.seen, f.epoch
	case f.records != nil:
		return f.records[0].Offset, f.epoch
	default:
		return max(f.cur.header.BaseOffset, f.cur.from), f.before
	}
}
