package mirror

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// Errors of finding a place; each is a named state of the pump.
var (
	// errUnanchored: own batches are on the target, but nothing durable says
	// which source records they are. Never guessed, never copied again.
	errUnanchored = errors.New("own batches without an anchor")
	// errCleaned: copied records are gone from the target, which is compacted, and from
	// the source: how far was copied cannot be known.
	errCleaned = errors.New("both ends were cleaned since the last checkpoint: where copying stopped cannot be known")
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
	client bool // a router's client wrote it
	packing
	old     []batch.Record // its records, if it has an old message format
	omitted omitted        // of its offsets: records that are not copied
	suspect *distrust      // the target refused something in it
}

// decode returns the records of the batch from those on that are wanted.
func (s *sourceBatch) decode(maxBytes int) ([]batch.Record, error) {
	records := s.old
	if records == nil {
		var err error
		if records, err = batch.Decode(s.raw, maxBytes); err != nil {
			return nil, fmt.Errorf("decode source batch at offset %d: %w", s.header.BaseOffset, err)
		}
	}
	for len(records) > 0 && records[0].Offset < s.from {
		records = records[1:]
	}
	return s.omitted.without(records), nil
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
	// known returns where the records of an origin that were counted from, up to and
	// without to, come from; nil = nobody knows.
	known func(origin string, from, to int64) []Run

	// leftOff is the source offset up to which the map knows what was copied of an origin, in an epoch and before, to before a target
	// offset; nil = nobody knows.
	leftOff func(origin string, epoch int16, target int64) int64

	// gaveUp reports whether an origin's batches from a source offset on are not the pump's any more, and stranger whether nothing
	// known says that it ever copied the origin; nil: never.
	gaveUp   func(origin string, at int64) bool
	stranger func(origin string) bool

	mayJump  bool // the target may have lost own batches to cleaning or retention
	forgives bool // a source that is too short is what is looked at
	patience int  // attempts left before a source that is too short is called truncated
	cursor
	findings
}

// cursor is where a finder is in the source.
type cursor struct {
	cur     *sourceBatch
	records []batch.Record // decoded rest of cur, when it had to be decoded
	seen    int64          // source offset after the last batch pulled
	epoch   int32          // leader epoch of the last batch pulled, -1 unknown
	before  int32          // and of the one before it
	holes   bool           // the source is not dense since the checkpoint
	ended   bool           // the source had no more batches
	ahead   []lookedAt     // before records and cur: what was looked at and not taken
}

// lookedAt is a source record, and the leader epoch of what lies before it.
type lookedAt struct {
	batch.Record
	origin string
	epoch  int32
}

// findings are what a finder noticed beside the place.
type findings struct {
	missing  int64 // copied records that the source no longer has
	unlike   int64 // own records that are not the source's although it is dense
	repeated []Run // on the target more than once
	cleaned
	overtaken bool     // retention has passed the place on the target
	unseen    int64    // target offsets that it took before they were read
	strays    []Run    // own records of an epoch before an anchored one, behind its beginning: their sources are at Source or later
	overruns  []Run    // own records of origins that were given up before; their sources are not looked for here
	vouched   []string // origins of own batches behind that: their sequences count what was in it
	// targetHoles: batches or records are missing on a target that is cleaned, since the checkpoint.
	targetHoles bool
	gapAt       int64 // first source offset that was jumped over on the target, -1 none
	orphans     int64 // own records behind the source's end, if it forgives that
}

// finderDecodeBytes bounds what one batch may decompress to while a place is found.
const finderDecodeBytes = 256 << 20

func newFinder(at Checkpoint) *finder {
	return &finder{at: at.clone(), cursor: cursor{seen: at.SourceNext, epoch: at.SourceEpoch, before: at.SourceEpoch}, findings: findings{gapAt: -1}}
}

// own takes the next own batch of the target: its header, its bytes, its origin.
func (f *finder) own(h batch.Header, raw []byte, origin string) error {
	if f.overtaken && !slices.Contains(f.vouched, origin) {
		f.vouched = append(f.vouched, origin)
	}
	lane := f.at.lane(origin)
	span := int64(h.LastOffsetDelta) + 1 // a cleaned batch keeps its span of sequences; only its count shrinks
	if h.ProducerEpoch < lane.Epoch {
		f.late(lane, h, span)
		return nil
	}
	if h.ProducerEpoch > lane.Epoch {
		if err := f.enter(&lane, h.ProducerEpoch); err != nil {
			return err
		}
	}
	count := lane.countAt(h.BaseSequence)
	known := min(max(0, lane.Count-count), span)
	if known > 0 {
		f.repeat(origin, h.ProducerEpoch, count, count+known)
	}
	if known == span {
		f.passed(h)
		return nil
	}
	if f.stranger != nil && f.stranger(origin) {
		return &strangerError{origin}
	}
	if at, _ := f.position(); f.gaveUp != nil && f.gaveUp(origin, at) {
		// But for the rest of a batch that begins before the end.
		if _, next, err := f.peek(); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if err != nil || next != origin {
			f.overrun(lane, h, count, span)
			return nil
		}
	}
	if count > lane.Count {
		if err := f.jump(&lane, count); err != nil {
			return err
		}
	}
	if err := f.match(lane, h, raw, origin, known); err != nil {
		return err
	}
	lane.Count = count + span
	f.at.setLane(lane)
	f.passed(h)
	f.at.SourceNext, f.at.SourceEpoch = f.position()
	return nil
}

// overrun takes a batch of an origin that was given up before: an owner who had not heard of that wrote it.
func (f *finder) overrun(lane Lane, h batch.Header, count, span int64) {
	first := max(count, lane.Count)
	f.overruns = append(f.overruns, Run{Target: h.BaseOffset + first - count, Origin: lane.Origin, Epoch: lane.Epoch, Count: first, Records: count + span - first})
	lane.Count = count + span
	f.at.setLane(lane)
	f.passed(h)
}

// strangerError is met where own batches are of an origin that the pump does not copy, as far as is known: it did when they were written.
type strangerError struct{ origin string }

func (e *strangerError) Error() string {
	return "own records of origin " + e.origin + " are on the target, which this link does not copy any more: looking again"
}

// passed moves the place on the target behind a batch.
func (f *finder) passed(h batch.Header) {
	f.at.TargetLast = h.LastOffset()
	f.at.TargetFrom = h.LastOffset() + 1
}

// late takes a batch of an epoch that was fenced before: the broker had forgotten
// the fence. What it holds is there already, or will be copied again.
func (f *finder) late(lane Lane, h batch.Header, span int64) {
	then := Lane{Origin: lane.Origin, Epoch: h.ProducerEpoch, Count: lane.Count}
	if inc, ok := f.incarnation(h.ProducerEpoch); ok {
		then.Base = inc.base(lane.Origin)
	}
	count := then.countAt(h.BaseSequence)
	if own := f.stray(lane, h, count, span); own > 0 {
		f.repeat(lane.Origin, lane.Epoch, count, count+own)
	}
	f.passed(h)
}

// stray notes what of a late batch is behind the beginning of an anchored epoch, and returns how many records are not. The counts from there on
// are those of other records in the two epochs: they do not say which records of the source these are.
func (f *finder) stray(lane Lane, h batch.Header, count, span int64) (rest int64) {
	for e := h.ProducerEpoch + 1; e <= lane.Epoch; e++ {
		inc, ok := f.incarnation(e)
		if !ok || inc.anchor == nil {
			continue
		}
		first := max(count, inc.base(lane.Origin))
		if first >= count+span {
			return span
		}
		r := Run{Origin: lane.Origin, Epoch: lane.Epoch, Count: first, Records: count + span - first}
		if f.leftOff != nil {
			r.Source = f.leftOff(lane.Origin, h.ProducerEpoch, h.BaseOffset+first-count)
		}
		f.strays = append(f.strays, r)
		return first - count
	}
	return span
}

// repeat notes that records which were counted from, up to and without to, are on
// the target once more.
func (f *finder) repeat(origin string, epoch int16, from, to int64) {
	var runs []Run
	if f.known != nil {
		runs = f.known(origin, from, to)
	}
	found := int64(0)
	for _, r := range runs {
		found += r.Records
		f.repeated = append(f.repeated, Run{Source: r.Source, Target: r.Target, Records: r.Records, Origin: origin, Epoch: epoch, Count: r.Count})
	}
	if found < to-from {
		// Not in the map: then the source is taken to be dense up to here.
		at, _ := f.position()
		f.repeated = append(f.repeated, Run{Source: max(0, at-(f.at.lane(origin).Count-from)), Records: to - from, Origin: origin, Epoch: epoch, Count: from})
	}
}

// enter moves all lanes into a later epoch, as it was decided. What was copied
// behind the decision's back was copied again by the new epoch.
func (f *finder) enter(lane *Lane, epoch int16) error {
	inc, ok := f.incarnation(epoch)
	if !ok {
		return fmt.Errorf("epoch %d was never decided: %w", epoch, errUnanchored)
	}
	for _, l := range slices.Clone(f.at.Lanes) {
		if base := inc.base(l.Origin); base < l.Count {
			f.again(inc, l.Origin, epoch, base, l.Count)
		}
		f.at.setLane(inc.lane(l.Origin))
	}
	if f.gapAt >= inc.Source {
		f.gapAt = -1 // this epoch has repaired it
	}
	if at, _ := f.position(); at != inc.Source {
		f.seek(inc.Source)
		f.cur, f.records, f.ahead, f.seen, f.ended = nil, nil, nil, inc.Source, false
		f.epoch, f.before = -1, -1
	}
	*lane = inc.lane(lane.Origin)
	return nil
}

// again notes what was copied in earlier epochs and is copied again from where this
// one begins; records that were jumped over then are there only once.
func (f *finder) again(inc Incarnation, origin string, epoch int16, from, to int64) {
	var runs []Run
	if f.known != nil {
		runs = f.known(origin, from, to)
	}
	if len(runs) == 0 {
		runs = []Run{{Source: inc.Source, Count: from, Records: to - from}}
	}
	for _, r := range runs {
		f.repeated = append(f.repeated, Run{Source: r.Source, Target: r.Target, Origin: origin, Epoch: epoch, Count: r.Count, Records: r.Records})
	}
}

// jump is called when own batches are missing on the target before this one.
// If cleaning or retention may have taken them, match looks for what comes after
// them further on in the source; else the order is broken and the first source offset that was
// jumped over is remembered, so that the caller repairs from there.
func (f *finder) jump(lane *Lane, count int64) error {
	if f.mayJump {
		f.skipped += count - lane.Count
		lane.Count = count
		return nil
	}
	if f.gapAt < 0 {
		f.gapAt, _ = f.position()
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
// reports every record that is found as a run. The first known records are there already.
func (f *finder) match(lane Lane, h batch.Header, raw []byte, origin string, known int64) error {
	if known == 0 {
		whole, err := f.matchWhole(lane, h, raw, origin)
		if whole || err != nil {
			return err
		}
	}
	if err := f.align(raw, origin, known); err != nil {
		return err
	}
	target, err := batch.Decode(raw, finderDecodeBytes)
	if err != nil {
		return fmt.Errorf("decode own batch at target offset %d: %w", h.BaseOffset, err)
	}
	next := h.BaseOffset + known
	for _, t := range target {
		if t.Offset < next {
			continue
		}
		f.skipped += t.Offset - next // cleaned out of the batch
		next = t.Offset + 1
		s, err := f.find(t, origin)
		switch {
		case errors.Is(err, io.EOF):
			if f.missing++; f.forgives {
				f.orphans++
			} else if !f.holes {
				return fmt.Errorf("own record at target offset %d: %w", t.Offset, errSourceShort)
			}
		case errors.Is(err, errNotFound):
			if f.missing++; !f.holes {
				// Somebody wrote other content under our sequence. The source
				// record stays to be copied: content decides, never the count.
				f.unlike++
			}
		case err != nil:
			return err
		default:
			f.add(Run{Source: s.Offset, Target: t.Offset, Records: 1, Origin: origin,
				Epoch: lane.Epoch, Count: lane.countAt(h.BaseSequence) + t.Offset - h.BaseOffset})
		}
	}
	f.skipped += h.NextOffset() - next
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
	if !h.Dense() || f.skipped > 0 || f.lacking > 0 || len(f.ahead) > 0 || f.records != nil || f.cur.act != actCopy || f.cur.origin != origin || !batch.SamePayload(f.cur.raw, raw) {
		return false, nil
	}
	f.add(Run{Source: f.cur.header.BaseOffset, Target: h.BaseOffset, Records: int64(h.Records), Origin: origin,
		Epoch: lane.Epoch, Count: lane.countAt(h.BaseSequence)})
	f.cur = nil
	f.anchored()
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
			f.holes, f.sparse = true, true
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
	if len(f.ahead) > 0 {
		return f.ahead[0].Record, f.ahead[0].origin, nil
	}
	return f.head()
}

// head is peek behind what was looked at.
func (f *finder) head() (batch.Record, string, error) {
	for {
		if err := f.pull(); err != nil {
			return batch.Record{}, "", err
		}
		if f.records == nil {
			records, err := f.cur.decode(finderDecodeBytes)
			if err != nil {
				return batch.Record{}, "", err
			}
			f.records = records
		}
		if len(f.records) > 0 {
			return f.records[0], f.cur.origin, nil
		}
		f.cur, f.records = nil, nil
	}
}

// look returns the source record that comes i records after the next.
func (f *finder) look(i int) (lookedAt, error) {
	for len(f.ahead) <= i {
		r, origin, err := f.head()
		if err != nil {
			return lookedAt{}, err
		}
		f.ahead = append(f.ahead, lookedAt{r, origin, f.epoch})
		f.shift()
	}
	return f.ahead[i], nil
}

func (f *finder) take() {
	if len(f.ahead) > 0 {
		f.ahead = f.ahead[1:]
		return
	}
	f.shift()
}

func (f *finder) shift() {
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
	case len(f.ahead) > 0:
		return f.ahead[0].Offset, f.ahead[0].epoch
	case f.cur == nil:
		return f.seen, f.epoch
	case f.records != nil:
		return f.records[0].Offset, f.epoch
	default:
		return max(f.cur.header.BaseOffset, f.cur.from), f.before
	}
}
