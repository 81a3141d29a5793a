package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// isHalt reports whether an error is a finding that stops a pump by name.
func isHalt(err error) bool {
	var halt *haltError
	return errors.As(err, &halt)
}

// confirmAfter is for how long a log has to look damaged before a pump goes on behind that: a broker that has just
// started may say what it takes back.
const confirmAfter = 2 * time.Second

// errLookAgain marks a damage that was seen for the first time.
var errLookAgain = errors.New("to be confirmed")

// suspicion is the damage that was seen last.
type suspicion struct {
	target, anew, short bool
	at                  int64
	since               time.Time
}

// source reports whether the source was found truncated.
func (s suspicion) source() bool { return !s.since.IsZero() && !s.target && !s.anew && !s.short }

// confirmed reports whether the same damage has been seen for long enough, by a clock that was not set back meanwhile.
func (p *pump) confirmed(d *damage, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.hurt
	p.hurt = suspicion{d.target, d.anew, d.short, d.at, was.since}
	if p.hurt != was || now.Before(was.since) {
		p.hurt.since = now
		return false
	}
	return now.Sub(was.since) >= confirmAfter
}

// resolve looks for a way out of what would halt a pump: a decision that somebody else has made already, or what the link's policy allows
// for a log that was damaged. cause is the finding; d is nil if it is of another sort. It returns the cause when there is no way.
func (l *Link) resolve(ctx context.Context, p *pump, s search, d *damage, cause error) (found, error) {
	if err := l.store.refresh(ctx); err != nil {
		return found{}, err
	}
	if i, ok := l.store.anchored(s.base); ok {
		return found{anchored: &i}, nil
	}
	if d == nil {
		return found{}, cause
	}
	confirmed := p.confirmed(d, l.now())
	policy, ok := d.goesOn(l.terms().Policy)
	if !ok {
		return found{}, cause
	}
	if !confirmed {
		return found{}, fmt.Errorf("%w (%w)", cause, errLookAgain)
	}
	way, err := l.wayOut(ctx, p, s, d)
	if err != nil {
		return found{}, err
	}
	for i := range way.entries {
		way.entries[i].Policy = policy
	}
	i, err := l.anchorAt(ctx, p, way)
	if err != nil {
		return found{}, err
	}
	return found{anchored: &i, runs: way.runs}, nil
}

// wayOut is where a pump goes on behind a damage, and what the ledger has to say of it.
type wayOut struct {
	why      string
	at       Checkpoint // lanes and identities as they are now; SourceNext and TargetFrom are where the next epoch begins
	cuts     [2]int64   // of source and target offsets: see [anchorage]
	entries  []LedgerEntry
	runs     []Run // found on the way
	lost     map[Reason]int64
	doubled  int64
	orphaned int64 // records of the target that the source lost
}

func (l *Link) entry(p *pump, r Reason, first, last, records int64, detail string) LedgerEntry {
	p.mu.Lock()
	at := p.acked.clone()
	p.mu.Unlock()
	return LedgerEntry{Link: l.name, Pump: p.id, First: first, Last: last, Records: records, Reason: r, Detail: detail, At: l.now(), Writer: l.writer, log: l.store.logOf(at)}
}

// wayOut finds where the pump goes on, by what its policy allows. Nothing is written.
func (l *Link) wayOut(ctx context.Context, p *pump, s search, d *damage) (wayOut, error) {
	w := wayOut{why: d.Error(), at: s.base.clone(), cuts: [2]int64{noCut, noCut}, lost: make(map[Reason]int64)}
	start, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Earliest, false)
	if err != nil {
		return w, err
	}
	end, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false)
	if err != nil {
		return w, err
	}
	switch {
	case d.anew:
		if err := l.stillThis(ctx, p, d); err != nil {
			return w, err
		}
		if d.target {
			l.afterNewTarget(p, &w, d, start.Offset)
		} else {
			l.afterNewSource(p, &w, d, start.Offset, end.Offset)
		}
	case d.target:
		if !l.afterTargetLoss(p, &w, d, start.Offset) {
			return w, d
		}
		if err := l.countBehind(ctx, p, &w, s.base.SourceNext, d.at, end.Offset); err != nil {
			return w, err
		}
	case d.short:
		if err := l.countOrphans(ctx, p, s, &w, bounds{start: start.Offset}, end.Offset); err != nil {
			return w, err
		}
	default:
		l.afterSourceLoss(p, &w, d)
	}
	w.at.TargetFrom = end.Offset
	return w, nil
}

// stillThis makes sure that the ends that were asked for are those of the topic that was found.
func (l *Link) stillThis(ctx context.Context, p *pump, d *damage) error {
	c := l.from
	if d.target {
		c = l.to
	}
	topic := p.id.on(c.Name())
	m, err := c.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	if t := m.Topics[topic]; t.Err != nil || t.ID != d.topicID {
		return fmt.Errorf("topic %s changes on %s while it is looked at", topic, c.Name())
	}
	return nil
}

// afterSourceLoss goes on where the source was cut off: what the target has beyond that stays there.
func (l *Link) afterSourceLoss(p *pump, w *wayOut, d *damage) {
	m := mappedFrom(p.runList(), d.at)
	w.orphaned = m.records
	w.entries = append(w.entries, l.entry(p, ReasonTruncatedSource, d.at, w.at.SourceNext-1, m.records, d.halt.detail))
	w.at.SourceNext, w.cuts[0] = d.at, d.at
}

// afterTargetLoss goes back to the first record that the target lost, or to where the source still has what follows it. It
// reports false if nothing says which records those were.
func (l *Link) afterTargetLoss(p *pump, w *wayOut, d *damage, start int64) bool {
	loss := lossOf(p.runList(), d.at, start, w.at.SourceNext)
	if loss.last < loss.first {
		return false
	}
	l.lossEntries(p, w, loss, d.halt.detail)
	w.cuts = [2]int64{noCut, d.at}
	return true
}

// lossEntries notes what the target lost.
func (l *Link) lossEntries(p *pump, w *wayOut, loss targetLoss, detail string) {
	if loss.gone > 0 {
		w.lost[ReasonTruncatedTarget] = loss.gone
		w.entries = append(w.entries, l.entry(p, ReasonTruncatedTarget, loss.first, min(loss.from-1, loss.last), loss.gone, detail+"; the source no longer has these"))
	}
	if n := loss.again + loss.doubled; n > 0 {
		w.doubled = loss.doubled
		w.entries = append(w.entries, l.entry(p, ReasonRepeated, loss.from, max(loss.last, w.at.SourceNext-1), n,
			fmt.Sprintf("%s; copied again: %d that are gone there, %d that are not", detail, loss.again, loss.doubled)))
	}
	w.at.SourceNext = loss.from
}

// countBehind notes own batches that were written behind a cut before it was noticed: what is in them is copied again.
func (l *Link) countBehind(ctx context.Context, p *pump, w *wayOut, next, from, to int64) error {
	n := int64(0)
	for at := from; at < to; {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return err
		}
		after, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, _ string) error {
			n += int64(h.Records)
			return nil
		})
		frame.Release()
		if err != nil {
			return err
		}
		if after == at {
			break
		}
		at = after
	}
	if n > 0 {
		w.doubled += n
		w.entries = append(w.entries, l.entry(p, ReasonRepeated, next, next+n-1, n, fmt.Sprintf("written from target offset %d on, before it was noticed that records are gone there", from)))
	}
	return nil
}

// afterNewTarget copies everything again that the source still has.
func (l *Link) afterNewTarget(p *pump, w *wayOut, d *damage, start int64) {
	loss := lossOf(p.runList(), 0, start, w.at.SourceNext)
	before := w.at.SourceNext
	l.lossEntries(p, w, loss, d.halt.detail)
	w.entries = append(w.entries, l.entry(p, ReasonRecreated, loss.from, max(loss.from, before-1), 0,
		fmt.Sprintf("%s: it was topic %x and is topic %x; copied again from source offset %d", d.halt.detail, d.previous, d.topicID, loss.from)))
	w.at.TargetTopicID, w.cuts = d.topicID, [2]int64{noCut, 0}
}

// afterNewSource goes on at the beginning of the new log, behind what was copied of the old one. That is offset 0, whatever the new log has lost
// by now: who begins there notes what is gone.
func (l *Link) afterNewSource(p *pump, w *wayOut, d *damage, start, targetEnd int64) {
	p.mu.Lock()
	seen, known := p.sight.highWatermark, !p.sight.at.IsZero()
	p.mu.Unlock()
	first, missing := w.at.SourceNext, int64(-1)
	if known {
		missing = max(0, seen-first)
		w.lost[ReasonRecreated] = missing
	}
	w.entries = append(w.entries, l.entry(p, ReasonRecreated, first, max(first, seen-1), missing,
		fmt.Sprintf("%s: it was topic %x and is topic %x; its records from source offset %d on are behind target offset %d", d.halt.detail, d.previous, d.topicID, start, targetEnd-1)))
	w.at.SourceTopicID, w.at.SourceNext, w.cuts = d.topicID, 0, [2]int64{0, noCut}
}

// countOrphans matches the own batches behind the checkpoint with what is left of the source, and counts those that it lost.
func (l *Link) countOrphans(ctx context.Context, p *pump, s search, w *wayOut, source bounds, targetEnd int64) error {
	var out found
	fd, src := l.finderOf(ctx, p, s, source, &out)
	defer src.close()
	fd.forgives = true
	if _, err := l.readOwn(ctx, p, fd.at.TargetFrom, targetEnd, fd); err != nil {
		return err
	}
	orphans := fd.orphans + fd.unlike
	if orphans == 0 || fd.missing > orphans || fd.gapAt >= 0 || len(fd.repeated) > 0 {
		return &damage{short: true, halt: &haltError{"truncated-source", errSourceShort.Error() + ", and what the target has is not what the source has left"}}
	}
	w.at, w.runs, w.orphaned = fd.at, out.runs, orphans
	at := fd.at.SourceNext
	w.cuts[0] = at
	w.entries = append(w.entries, l.entry(p, ReasonTruncatedSource, at, at+orphans-1, orphans,
		fmt.Sprintf("the source ends at offset %d, the target has %d records that were behind it", at, orphans)))
	return nil
}

// anchorAt makes it so: first the ledger, then the decision, which fences every earlier epoch. Of two at a time the first one wins, and is returned.
func (l *Link) anchorAt(ctx context.Context, p *pump, w wayOut) (Incarnation, error) {
	if err := l.store.enter(ctx, w.entries...); err != nil {
		return Incarnation{}, err
	}
	i := Incarnation{Pump: p.id, Epoch: max(1, l.store.lastEpoch(p.id)+1), Source: w.at.SourceNext, Writer: l.writer, Why: w.why,
		anchor: &anchorage{sourceTopicID: w.at.SourceTopicID, targetTopicID: w.at.TargetTopicID, targetFrom: w.at.TargetFrom,
			sourceCut: w.cuts[0], targetCut: w.cuts[1], sourcePartitions: w.at.SourcePartitions}}
	lanes := w.at.Lanes
	if !slices.ContainsFunc(lanes, func(n Lane) bool { return n.Origin == l.spec.From }) {
		lanes = append(slices.Clone(lanes), Lane{Origin: l.spec.From})
	}
	for _, n := range lanes {
		i.Epoch = max(i.Epoch, n.Epoch+1)
		i.Lanes = append(i.Lanes, Lane{Origin: n.Origin, Base: n.Count})
	}
	won, err := l.store.decide(ctx, i)
	switch {
	case err != nil:
		return Incarnation{}, err // it may be written or not, and may have won or not
	case won.anchor == nil || won.Writer != l.writer && won.Source != i.Source:
		if err := l.store.retract(ctx, ofPlace(w.entries, i.Source)...); err != nil {
			return won, err
		}
		if won.anchor == nil {
			return won, fmt.Errorf("epoch %d was begun by %s meanwhile: looking again", won.Epoch, won.Writer)
		}
	case won.Writer == l.writer: // else who decided it counts it
		for r, n := range w.lost {
			l.metrics.lost(p, r, max(0, n))
		}
		l.metrics.doubled(p, w.doubled)
		l.metrics.orphaned(p, w.orphaned)
	}
	l.log.Warn("anchored", "pump", p.id.String(), "epoch", won.Epoch, "source_offset", won.Source, "by", won.Writer, "why", won.Why)
	return won, nil
}

// ofPlace are those of an anchor's entries that are true only if the pump goes on at its place. What a log has lost stays true whoever decides,
// and is in the winner's entry, which has the same key.
func ofPlace(entries []LedgerEntry, source int64) (out []LedgerEntry) {
	for _, e := range entries {
		if (e.Reason == ReasonAnchored || e.Reason == ReasonRepeated) && (e.First == source || e.Last+1 == source) {
			out = append(out, e)
		}
	}
	return out
}

// anchorLocked takes a decision over: the pump finds its place from there.
func (p *pump) anchorLocked(i Incarnation, runs []Run, now time.Time) {
	p.moveLocked(i, runs, now)
	p.findLocked("", "anchored: "+i.Why, 0, now)
}

// moveLocked takes a decision over, whatever the pump is doing.
func (p *pump) moveLocked(i Incarnation, runs []Run, now time.Time) {
	p.voidLocked()
	for _, r := range runs {
		p.offsets.Add(r)
	}
	p.offsets.cut(i)
	p.clients.cut(-1, -1) // their records may be others by now
	p.acked = i.moved(p.acked)
	p.acked.Writer = p.link.writer
	p.safe, p.dirty = p.acked.clone(), true
	p.chunk = min(p.chunk, p.acked.SourceNext)
	p.fetchAt, p.sight.epoch, p.sight.marks = p.acked.SourceNext, -1, nil
	p.out.sent, p.out.old = make(map[string]int64), false
	p.out.doubt = doubt{examineFrom: -1, examineTo: -1}
	p.attempts, p.moved, p.hurt = 0, now, suspicion{}
}

// recheck looks at once at the pumps that are halted: what halted them may be allowed by now.
func (l *Link) recheck() {
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			p.recheck(l.now())
		}
	}
}

func (p *pump) recheck(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateHalted {
		p.told = true
		p.dueLocked(now)
	}
}
