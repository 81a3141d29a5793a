package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

const (
	recoveryFetchBytes = 4 << 20
	// refusalsBeforeEpoch: so many solo batches refused in a row, with nobody's
	// progress in between, mean that the broker's memory of our id and the log's
	// headers disagree for good: the next epoch is the way out.
	refusalsBeforeEpoch = 3
	// sourceShortAttempts: a source that has just restarted may not show its end
	// yet; after so many attempts it is truncated.
	sourceShortAttempts = 8
)

// haltError is a finding that stops a pump by name.
type haltError struct{ name, detail string }

func (e *haltError) Error() string { return e.name + ": " + e.detail }

// search is one look for a pump's place.
type search struct {
	base        Checkpoint
	reason      string
	keep        bool
	contended   bool
	refused     int
	examineFrom int64
	examineTo   int64
	first       bool     // the process has not run this pump before
	generation  uint64   // of the outflow: what is kept must still be there
	epochs      [2]int32 // leader epochs that the search looks at
	attempts    int
	sent        []string // origins that something was sent of since the last place
}

// found is the outcome of a search.
type found struct {
	place     Checkpoint
	atEnd     bool // place is at the end of a source batch
	targetEnd int64
	advanced  bool // own batches that we did not know of are on the target
	busy      bool // and more arrive while we look
	runs      []Run
	logStart  int64 // of the source
}

// look finds the place of one pump from the agenda.
func (l *Link) look(ctx context.Context, p *pump) {
	s, ok := p.beginSearch(l.now())
	if !ok {
		return
	}
	f, err := l.locate(ctx, p, s)
	if ctx.Err() != nil {
		return // the link ends
	}
	p.endSearch(s, f, err, l.now())
}

// beginSearch takes what the search starts from, if the pump is due.
func (p *pump) beginSearch(now time.Time) (search, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case StateFinding:
	case StateRetrying, StateYielded, StateHalted:
		if wait := p.nextTry.Sub(now); wait > 0 {
			p.link.agenda.add(p, wait)
			return search{}, false
		}
	default:
		return search{}, false
	}
	if p.working || p.window == nil || p.fetcher == nil {
		return search{}, false
	}
	p.working = true
	return search{base: p.acked.clone(), reason: p.reason, keep: p.out.keep, contended: p.out.contended || p.state == StateYielded,
		refused: p.out.refused, examineFrom: p.out.examineFrom, examineTo: p.out.examineTo,
		first: p.out.proved.IsZero(), generation: p.out.generation, epochs: p.epochs,
		attempts: p.attempts, sent: slices.Sorted(maps.Keys(p.out.sent))}, true
}

// endSearch acts on what the search found.
func (p *pump) endSearch(s search, f found, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = false
	if p.state == StateWaiting {
		return // the topic or a leader went away meanwhile
	}
	var halt *haltError
	switch {
	case errors.As(err, &halt):
		p.haltLocked(halt.name, halt.detail, now)
		return
	case err != nil:
		p.link.metrics.failed(p, err)
		p.voidLocked()
		p.becomeLocked(StateFinding, p.reason, now)
		p.findLocked("finding the place: "+err.Error(), max(p.backoffLocked(), 100*time.Millisecond), now)
		return
	}
	same := !f.advanced && f.place.SourceNext == s.base.SourceNext
	kept := s.keep && same && s.generation == p.out.generation
	if !kept {
		p.voidLocked()
		p.fetchAt, p.sight.epoch = f.place.SourceNext, f.place.SourceEpoch
		p.out.sent = make(map[string]int64)
	}
	for _, r := range f.runs {
		p.offsets.Add(r)
	}
	if f.place.epochs() != s.base.epochs() {
		p.out.refused = 0
	}
	p.acked = f.place
	p.acked.TargetEpoch = p.epochs[1]
	if f.atEnd {
		p.safe, p.dirty = p.acked.clone(), true
	}
	p.sight.logStart = f.logStart
	p.out.keep, p.out.contended, p.out.examineFrom, p.out.examineTo = false, false, -1, -1
	if f.busy || f.advanced && s.contended && !s.first {
		p.fenced++
		p.link.metrics.fenced(p)
		p.voidLocked()
		p.out.refused = 0
		after := p.link.jitter(yieldLook)
		p.nextTry = now.Add(after)
		if p.state != StateYielded {
			p.link.log.Warn("another owner copies this partition, yielding", "pump", p.id.String(), "cause", s.reason)
		}
		p.becomeLocked(StateYielded, "another owner copies this partition", now)
		p.link.agenda.add(p, after)
		return
	}
	if p.epochs != s.epochs {
		p.findLocked("a leader changed meanwhile", 0, now)
		return
	}
	// A gap before a fresh acknowledgement that turned out to be others' work
	// proves that the broker knows our id.
	p.out.solo = p.out.old || !kept || s.examineFrom < 0
	p.out.proved, p.out.targetEnd = now, f.targetEnd
	p.becomeLocked(StateRunning, "", now)
	p.fetcher.mark(p)
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// yieldLook is how often a pump that yielded looks whether the other owner
// still makes progress.
const yieldLook = 1500 * time.Millisecond

// locate finds the place: see DESIGN.md, "Finding the place".
func (l *Link) locate(ctx context.Context, p *pump, s search) (found, error) {
	if err := l.sameTopics(ctx, p, s.base); err != nil {
		return found{}, err
	}
	if s.keep && s.examineFrom < 0 && l.provenByHint(ctx, p, s.base) {
		return found{place: s.base, atEnd: false, targetEnd: s.base.TargetFrom, logStart: -1}, nil
	}
	target, err := l.to.ListOffsets(ctx, p.id.Topic, p.id.Partition, -1, false)
	if err != nil {
		return found{}, err
	}
	if target.Offset < s.base.TargetFrom {
		return found{}, orRecreated(ctx, l.to, s.base.TargetTopicID, p.id.Topic, &haltError{"truncated-target",
			fmt.Sprintf("the target ends at offset %d, we had written up to %d: acknowledged records are gone there", target.Offset, s.base.TargetFrom)})
	}
	if s.examineFrom >= 0 {
		if err := l.examine(ctx, p, s); err != nil {
			return found{}, err
		}
	}
	if s.first && !s.base.started() {
		if err := l.noStrays(ctx, p, s.base); err != nil {
			return found{}, err
		}
	}
	source, err := l.sourceBounds(ctx, p, s.base)
	if err != nil {
		return found{}, err
	}
	src := &sourceReader{link: l, pump: p, at: max(s.base.SourceNext, source.start)}
	defer src.close()
	fd := newFinder(s.base)
	var out found
	fd.next = func() (*sourceBatch, error) { return src.next(ctx) }
	fd.seek = src.seek
	fd.incarnation = func(epoch int16) (Incarnation, bool) { return l.store.incarnation(p.id, epoch) }
	fd.add = func(r Run) { out.runs = append(out.runs, r) }
	fd.holes = source.start > s.base.SourceNext
	fd.mayJump = p.flow.limits().cleaned
	fd.patience = sourceShortAttempts - s.attempts
	if err := l.refreshForEpochs(ctx, p, s); err != nil {
		return found{}, err
	}
	if out.busy, out.targetEnd, err = l.readAll(ctx, p, target.Offset, fd); err != nil {
		return found{}, err
	}
	out.place, out.logStart = fd.at, source.start
	out.advanced = !slices.Equal(s.base.Lanes, fd.at.Lanes)
	out.atEnd = out.advanced && fd.cur == nil // else the base may lie inside a source batch
	if err := l.settle(ctx, p, s, fd, source, &out); err != nil {
		return found{}, err
	}
	return out, nil
}

// refreshForEpochs reads the state topics when another node may have begun a new
// epoch.
func (l *Link) refreshForEpochs(ctx context.Context, p *pump, s search) error {
	if !s.first && !s.contended {
		return nil
	}
	return l.store.refresh(ctx)
}

// settle records what the finder noticed, mends a broken order, moves over what
// the source no longer has, and begins a new epoch where the old one is stuck.
func (l *Link) settle(ctx context.Context, p *pump, s search, fd *finder, source bounds, out *found) error {
	var entries []LedgerEntry
	add := func(r Reason, first, last, records int64, detail string) {
		entries = append(entries, LedgerEntry{Link: l.name, Pump: p.id, First: first, Last: last, Records: records,
			Reason: r, Detail: detail, At: l.now(), Writer: l.writer})
	}
	var doubled, lost int64
	for _, r := range fd.repeated {
		doubled += r.Records
		add(ReasonRepeated, r.Source, r.Source+r.Records-1, r.Records, fmt.Sprintf("written again by epoch %d", r.Epoch))
	}
	if fd.unlike > 0 {
		add(ReasonOrderBreak, s.base.SourceNext, out.place.SourceNext, fd.unlike,
			fmt.Sprintf("%d records under our producer id before target offset %d are not the source's: somebody else writes with our id", fd.unlike, out.place.TargetFrom))
	}
	newEpoch := ""
	if fd.gapAt >= 0 {
		add(ReasonOrderBreak, fd.gapAt, out.place.SourceNext-1, -1, "a later batch was accepted before an earlier one; copied again from here")
		out.place.SourceNext, out.place.SourceEpoch, out.atEnd = fd.gapAt, -1, false
		newEpoch = "order-break"
	}
	if first, n := overrun(s.base.SourceNext, source.start, fd.missing, out.runs); n > 0 {
		lost = n
		add(ReasonRetention, first, source.start-1, n, "the source deleted them before they were copied")
	}
	if source.start > out.place.SourceNext {
		out.place.SourceNext, out.place.SourceEpoch, out.atEnd = source.start, -1, true
	}
	if s.refused >= refusalsBeforeEpoch && !out.advanced && !out.busy && l.hint(ctx, p, out.place) != hintEqual {
		newEpoch = fmt.Sprintf("the target refused the next sequence %d times and nobody else writes", s.refused)
	}
	if len(entries) > 0 {
		l.log.Warn("ledger", "pump", p.id.String(), "entries", len(entries), "first", string(entries[0].Reason), "detail", entries[0].Detail)
		if err := l.store.enter(ctx, entries...); err != nil {
			return err
		}
		l.metrics.doubled(p, doubled)
		l.metrics.lost(p, ReasonRetention, lost)
	}
	if newEpoch == "" {
		return nil
	}
	return l.beginEpoch(ctx, p, s, newEpoch, out)
}

// overrun says which source offsets were deleted before they were copied: from
// base on, less the copied ones that are still on the target and no longer at the
// source. Copying is in order, so what lies before a record that was found at
// both ends is not lost.
func overrun(base, start, missing int64, runs []Run) (first, records int64) {
	if slices.ContainsFunc(runs, func(r Run) bool { return r.Source >= start }) {
		return 0, 0
	}
	first = base + missing
	return first, max(0, start-first)
}

// beginEpoch moves the pump into its next epoch: where it begins is decided once,
// by the first proposal in offset order. An owner whose proposal lost goes where
// the winner goes, back if need be; if it has not seen all that the winner saw, it
// looks again.
func (l *Link) beginEpoch(ctx context.Context, p *pump, s search, why string, out *found) error {
	next := int16(1)
	for _, origin := range s.sent {
		out.place.setLane(out.place.lane(origin)) // also a lane that never got a batch through may be stuck
	}
	proposal := Incarnation{Pump: p.id, Source: out.place.SourceNext, Writer: l.writer, Why: why}
	for _, lane := range out.place.Lanes {
		next = max(next, lane.Epoch+1)
		proposal.Lanes = append(proposal.Lanes, Lane{Origin: lane.Origin, Base: lane.Count})
	}
	proposal.Epoch = next
	won, err := l.store.decide(ctx, proposal)
	if err != nil {
		return err
	}
	for _, lane := range won.Lanes {
		if lane.Base > out.place.lane(lane.Origin).Count {
			return fmt.Errorf("epoch %d was begun by %s at source offset %d, beyond what is seen here: looking again", won.Epoch, won.Writer, won.Source)
		}
	}
	for _, lane := range slices.Clone(out.place.Lanes) {
		out.place.setLane(won.lane(lane.Origin))
	}
	out.place.SourceNext, out.place.SourceEpoch, out.atEnd = won.Source, -1, false
	l.log.Warn("new incarnation", "pump", p.id.String(), "epoch", won.Epoch, "source_offset", won.Source, "by", won.Writer, "why", won.Why)
	return nil
}

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
		now, err := l.to.ListOffsets(ctx, p.id.Topic, p.id.Partition, -1, false)
		if err != nil {
			return false, end, err
		}
		if now.Offset <= max(end, from) {
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
		frame, err := l.to.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return at, err
		}
		next, err := l.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, raw []byte, origin string) error {
			return fd.own(h, raw, origin)
		})
		start := frame.Partitions[0].LogStart
		frame.Release()
		switch {
		case errors.Is(err, errUnanchored):
			return at, &haltError{"unanchored", err.Error()}
		case errors.Is(err, errSourceShort) && fd.patience <= 0:
			return at, &haltError{"truncated-source", err.Error()}
		case err != nil:
			return at, err
		case next == at && start > at:
			next = start // retention passed us on the target
			fd.mayJump = true
		case next == at:
			return at, fmt.Errorf("the target answers nothing at offset %d although it ends at %d", at, end)
		}
		at = next
	}
	return at, nil
}

// ownIn walks target batches and reports those that this link wrote.
func (l *Link) ownIn(raw []byte, from int64, fn func(batch.Header, []byte, string) error) (next int64, err error) {
	for next = from; len(raw) > 0; {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return next, nil
		}
		if err != nil {
			return next, fmt.Errorf("read target after offset %d: %w", next, err)
		}
		raw = rest
		if h.BaseOffset >= from {
			if origin, ok := l.wroteThis(h.ProducerID); ok {
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

// noStrays makes sure that a pump without history really has none: own batches
// before its beginning mean that its durable state was lost.
func (l *Link) noStrays(ctx context.Context, p *pump, base Checkpoint) error {
	stray := &haltError{"unanchored", fmt.Sprintf("the target already holds records of this link before offset %d, but %s has no checkpoint for them", base.TargetFrom, topicCheckpoints)}
	if producers, err := l.to.Producers(ctx, p.id.Topic, p.id.Partition); err == nil {
		for _, s := range producers {
			if _, ours := l.wroteThis(s.ID); ours && base.TargetFrom > 0 {
				return stray
			}
		}
	}
	start, err := l.to.ListOffsets(ctx, p.id.Topic, p.id.Partition, -2, false)
	if err != nil {
		return err
	}
	read := 0
	for at := max(start.Offset, base.TargetFrom-20_000); at < base.TargetFrom && read < strayBytes; {
		frame, err := l.to.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return err
		}
		read += len(frame.Partitions[0].Batches)
		next, err := l.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, _ string) error {
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

// examine looks into the stretch of the target between the place that was found
// and the first acknowledgement after it: own batches there are another owner's
// that the broker took although it had forgotten the sequence.
func (l *Link) examine(ctx context.Context, p *pump, s search) error {
	var records int64
	for at := s.examineFrom; at < s.examineTo; {
		frame, err := l.to.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return err
		}
		next, err := l.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, _ string) error {
			if h.BaseOffset < s.examineTo {
				records += int64(h.Records)
			}
			return nil
		})
		frame.Release()
		if err != nil {
			return err
		}
		if next == at {
			break
		}
		at = next
	}
	if records == 0 {
		return nil
	}
	l.metrics.doubled(p, records)
	return l.store.enter(ctx, LedgerEntry{Link: l.name, Pump: p.id, First: s.base.SourceNext, Last: s.base.SourceNext, Records: records,
		Reason: ReasonRepeated, At: l.now(), Writer: l.writer,
		Detail: fmt.Sprintf("another owner's records at target offsets %d to %d", s.examineFrom, s.examineTo-1)})
}

// sourceReader pulls source batches with their decisions, for finding a place.
type sourceReader struct {
	link  *Link
	pump  *pump
	at    int64
	frame *broker.Frame
	list  []*sourceBatch
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
			return nil, err
		}
		r.frame = frame
		from := r.at
		if err := r.pump.flow.walk(&frame.Partitions[0], from, func(s *sourceBatch) error {
			r.list = append(r.list, s)
			r.at = max(r.at, s.header.NextOffset())
			return nil
		}); err != nil {
			return nil, err
		}
		if r.at == from {
			return nil, io.EOF
		}
	}
	s := r.list[0]
	r.list = r.list[1:]
	return s, nil
}
