package mirror

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// verifyBytes is what a verification asks for at a time.
const verifyBytes = 2 << 20

// verifying compares one partition.
type verifying struct {
	link *Link
	flow *flow
	id   PumpID
	pace *pace
	tell func(at float64, v *verifying)

	place  Checkpoint // up to which it is compared
	claims claims
	c      *comparer
	source logReader
	target logReader
	sums   sums
	out    VerifiedPartition
}

// claims is what an offset map says of single records.
type claims interface {
	mapView
	// sourceOf is what the record at a target offset is the copy of.
	sourceOf(target int64) (source int64, ok bool)
	// first is the first source offset that was copied.
	first() (source int64, ok bool)
}

func (m *storedMap) sourceOf(target int64) (int64, bool) { return m.offsets.SourceOf(target) }
func (m *storedMap) first() (int64, bool)                { return m.offsets.First() }

func (p *pump) sourceOf(target int64) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.SourceOf(target)
}

func (p *pump) first() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.First()
}

// standing is where a partition's copy is now, here or, of one that is elsewhere, by what is durable.
func (v *verifying) standing(ctx context.Context) error {
	v.flow.mu.Lock()
	var p *pump
	if int(v.id.Partition) < len(v.flow.pumps) {
		p = v.flow.pumps[v.id.Partition]
	}
	v.flow.mu.Unlock()
	if p != nil && p.here() {
		p.mu.Lock()
		defer p.mu.Unlock()
		v.place, v.claims = p.acked.clone(), p
		return p.unread
	}
	if err := v.link.store.refresh(ctx); err != nil {
		return err
	}
	c, ok := v.link.store.best(v.id)
	m, _, err := v.link.store.durable(v.id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %w", v.id, ErrUnknownPump)
	}
	v.place, v.claims = c, m.(*storedMap)
	return nil
}

// run compares the partition.
func (v *verifying) run(ctx context.Context, r VerifyRequest) error {
	v.out.Topic, v.out.Partition = v.id.Topic, v.id.Partition
	if err := v.standing(ctx); err != nil {
		return err
	}
	if err := v.begin(ctx, r); err != nil {
		return err
	}
	defer v.source.close()
	defer v.target.close()
	d, err := v.c.run()
	if d == nil && err == nil {
		d, err = v.settleDebts(ctx)
	}
	v.finish(d)
	return err
}

// proven tells the audit that a range is identical.
func (v *verifying) proven() {
	if pumps := v.flow.pumpList(); int(v.id.Partition) < len(pumps) {
		pumps[v.id.Partition].proven(v.out.From, v.out.To)
	}
}

// finish writes down what was found.
func (v *verifying) finish(d *Difference) {
	v.out.Records, v.out.Difference = v.c.records, d
	v.out.To, v.out.TargetTo = max(v.out.From, v.c.next), max(v.out.TargetFrom, v.c.tnext)
	if d == nil { // what comes after the last record is nothing to copy
		v.out.To, v.out.TargetTo = max(v.out.From, v.c.to), max(v.out.TargetFrom, v.c.tnext)
	}
	v.out.Digest = v.sums.upTo(v.out.To)
	if v.c.over > 0 {
		v.note(v.out.From, v.c.over, fmt.Sprintf("cleaned away; more than %d keys at a time are not followed", owedMost))
	}
}

// begin finds out what is to be compared: what both logs still have of what was copied.
func (v *verifying) begin(ctx context.Context, r VerifyRequest) error {
	if err := v.sameTopics(ctx); err != nil {
		return err
	}
	start, err := v.link.from.ListOffsets(ctx, v.id.Topic, v.id.Partition, broker.Earliest, false)
	if err != nil {
		return err
	}
	tstart, err := v.link.to.ListOffsets(ctx, v.id.Target(), v.id.Partition, broker.Earliest, false)
	if err != nil {
		return err
	}
	to := v.place.SourceNext
	if r.To >= 0 {
		to = min(to, r.To)
	}
	from := max(start.Offset, r.From)
	if r.From >= 0 && r.From < start.Offset {
		v.note(r.From, -1, "no longer at the source")
		v.out.Notes[0].To = min(start.Offset, to)
	}
	first, copied := v.claims.first()
	if kind := v.link.terms().Start.Kind; kind != topology.Earliest && (!copied || first > from) {
		began := first
		if !copied {
			began = v.place.SourceNext
		}
		v.skipTo(&from, began, "the link began after it")
	}
	tfrom := tstart.Offset
	if at, ok := v.claims.lookup(bySource, from, ""); copied && (first < from || r.From >= 0) {
		if tfrom = at; !ok {
			tfrom = v.place.TargetFrom
		}
	}
	if tstart.Offset > tfrom {
		if at, ok := v.claims.lookup(byTarget, tstart.Offset, ""); ok {
			v.skipTo(&from, at, "no longer on the target")
		} else {
			v.skipTo(&from, to, "no longer on the target")
		}
		tfrom = tstart.Offset
	}
	from = min(from, to)
	v.out.From, v.out.TargetFrom = from, tfrom
	v.readers(ctx, from, tfrom, to)
	return nil
}

// skipTo moves the beginning.
func (v *verifying) skipTo(from *int64, to int64, why string) {
	if to > *from {
		v.note(*from, -1, why)
		v.out.Notes[len(v.out.Notes)-1].To = to
		*from = to
	}
}

// readers sets up both logs and the comparer.
func (v *verifying) readers(ctx context.Context, from, tfrom, to int64) {
	l := v.link
	v.sums = newSums()
	v.source = logReader{v: v, cluster: l.from, committed: true, at: from, upTo: v.place.SourceNext, walk: v.walkSource}
	v.target = logReader{v: v, cluster: l.to, at: tfrom, upTo: v.place.TargetFrom, walk: v.walkTarget}
	v.c = &comparer{to: to, cleaned: v.flow.limits().cleaned, owed: newOwed(), proved: proved{next: from, tnext: tfrom},
		claim: v.claims.sourceOf, note: v.note, earlier: func(at int64) []batch.Record { return v.earlier(ctx, at) }}
	v.c.source = stream{upTo: v.source.upTo, pull: func() (*sourceBatch, error) { return v.source.next(ctx) }}
	v.c.target = stream{upTo: v.target.upTo, pull: func() (*sourceBatch, error) { return v.target.next(ctx) }}
	v.c.declared, v.c.leftTo = l.store.declared(v.id), l.store.leftTo(v.id)
}

// leftTo is the target offset before which records of a pump may be of a log that was cut off at the source since, or made anew.
func (s *store) leftTo(p PumpID) (target int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		for _, i := range st.anchorsLocked() {
			if i.anchor.sourceCut != noCut {
				target = max(target, i.anchor.targetFrom)
			}
		}
	}
	return target
}

// declared are the entries of a pump's ledger that may explain a difference, each with what of its range is still the log that it is of: the
// records of another log that have these offsets by now are to be on the target like any.
func (s *store) declared(p PumpID) (out []LedgerEntry) {
	for _, e := range s.entries() {
		if e.Pump == p && e.Reason != ReasonForged {
			out = append(out, s.clipped(e))
		}
	}
	return out
}

// clipped is an entry without the offsets that have been cut off the source since. An anchor that leaves records out, or copies some again,
// and cuts the source as well, says so of the log that it goes on with.
func (s *store) clipped(e LedgerEntry) LedgerEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.log == leftLog {
		e.Last = e.First - 1
	}
	st := s.pumps[e.Pump]
	if st == nil {
		return e
	}
	for _, i := range st.anchorsLocked() {
		own := e.Reason == ReasonAnchored && i.Source == e.Last+1 || e.Reason == ReasonRepeated && i.Source == e.First
		if i.Epoch > e.log && !own {
			e.Last = min(e.Last, max(e.First, i.anchor.sourceCut)-1)
		}
	}
	return e
}

// sameTopics says if the copy was of topics that are others by now; then what is there is compared all the same.
func (v *verifying) sameTopics(ctx context.Context) error {
	for _, side := range []struct {
		c  *broker.Cluster
		id [16]byte
	}{{v.link.from, v.place.SourceTopicID}, {v.link.to, v.place.TargetTopicID}} {
		topic := v.id.on(side.c.Name())
		m, err := side.c.Metadata(ctx, topic)
		if err != nil {
			return err
		}
		t := m.Topics[topic]
		if t.Err != nil {
			return fmt.Errorf("topic %s of %s: %w", topic, side.c.Name(), t.Err)
		}
		if side.id != [16]byte{} && t.ID != [16]byte{} && t.ID != side.id {
			v.out.Notes = append(v.out.Notes, VerifyNote{Records: -1, Why: fmt.Sprintf("topic %s of %s was deleted and created again since it was copied", topic, side.c.Name())})
		}
	}
	return nil
}

// notesMost bounds what is told of one partition.
const notesMost = 100

// note adds source offsets that were not compared. Neighbours with the same reason are one note, and all that a cleaner took.
func (v *verifying) note(source, records int64, why string) {
	for i := range v.out.Notes {
		n := &v.out.Notes[i]
		joined := why == whyLost || why == whyGone || len(v.out.Notes) >= notesMost || i == len(v.out.Notes)-1 && source <= n.To
		if n.Why == why && joined {
			n.From, n.To = min(n.From, source), max(n.To, source+max(1, records))
			if n.Records >= 0 && records >= 0 {
				n.Records += records
			}
			return
		}
	}
	v.out.Notes = append(v.out.Notes, VerifyNote{From: source, To: source + max(1, records), Records: records, Why: why})
}

// earlierOffsets is how far back a record that is there twice is looked for.
const earlierOffsets = 1000

// earlier reads records of the source that were compared already. What cannot be read is not there.
func (v *verifying) earlier(ctx context.Context, at int64) (out []batch.Record) {
	for from := max(v.out.From, at-earlierOffsets); from < at; {
		frame, err := v.link.from.FetchOnce(ctx, v.id.Topic, v.id.Partition, from, verifyBytes, true)
		if err != nil {
			return out
		}
		next := from
		err = v.flow.walk(&frame.Partitions[0], from, func(s *sourceBatch) error {
			next = max(next, s.header.NextOffset())
			if s.act == actSkip || s.header.BaseOffset >= at {
				return nil
			}
			records, err := s.decode(finderDecodeBytes)
			out = append(out, records...)
			return err
		})
		frame.Release()
		if err != nil || next == from {
			break
		}
		from = next
	}
	return slices.DeleteFunc(out, func(r batch.Record) bool { return r.Offset >= at })
}

// settleDebts reads on, and everybody's records, for what a cleaner may have had in mind.
func (v *verifying) settleDebts(ctx context.Context) (*Difference, error) {
	for _, side := range []struct {
		c         *broker.Cluster
		owed      map[uint64]debt
		committed bool
	}{{v.link.to, v.c.lost, true}, {v.link.from, v.c.gone, true}} {
		if len(side.owed) == 0 {
			continue
		}
		start, err := side.c.ListOffsets(ctx, v.id.on(side.c.Name()), v.id.Partition, broker.Earliest, false)
		if err != nil {
			return nil, err
		}
		err = side.c.ReadRange(ctx, v.id.on(side.c.Name()), v.id.Partition, max(start.Offset, earliest(side.owed)), -1, side.committed, func(r broker.Record) error {
			v.c.settle(side.owed, batch.Record{Offset: r.Offset, Key: r.Key})
			if len(side.owed) == 0 {
				return io.EOF
			}
			return nil
		})
		if notEnd(err) != nil {
			return nil, err
		}
	}
	return v.c.unpaid(), nil
}
