package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// AnchorAt is where an anchored pump goes on: a source offset, or one of the two names for an end of the source's log.
type AnchorAt int64

// The ends of the source's log, as they are when the anchor is set.
const (
	AnchorStart AnchorAt = -2
	AnchorEnd   AnchorAt = -1
)

// AnchorRequest says where a partition goes on, whatever was copied before.
type AnchorRequest struct {
	Link, Topic string
	Partition   int32
	At          AnchorAt
	// Why and Author are for people; both go into the ledger. Why must not be empty.
	Why, Author string
	// DryRun changes nothing, and waits for nothing but the clusters' answers.
	DryRun bool
}

// AnchorPlan is what an anchor does, or would do.
type AnchorPlan struct {
	Link, Topic string
	Partition   int32
	// Before is the source offset at which the pump would go on without it, After the one at which it goes on with it. Where the source
	// was created anew, Before is that of the old log.
	Before, After int64
	// Lost is how many records are left out, Doubled how many are copied although the target has them; -1 unknown.
	Lost, Doubled int64
	// Lines say it for people.
	Lines []string
	// Entries are what the ledger gets.
	Entries []LedgerEntry
}

// ErrAnchor is returned for an anchor that cannot be set as it was asked for: the caller has to ask for another one.
var ErrAnchor = errors.New("anchor refused")

// Anchor has a partition go on at a source offset, in whatever state it is: what is in flight is finished, the ledger gets what is
// left out and what is doubled, and the pump's next epoch begins at the place, so that it holds for every later owner. Of two anchors
// at a time the first wins, the other one gets [ErrAnchor]. It returns [ErrNoLink], [ErrUnknownPump] for a partition that another node
// copies, and [ErrAnchor] for an offset that is not in the source's log.
func (s *Set) Anchor(ctx context.Context, r AnchorRequest) (AnchorPlan, error) {
	plan := AnchorPlan{Link: r.Link, Topic: r.Topic, Partition: r.Partition}
	if r.Why == "" && !r.DryRun {
		return plan, fmt.Errorf("%w: say why, for those who read the ledger", ErrAnchor)
	}
	p, err := s.anchorable(r)
	if err != nil {
		return plan, err
	}
	if r.DryRun {
		w, err := p.link.anchorWay(ctx, p, r, &plan)
		plan.Entries = w.entries
		return plan, err
	}
	if err := p.holdStill(ctx); err != nil {
		return plan, err
	}
	w, err := p.link.anchorWay(ctx, p, r, &plan)
	var won Incarnation
	if err == nil {
		plan.Entries = w.entries
		won, err = p.link.anchorAt(ctx, p, w)
	}
	doubt := err != nil
	if err == nil && (won.Writer != p.link.writer || won.Source != plan.After) {
		err = fmt.Errorf("%w: %s began epoch %d at source offset %d first", ErrAnchor, won.Writer, won.Epoch, won.Source)
	}
	p.letGo(won, w.runs, doubt, p.link.now())
	return plan, err
}

// anchorable finds the pump of a request.
func (s *Set) anchorable(r AnchorRequest) (*pump, error) {
	for _, l := range s.list() {
		if l.name != r.Link {
			continue
		}
		p := l.pump(r.Topic, r.Partition)
		if p == nil || !p.here() {
			return nil, fmt.Errorf("anchor %s %s:%d: %w", r.Link, r.Topic, r.Partition, ErrUnknownPump)
		}
		return p, nil
	}
	return nil, fmt.Errorf("anchor on link %q: %w", r.Link, ErrNoLink)
}

// anchorWithin bounds the wait for answers in flight.
const anchorWithin = 30 * time.Second

// holdStill has the pump finish what is in flight, and begin nothing until letGo.
func (p *pump) holdStill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, anchorWithin)
	defer cancel()
	for first := true; ; first = false {
		still, err := p.still(first, p.link.now())
		if still || err != nil {
			return err
		}
		if sleep(ctx, 10*time.Millisecond) != nil {
			p.letGo(Incarnation{}, nil, false, p.link.now())
			return fmt.Errorf("anchor %s: what is in flight was not answered within %s: try again", p.id, anchorWithin)
		}
	}
}

func (p *pump) still(first bool, now time.Time) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone || !p.born:
		p.anchoring = false
		return false, fmt.Errorf("anchor %s: %w", p.id, ErrUnknownPump)
	case first && p.anchoring:
		return false, fmt.Errorf("%w: another anchor is being set here", ErrAnchor)
	}
	p.anchoring = true
	if p.state == StateRunning {
		p.drainLocked("", "being anchored", now)
		p.fetcher.mark(p)
	}
	return !p.working && p.leaving == nil && p.state != StateRunning && p.state != StateDraining, nil
}

// letGo has the pump go on: by the decision, if there is one. doubt: there may be one that could not be read; then it is read first.
func (p *pump) letGo(won Incarnation, runs []Run, doubt bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anchoring = false
	if p.gone {
		return // whoever has it now finds the decision
	}
	if won.anchor != nil {
		p.moveLocked(won, runs, now)
	} else if doubt {
		p.voidLocked()
		p.out.contended = true
	}
	switch p.state {
	case StateFinding, StateRetrying, StateYielded, StateHalted:
		p.told = true
		p.findLocked("", "anchored", 0, now)
	}
}

// anchorWay finds what an anchor does, and says it in the plan.
func (l *Link) anchorWay(ctx context.Context, p *pump, r AnchorRequest, plan *AnchorPlan) (wayOut, error) {
	w, source, err := l.standing(ctx, p, !r.DryRun, plan)
	if err != nil {
		return w, fmt.Errorf("anchor %s: %w", p.id, err)
	}
	switch at := int64(r.At); {
	case r.At == AnchorStart:
		plan.After = source.start
	case r.At == AnchorEnd:
		plan.After = source.end
	case at < source.start || at > source.end:
		return w, fmt.Errorf("%w: offset %d is not in the source's log, which has %d to %d; say an offset from %d to %d, start or end",
			ErrAnchor, at, source.start, source.end-1, source.start, source.end)
	default:
		plan.After = at
	}
	w.why = "anchored"
	if by := r.Author; by != "" {
		w.why += " by " + by
	}
	if r.Why != "" {
		w.why += ": " + r.Why
	}
	if err := l.passOver(ctx, p, &w, source, plan); err != nil {
		return w, fmt.Errorf("anchor %s: %w", p.id, err)
	}
	l.doubleUp(p, &w, plan)
	if plan.Lost == 0 && plan.Doubled == 0 {
		plan.Lines = append(plan.Lines, "nothing is left out, and nothing is doubled")
	}
	w.at.SourceNext, w.at.SourceEpoch = plan.After, -1
	return w, nil
}

// standing is where the pump would go on if what is wrong with its logs were accepted, and what the ledger says of that. Nothing is written.
// exact: the pump stands still, and what was in flight is looked for.
func (l *Link) standing(ctx context.Context, p *pump, exact bool, plan *AnchorPlan) (w wayOut, source bounds, err error) {
	p.mu.Lock()
	s := search{base: p.acked.clone(), doubt: doubt{examineFrom: -1, examineTo: -1}, hurt: p.hurt.source()}
	p.mu.Unlock()
	plan.Before = s.base.SourceNext
	w = wayOut{at: s.base, cuts: [2]int64{noCut, noCut}, lost: make(map[Reason]int64)}
	if err := l.identify(ctx, p.flow); err != nil {
		return w, source, err
	}
	for range 3 { // both topics may have been made anew
		_, _, _, err = l.survey(ctx, p, &search{base: w.at, doubt: s.doubt, hurt: s.hurt})
		d, damaged := damageIn(err)
		if err != nil && !damaged {
			return w, source, err
		}
		if !damaged {
			break
		}
		more, err := l.wayOut(ctx, p, search{base: w.at}, d)
		if err != nil {
			return w, source, err
		}
		plan.Lines = append(plan.Lines, d.Error())
		w.at, w.entries, w.runs = more.at, append(w.entries, more.entries...), append(w.runs, more.runs...)
		w.cuts = [2]int64{min(w.cuts[0], more.cuts[0]), min(w.cuts[1], more.cuts[1])}
		w.orphaned, w.doubled = w.orphaned+more.orphaned, w.doubled+more.doubled
		for reason, n := range more.lost {
			w.lost[reason] += n
		}
		s.hurt = false
	}
	end := int64(-1)
	if exact && len(plan.Lines) == 0 {
		if end, err = l.exactly(ctx, p, &w); err != nil {
			return w, source, err
		}
	}
	if source, err = l.sourceEnds(ctx, p); err != nil {
		return w, source, err
	}
	if end < 0 {
		last, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false)
		if err != nil {
			return w, source, err
		}
		end = last.Offset
	}
	if err = l.countOwn(ctx, p, &w, end); err != nil {
		return w, source, err
	}
	w.at.TargetFrom = end
	return w, source, nil
}

// identify asks which topics these are now: what the last look at the metadata saw may be gone.
func (l *Link) identify(ctx context.Context, f *flow) error {
	var ids [2][16]byte
	for i, c := range []*broker.Cluster{l.from, l.to} {
		topic := f.first().on(c.Name())
		m, err := c.Metadata(ctx, topic)
		if err == nil {
			err = m.Topics[topic].Err
		}
		if err != nil {
			return fmt.Errorf("ask %s for topic %s: %w", c.Name(), topic, err)
		}
		ids[i] = m.Topics[topic].ID
	}
	f.setIDs(ids[0], ids[1])
	return nil
}

// exactly moves the place behind what the target has taken and not acknowledged, and returns up to where the target was looked at; -1: the place
// could not be found. What another owner writes behind that is of an epoch that the anchor has fenced: whoever reads it says so.
func (l *Link) exactly(ctx context.Context, p *pump, w *wayOut) (end int64, err error) {
	f, err := l.locate(ctx, p, search{base: w.at.clone(), doubt: doubt{examineFrom: -1, examineTo: -1}})
	switch {
	case isHalt(err): // which is what the anchor is for
		return -1, nil
	case err != nil:
		return -1, err
	case f.anchored != nil:
		return -1, fmt.Errorf("%w: %s has just begun epoch %d here; look again", ErrAnchor, f.anchored.Writer, f.anchored.Epoch)
	}
	w.at, w.runs = f.place, append(w.runs, f.runs...)
	if f.busy {
		return f.place.TargetFrom, nil
	}
	return f.targetEnd, nil
}

// sourceEnds are the ends of the source's log, whatever log it is.
func (l *Link) sourceEnds(ctx context.Context, p *pump) (bounds, error) {
	start, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Earliest, false)
	if err != nil {
		return bounds{}, err
	}
	end, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Latest, false)
	return bounds{start.Offset, end.Offset}, err
}

// countOwn moves the lanes behind own batches on the target that the place does not know of: the next epoch has to be behind them.
func (l *Link) countOwn(ctx context.Context, p *pump, w *wayOut, end int64) error {
	if producers, err := l.to.Producers(ctx, p.id.Target(), p.id.Partition); err == nil { // not every broker tells
		for _, s := range producers {
			if origin, ours := p.flow.wroteThis(s.ID); ours {
				lane := w.at.lane(origin)
				lane.Epoch = max(lane.Epoch, s.Epoch)
				w.at.setLane(lane)
			}
		}
	}
	from := w.at.TargetFrom
	if !w.at.started() { // nothing durable says what is there
		start, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Earliest, false)
		if err != nil {
			return err
		}
		from = max(start.Offset, from-strayOffsets)
	}
	for at := from; at < end; {
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, recoveryFetchBytes, false)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			if at, err = l.afterRetention(ctx, p, at, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, _ []byte, origin string) error {
			lane := w.at.lane(origin)
			if h.ProducerEpoch > lane.Epoch {
				lane.Epoch = h.ProducerEpoch // its base is not known, and is not needed behind it
			}
			lane.Count += int64(h.LastOffsetDelta) + 1
			w.at.setLane(lane)
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

// passOver notes what an anchor behind the place leaves out.
func (l *Link) passOver(ctx context.Context, p *pump, w *wayOut, source bounds, plan *AnchorPlan) error {
	from := w.at.SourceNext
	if plan.After <= from {
		return nil
	}
	n, err := l.countSource(ctx, p, max(from, source.start), plan.After)
	if err != nil {
		return err
	}
	switch {
	case from >= source.start || n < 0:
	case l.sparse(p, &sourceReader{}): // how many records the deleted offsets held can only be told where there were no holes
		n = -1
	default:
		n += source.start - from
	}
	plan.Lost = n
	w.lost[ReasonAnchored] = max(0, n)
	w.entries = append(w.entries, l.entry(p, ReasonAnchored, from, plan.After-1, n, w.why))
	plan.Lines = append(plan.Lines, fmt.Sprintf("source offsets %d to %d are left out: %s", from, plan.After-1, recordsText(n)))
	return nil
}

// doubleUp notes what an anchor before the place copies once more.
func (l *Link) doubleUp(p *pump, w *wayOut, plan *AnchorPlan) {
	from := w.at.SourceNext
	if plan.After >= from {
		return
	}
	var m OffsetMap
	for _, r := range append(p.runList(), w.runs...) {
		m.Add(r)
	}
	i := Incarnation{Epoch: math.MaxInt16, Lanes: w.at.Lanes, anchor: &anchorage{sourceCut: w.cuts[0], targetCut: w.cuts[1]}}
	m.cut(i)
	for r := range m.all() {
		plan.Doubled += max(0, r.slice(plan.After, from).Records)
	}
	w.doubled += plan.Doubled
	w.entries = append(w.entries, l.entry(p, ReasonRepeated, plan.After, from-1, plan.Doubled, w.why))
	plan.Lines = append(plan.Lines, fmt.Sprintf("source offsets %d to %d are copied, of which the target has %s", plan.After, from-1, recordsText(plan.Doubled)))
}

func recordsText(n int64) string {
	switch n {
	case -1:
		return "nobody knows how many records"
	case 1:
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}

// countMost bounds what is read of a source to count what an anchor leaves out, and countFor the time for that.
const (
	countMost = 256 << 20
	countFor  = 20 * time.Second
)

// countSource counts the records between two source offsets that would be copied; -1 if that would take too long, or cannot be known.
func (l *Link) countSource(ctx context.Context, p *pump, from, to int64) (n int64, err error) {
	read, deadline := 0, l.now().Add(countFor)
	for at := from; at < to; {
		if read > countMost || l.now().After(deadline) {
			return -1, nil
		}
		frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, true)
		if err != nil {
			return 0, err
		}
		read += len(frame.Partitions[0].Batches)
		next := at
		err = p.flow.walk(&frame.Partitions[0], at, func(b *sourceBatch) error {
			if b.act != actSkip && b.header.BaseOffset < to {
				records, err := b.decode(finderDecodeBytes)
				if err != nil {
					return fmt.Errorf("%w: %w", errPoison, err)
				}
				for _, r := range records {
					if r.Offset < to {
						n++
					}
				}
			}
			next = max(next, b.header.NextOffset())
			return nil
		})
		frame.Release()
		if errors.Is(err, errPoison) {
			return -1, nil // what cannot be read is what an anchor may be for
		}
		if err != nil {
			return 0, err
		}
		if next == at {
			return -1, nil // the rest belongs to an open transaction: nobody knows what becomes of it
		}
		at = next
	}
	return n, nil
}
