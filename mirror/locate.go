package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
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
	base   Checkpoint
	reason string
	doubt
	began      time.Time
	old        bool     // the broker may have forgotten our id
	first      bool     // the process has not run this pump before
	handed     bool     // the owner before released it here
	hurt       bool     // the source was found truncated the last time
	short      bool     // it was too short for what the target has
	generation uint64   // of the outflow: what is kept must still be there
	epochs     [2]int32 // leader epochs that the search looks at
	attempts   int      // of this process
	desks      desks    // where it has a place
	sent       []string // origins that something was sent of since the last place
}

// found is the outcome of a search.
type found struct {
	place     Checkpoint
	atEnd     bool // place is at the end of a source batch
	targetEnd int64
	// targetEpoch is the leader epoch in which the target was read; -1 unknown.
	targetEpoch int32
	advanced    bool // own batches that we did not know of are on the target
	busy        bool // and more arrive while we look
	rewound     bool // the place was found from before the last acknowledgement
	runs        []Run
	logStart    int64        // of the source
	anchored    *Incarnation // the pump goes on by this decision, and finds its place from there
	gaveUp      bool         // origins, from the place on: what was read behind it may be of theirs
	clients     []clientCopy // batches of clients that were passed, behind the place too
}

// look finds the place of one pump from the agenda.
func (l *Link) look(ctx context.Context, p *pump) {
	if l.inspect(ctx, p) {
		return
	}
	s, ok := p.beginSearch(l.now())
	if !ok {
		p.passOn()
		return
	}
	defer s.desks.leave(l.agenda)
	f, err := l.locate(ctx, p, s)
	if d, ok := damageIn(err); ok || isHalt(err) {
		f, err = l.resolve(ctx, p, s, d, err)
	}
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
		if wait := p.waitLocked(now); wait > 0 {
			p.laterLocked(wait, now)
			return search{}, false
		}
	default:
		return search{}, false
	}
	if p.working || p.anchoring || p.window == nil || p.fetcher == nil {
		return search{}, false
	}
	if !p.told && !mayResume(p.cause, p.knownLocked()) {
		p.holdLocked(now)
		return search{}, false
	}
	at := desks{p.window.desk, p.fetcher.desk}
	if !at.enter(p) {
		return search{}, false // its turn comes
	}
	p.working, p.told, p.futile = true, false, false
	d := p.out.doubt
	d.contended = d.contended || p.state == StateYielded
	return search{base: p.acked.clone(), reason: p.reason, doubt: d, began: now, old: p.out.old,
		first: p.out.proved.IsZero(), handed: p.handed, hurt: p.hurt.source(), short: p.hurt.short, generation: p.out.generation, epochs: p.epochs,
		attempts: max(0, p.attempts-p.ill.before), desks: at, sent: slices.Sorted(maps.Keys(p.out.sent))}, true
}

// endSearch acts on what the search found.
func (p *pump) endSearch(s search, f found, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = false
	if p.state == StateWaiting || p.state == StateElsewhere || p.state == StatePaused {
		return // the topic or a leader went away meanwhile, or the pump has to go
	}
	if p.notFoundLocked(f, err, now) {
		return
	}
	if s.first && f.advanced {
		f.place = resumed(f.place)
	}
	unmoved := !f.advanced && f.place.SourceNext == s.base.SourceNext
	kept := s.keep && unmoved && !f.rewound && !f.gaveUp && s.generation == p.out.generation
	p.handed = p.handed && kept
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
	p.clients.cut(p.acked.SourceNext, p.acked.TargetFrom)
	p.learnedLocked(f.clients, now)
	p.acked.TargetEpoch = max(p.epochs[1], f.targetEpoch) // the metadata may be behind
	if f.atEnd || kept && s.examineFrom >= 0 && s.end {
		p.safe, p.dirty = p.acked.clone(), true
	}
	p.sight.logStart = f.logStart
	p.out.doubt = doubt{refused: p.out.refused, examineFrom: -1, examineTo: -1}
	if f.busy || f.rewound || f.advanced && s.contended && !s.first {
		p.fenced++
		p.link.pulse.met(now)
		p.link.metrics.fenced(p)
		p.voidLocked()
		p.out.refused = 0
		if p.owner != "" {
			p.departLocked(ownedBy(p.owner), now)
			return
		}
		if p.state != StateYielded {
			if left, ok := p.lines.next(now); ok {
				p.link.log.Warn("another owner copies this partition, yielding", "pump", p.id.String(), "cause", s.reason, "left_out", left)
			}
		}
		p.yieldLocked("another owner copies this partition", now)
		return
	}
	if p.changedLocked(s, now) {
		return
	}
	// A gap before a fresh acknowledgement that turned out to be others' work
	// proves that the broker knows our id.
	p.out.solo = p.out.old || !kept || s.examineFrom < 0
	if s.verify && f.advanced { // it is ours, and the broker knows our id
		p.out.solo, p.attempts = p.out.old, 0
	}
	p.out.proved, p.out.asked, p.out.targetEnd = now, s.began, f.targetEnd
	p.out.looks++
	p.hurt = suspicion{}
	p.becomeLocked(StateRunning, "", "", now)
	p.settleLocked(now)
	if p.state != StateRunning {
		return
	}
	p.fetcher.mark(p)
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// changedLocked has the place looked for once more, if what the search looked at is not as it was.
func (p *pump) changedLocked(s search, now time.Time) bool {
	switch {
	case p.epochs != s.epochs:
		p.findLocked(CauseLeader, "a leader changed meanwhile", 0, now)
	case p.undecidedLocked():
		p.findLocked("", "a tail was heard of meanwhile", 0, now)
	default:
		return false
	}
	return true
}

// notFoundLocked takes a search that found no place, or a decision that moves the pump.
func (p *pump) notFoundLocked(f found, err error, now time.Time) bool {
	var halt *haltError
	switch {
	case errors.As(err, &halt):
		p.haltLocked(halt.name, halt.detail, now)
		if errors.Is(err, errLookAgain) {
			p.told = true // for the second look, whatever the first one found
			p.laterLocked(confirmAfter, now)
		}
	case err != nil:
		p.link.metrics.failed(p, err)
		p.doubtLocked(err)
		p.voidLocked()
		c := causeOf(err, CauseTarget)
		p.becomeLocked(StateFinding, c, p.reason, now)
		p.findLocked(c, "finding the place: "+err.Error(), max(p.backoffLocked(), 100*time.Millisecond), now)
	case f.anchored != nil:
		p.anchorLocked(*f.anchored, f.runs, now)
	default:
		return false
	}
	return true
}

// yieldLocked leaves the partition to another owner and looks again after a while.
func (p *pump) yieldLocked(reason string, now time.Time) {
	after := p.link.jitter(yieldLook)
	p.becomeLocked(StateYielded, CauseOwner, reason, now)
	p.laterLocked(after, now)
}

// yieldLook is how often a pump that yielded looks whether the other owner
// still makes progress.
const yieldLook = 1500 * time.Millisecond

// locate finds the place: see DESIGN.md, "Finding the place".
func (l *Link) locate(ctx context.Context, p *pump, s search) (found, error) {
	if err := l.led(ctx, p, s.base); err != nil {
		return found{}, err
	}
	if s.handed && !p.waysBy(l.routing()).lingering() && l.confirmed(ctx, p, s) {
		return same(s.base), nil
	}
	if s.keep && s.examineFrom < 0 {
		if err := l.sameTopics(ctx, p, s.base); err != nil {
			return found{}, err
		}
		if l.proven(ctx, p, s) {
			return same(s.base), nil
		}
	}
	target, source, rewound, err := l.survey(ctx, p, &s)
	if err != nil {
		return found{}, err
	}
	if s.first && !s.base.started() {
		if err := l.noStrays(ctx, p, s.base); err != nil {
			return found{}, err
		}
	}
	out := found{rewound: rewound}
	fd, src := l.finderOf(ctx, p, s, source, &out)
	defer src.close()
	if err := l.refreshForEpochs(ctx, p, s); err != nil {
		return found{}, err
	}
	if i, ok := l.store.anchored(s.base); ok {
		return found{anchored: &i}, nil
	}
	if err := l.regained(p); err != nil {
		return found{}, err
	}
	left := l.store.omittedOf(p.id)
	out.busy, out.targetEnd, err = l.readAll(ctx, p, target.Offset, fd)
	if err == nil {
		err = fd.finish()
	}
	if err != nil || !slices.Equal(s.base.Lanes, fd.at.Lanes) {
		err = cmp.Or(l.sameOmitted(ctx, p, left), err)
	}
	if errors.Is(err, errCleaned) {
		return found{}, &haltError{"unanchored", err.Error()}
	} else if err != nil {
		return found{}, err
	}
	// It has become long enough by other records; since the pump ran last, if another leader wrote those.
	refilled := s.first && s.base.SourceEpoch >= 0 && fd.epoch > s.base.SourceEpoch
	if fd.unlike > 0 && (s.short || refilled) {
		return found{}, &damage{short: true, halt: &haltError{"truncated-source", errSourceShort.Error() + ", and has other records by now"}}
	}
	if s.first && fd.targetHoles && source.end > s.base.SourceNext {
		if err := l.remembered(ctx, p, fd); err != nil {
			return found{}, err
		}
	}
	out.place, out.logStart, out.targetEpoch = fd.at, source.start, target.LeaderEpoch
	out.advanced = !slices.Equal(s.base.Lanes, fd.at.Lanes)
	out.atEnd = out.advanced && fd.cur == nil && len(fd.ahead) == 0 // else the base may lie inside a source batch
	if err := l.settle(ctx, p, s, fd, src, source, &out); err != nil {
		return found{}, err
	}
	if err = l.giveUp(ctx, p, s, &out); err == nil {
		err = l.decideTails(ctx, p, &out)
	}
	out.clients = src.clients
	return out, err
}

// finderOf makes what reads both logs from where the search begins.
func (l *Link) finderOf(ctx context.Context, p *pump, s search, source bounds, out *found) (*finder, *sourceReader) {
	src := &sourceReader{link: l, pump: p, at: max(s.base.SourceNext, source.start)}
	fd := newFinder(s.base)
	fd.next = func() (*sourceBatch, error) { return src.next(ctx) }
	fd.seek = src.seek
	fd.incarnation = func(epoch int16) (Incarnation, bool) { return l.store.incarnation(p.id, epoch) }
	fd.add = func(r Run) { out.runs = append(out.runs, r) }
	fd.known = func(origin string, from, to int64) []Run { return p.counted(out.runs, origin, from, to) }
	fd.leftOff = p.leftOff
	fd.gaveUp = func(origin string, at int64) bool { return p.waysBy(l.routing()).gaveUp(origin, at) }
	fd.stranger = p.stranger
	fd.holes = source.start > s.base.SourceNext
	fd.sparse = fd.holes
	fd.mayJump = p.flow.limits().cleaned
	fd.patience = sourceShortAttempts - s.attempts
	return fd, src
}

// survey asks for the ends of both logs and whether they still are what they were, and looks into what others may have
// written: then the search begins before that. What does not depend on each other is asked at once: the ends may be far apart.
func (l *Link) survey(ctx context.Context, p *pump, s *search) (target broker.Position, source bounds, rewound bool, err error) {
	var changed, noTarget, noSource error
	var all sync.WaitGroup
	all.Go(func() { changed = l.sameTopics(ctx, p, s.base) })
	all.Go(func() { target, noTarget = l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, -1, false) })
	if s.examineFrom < 0 {
		all.Go(func() { source, noSource = l.sourceBounds(ctx, p, s.base, s.hurt) })
	}
	all.Wait()
	if changed != nil {
		return target, source, false, changed
	}
	if noTarget != nil {
		return target, source, false, noTarget
	}
	if target.Offset < s.base.TargetFrom {
		return target, source, false, l.targetLost(ctx, p, s.base, target.Offset)
	}
	if s.examineFrom < 0 {
		return target, source, false, atSource(noSource)
	}
	if rewound, err = l.othersIn(ctx, p, s.examineFrom, s.examineTo); err != nil {
		return target, source, false, err
	}
	if rewound {
		s.base, s.contended = s.before, true // whose records came first shows from there
	}
	source, err = l.sourceBounds(ctx, p, s.base, s.hurt)
	return target, source, rewound, atSource(err)
}

// same is the finding that the place is where it was.
func same(base Checkpoint) found {
	return found{place: base, atEnd: false, targetEnd: base.TargetFrom, targetEpoch: -1, logStart: -1}
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
func (l *Link) settle(ctx context.Context, p *pump, s search, fd *finder, src *sourceReader, source bounds, out *found) error {
	var entries []LedgerEntry
	add := func(r Reason, first, last, records int64, detail string) {
		entries = append(entries, l.entry(p, r, first, last, records, detail))
	}
	var doubled, lost int64
	for _, r := range fd.repeated {
		doubled += r.Records
		add(ReasonRepeated, r.Source, r.Source+r.Records-1, r.Records, fmt.Sprintf("on the target more than once, in epoch %d and before", r.Epoch))
	}
	if first, n := strayed(fd.strays); n > 0 {
		now, err := l.sourceEnds(ctx, p) // which others may have read since this search began
		if err != nil {
			return err
		}
		doubled += n
		add(ReasonRepeated, first, max(first, now.end-1), n, "another owner wrote them in an earlier epoch when this one was anchored already: on the target once more")
	}
	twice, err := l.overruns(ctx, p, fd.overruns, out)
	if err != nil {
		return err
	}
	for _, r := range twice {
		doubled += r.Records
		add(ReasonRepeated, r.Source, r.sourceEnd()-1, r.Records, fmt.Sprintf("another owner copied what %s produced when this link had given that up: another link copies it too", r.Origin))
	}
	if fd.unlike > 0 {
		add(ReasonOrderBreak, s.base.SourceNext, out.place.SourceNext, fd.unlike,
			fmt.Sprintf("%d records under our producer id before target offset %d are not the source's: somebody else writes with our id", fd.unlike, out.place.TargetFrom))
	}
	unseen, err := l.unseen(ctx, p, s, fd)
	if err != nil {
		return err
	}
	if first := max(out.place.SourceNext, source.start); unseen > 0 && first < source.end {
		last := source.end - 1
		if !l.sparse(p, src) {
			last = min(last, first+unseen-1)
		}
		add(ReasonRepeated, first, last, -1, fmt.Sprintf("the target deleted %d offsets before it was noted what of them was copied, and nothing there tells: copied again", unseen))
	}
	newEpoch := ""
	if fd.gapAt >= 0 {
		add(ReasonOrderBreak, fd.gapAt, out.place.SourceNext-1, -1, "a later batch was accepted before an earlier one; copied again from here")
		out.place.SourceNext, out.place.SourceEpoch, out.atEnd = fd.gapAt, -1, false
		newEpoch = "order-break"
	}
	if first, n := overrun(s.base.SourceNext, source.start, fd.missing, out.runs); n > 0 {
		lost = n
		if fd.missing > 0 && l.sparse(p, src) {
			add(ReasonRetention, first, source.start-1, -1, fmt.Sprintf("the source deleted them before they were copied; of the first of them some may have been: "+
				"the %d records copied since the checkpoint lay among offsets without records", fd.missing))
		} else {
			add(ReasonRetention, first, source.start-1, n, "the source deleted them before they were copied")
		}
	}
	if source.start > out.place.SourceNext {
		out.place.SourceNext, out.place.SourceEpoch, out.atEnd = source.start, -1, true
	}
	switch {
	case newEpoch != "" || out.busy:
	case s.contended && len(s.sent) > 0 && l.hint(ctx, p, out.place) == hintBehind:
		newEpoch = "the target's broker remembers an older sequence than its log holds"
	case s.refused >= refusalsBeforeEpoch && !out.advanced && l.hint(ctx, p, out.place) != hintEqual:
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

// strayed sums strays up: from which source offset on they are, and how many.
func strayed(runs []Run) (first, records int64) {
	for i, r := range runs {
		if i == 0 || r.Source < first {
			first = r.Source
		}
		records += r.Records
	}
	return first, records
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

// sparse reports whether the source's log has, as far as anybody can still see, offsets without records (markers, aborted
// records, what was compacted, other origins): then a number of records says nothing exact about offsets.
func (l *Link) sparse(p *pump, src *sourceReader) bool {
	if p.flow.limits().cleaned || src.sparse {
		return true
	}
	gone := l.store.gone(p.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.holed(gone)
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
	if won.anchor != nil {
		out.anchored = &won // whoever decided that knew of more than a stuck epoch
		return nil
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
