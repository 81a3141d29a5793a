package mirror

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// comparer holds the records that a link should have copied against those that its target has of it, in step, and says what the
// first difference is. It is pure: both logs, the offset map and the ledger come in through functions.
//
// Where nothing was declared and nothing may have been cleaned, content decides: the two are one sequence, and a difference is
// named by what makes the rest fit again. Else the offset map decides which two records belong together.
type comparer struct {
	source, target stream
	to             int64 // source offsets from it on are looked at only to understand what is before it
	cleaned        bool  // records may be gone from either log because later ones have their keys

	// claim is the source offset that a record of the target is the copy of by the offset map; nil = nobody knows.
	claim func(target int64) (source int64, ok bool)
	// leftTo: records of the target before it that the map does not know are of a log that the source has no longer.
	leftTo int64
	// earlier returns source records from shortly before an offset, to tell what is there twice.
	earlier  func(source int64) []batch.Record
	declared []LedgerEntry
	note     func(source, records int64, why string)
	owed
	proved
}

// proved is what a comparer found to be the same.
type proved struct {
	records int64
	next    int64 // source offset after the last record that was looked at
	tnext   int64 // the same on the target
}

// stream is one of the two logs: its batches in order, and what was decoded of them.
type stream struct {
	pull  func() (*sourceBatch, error) // io.EOF at the end
	upTo  int64                        // records from it on are not wanted
	cur   *sourceBatch                 // not decoded yet
	ahead []batch.Record
	ended bool
}

// Bounds of what is looked at ahead to name a difference.
const (
	verifyAhead   = 64
	verifyAligned = 16 // so many records in a row that fit prove how it goes on
)

// whole returns the next batch, if nothing of it has been decoded yet.
func (s *stream) whole() (*sourceBatch, error) {
	if len(s.ahead) > 0 || s.ended {
		return nil, nil
	}
	if s.cur == nil {
		b, err := s.pull()
		if err != nil {
			s.ended = errors.Is(err, io.EOF)
			return nil, err
		}
		s.cur = b
	}
	return s.cur, nil
}

// look returns the record that comes i records after the next, or io.EOF.
func (s *stream) look(i int) (batch.Record, error) {
	for len(s.ahead) <= i {
		if s.ended {
			return batch.Record{}, io.EOF
		}
		if s.cur == nil {
			b, err := s.pull()
			if err != nil {
				s.ended = errors.Is(err, io.EOF)
				return batch.Record{}, err
			}
			s.cur = b
		}
		records, err := s.cur.decode(finderDecodeBytes)
		if err != nil {
			return batch.Record{}, &damaged{s.cur.header.BaseOffset, err}
		}
		s.cur = nil
		for n := len(records); n > 0 && records[n-1].Offset >= s.upTo; n-- {
			records = records[:n-1]
		}
		s.ahead = append(s.ahead, records...)
	}
	return s.ahead[i], nil
}

func (s *stream) drop(n int) { s.ahead = s.ahead[n:] }

// damaged is a batch that cannot be read.
type damaged struct {
	offset int64
	err    error
}

func (d *damaged) Error() string {
	if cause := (*batch.Error)(nil); errors.As(d.err, &cause) {
		return cause.Error()
	}
	return d.err.Error()
}

func (d *damaged) Unwrap() error { return d.err }

// run compares up to the end, or the first difference. An error is one of reading.
func (c *comparer) run() (*Difference, error) {
	for {
		if d, done, err := c.step(); d != nil || done || err != nil {
			return d, err
		}
	}
}

// step takes one batch or one record of either side, or of both.
func (c *comparer) step() (d *Difference, done bool, err error) {
	if same, err := c.batches(); same || err != nil {
		return nil, false, err
	}
	s, noSource := c.source.look(0)
	t, noTarget := c.target.look(0)
	var bad *damaged
	if errors.As(noSource, &bad) {
		if why := c.declaredAbsent(bad.offset); why != "" {
			c.note(bad.offset, -1, why)
			c.next, c.source.cur = c.source.cur.header.NextOffset(), nil
			return nil, false, nil
		}
	}
	if errors.As(noTarget, &bad) && noSource == nil {
		return &Difference{DifferenceChanged, s.Offset, bad.offset, "the target's batch cannot be read: " + bad.Error()}, true, nil
	}
	for _, err := range []error{noSource, noTarget} {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
	}
	if noTarget == nil {
		if _, known := c.claimed(t.Offset); c.left(t.Offset, known) {
			c.passTarget(t, c.next, whyLeft)
			return nil, false, nil
		}
	}
	switch {
	case noSource != nil && noTarget != nil, noSource == nil && s.Offset >= c.to && noTarget != nil:
		return nil, true, nil
	case noSource != nil:
		return c.onlyTarget(t)
	case noTarget != nil:
		return c.onlySource(s)
	}
	from, known := c.claimed(t.Offset)
	if s.Offset >= c.to && (known && from >= c.to || batch.Equal(s, t)) {
		return nil, true, nil
	}
	if known && (c.cleaned || len(c.declared) > 0) {
		return c.byMap(s, t, from)
	}
	if batch.Equal(s, t) {
		if known && from != s.Offset {
			return &Difference{DifferenceMapped, s.Offset, t.Offset, fmt.Sprintf("the offset map says that target offset %d is source offset %d", t.Offset, from)}, true, nil
		}
		c.match(s, t)
		return nil, false, nil
	}
	if why := c.declaredAbsent(s.Offset); why != "" {
		c.passSource(s, why)
		return nil, false, nil
	}
	if c.cleaned {
		return nil, false, c.unclaimed(s, t)
	}
	d, err = c.name(s, t)
	return d, true, err
}

// batches is the common case: the next batch of the target is the next one of the source, byte for byte, where the map says it is.
func (c *comparer) batches() (same bool, err error) {
	if len(c.lost)+len(c.gone) > 0 {
		return false, nil // their keys are looked for
	}
	s, err := c.source.whole()
	if s == nil {
		return false, notEnd(err)
	}
	t, err := c.target.whole()
	if t == nil {
		return false, notEnd(err)
	}
	h := s.header
	if s.act != actCopy || h.BaseOffset < s.from || t.header.BaseOffset < t.from || h.NextOffset() > c.to || !h.Dense() ||
		t.header.NextOffset() > c.target.upTo || !t.header.Dense() || !batch.SamePayload(s.raw, t.raw) || !batch.VerifyCRC(t.raw) {
		return false, nil
	}
	if from, known := c.claimed(t.header.BaseOffset); known && from != h.BaseOffset || c.left(t.header.BaseOffset, known) {
		return false, nil
	}
	c.records += int64(h.Records)
	c.next, c.tnext = h.NextOffset(), t.header.NextOffset()
	c.source.cur, c.target.cur = nil, nil
	return true, nil
}

func notEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *comparer) claimed(target int64) (int64, bool) {
	if c.claim == nil {
		return 0, false
	}
	return c.claim(target)
}

// whyLeft is what notes say of records that the source had before it was cut off there, or made anew.
const whyLeft = "of what the source had there before"

// left reports whether a record of the target, known to the map or not, is of a log that the source has no longer.
func (c *comparer) left(target int64, known bool) bool { return !known && target < c.leftTo }

// match takes a record of each side that are the same.
func (c *comparer) match(s, t batch.Record) {
	c.records++
	c.next, c.tnext = s.Offset+1, t.Offset+1
	c.superseded(s.Key)
	c.source.drop(1)
	c.target.drop(1)
}

// passSource leaves a record of the source out that the target need not have.
func (c *comparer) passSource(s batch.Record, why string) {
	c.note(s.Offset, 1, why)
	c.next = s.Offset + 1
	c.source.drop(1)
}

// passTarget leaves out a record of the target; source is the one that it is the copy of.
func (c *comparer) passTarget(t batch.Record, source int64, why string) {
	c.note(source, 1, why)
	c.tnext = t.Offset + 1
	c.target.drop(1)
}

// absent are the reasons for which the target may lack records, present those for which it may have some once more, or some
// that the source does not have any longer.
var (
	absent  = []Reason{reasonLeftTarget, ReasonRetention, ReasonSkipped, ReasonDeadLetter, ReasonTailAgain, ReasonTailDiverted, ReasonTailListed, ReasonAnchored, ReasonOrderBreak, ReasonTruncatedTarget, ReasonRecreated}
	present = []Reason{reasonLeftSource, ReasonRepeated, ReasonOrderBreak, ReasonAnchored, ReasonTruncatedSource, ReasonTruncatedTarget, ReasonRecreated}
)

func (c *comparer) declaredAbsent(source int64) string { return declaredIn(c.declared, absent, source) }
func (c *comparer) declaredPresent(source int64) string {
	return declaredIn(c.declared, present, source)
}

// declaredIn says which entry of the ledger explains a source offset for one of the reasons; empty: none.
func declaredIn(entries []LedgerEntry, reasons []Reason, source int64) string {
	for _, e := range entries {
		if source >= e.First && source <= e.Last && slices.Contains(reasons, e.Reason) {
			if e.Reason == reasonLeftSource || e.Reason == reasonLeftTarget {
				return string(e.Reason)
			}
			return "in the ledger: " + string(e.Reason)
		}
	}
	return ""
}

// declaredTo returns where an entry ends that says that a source offset need not be on the target.
func (c *comparer) declaredTo(source int64) (end int64, why string) {
	for _, e := range c.declared {
		if why := declaredIn([]LedgerEntry{e}, absent, source); why != "" {
			return e.Last + 1, why
		}
	}
	return source, ""
}

// byMap compares by what the offset map says: the next record of the target is the copy of source offset from.
func (c *comparer) byMap(s, t batch.Record, from int64) (d *Difference, done bool, err error) {
	switch {
	case from < s.Offset: // the source does not have it any longer, or it was copied once more
		if why := c.declaredPresent(from); why != "" {
			c.passTarget(t, from, why)
			return nil, false, nil
		}
		if from < c.next {
			return &Difference{DifferenceDoubled, from, t.Offset, "by the offset map it is there once more"}, true, nil
		}
		if c.cleaned {
			c.goneAtSource(t, from)
			return nil, false, nil
		}
	case from == s.Offset:
		if batch.Equal(s, t) {
			c.match(s, t)
			return nil, false, nil
		}
		if why := c.declaredPresent(from); why != "" {
			c.passTarget(t, from, why)
			return nil, false, nil
		}
		if c.cleaned {
			return &Difference{DifferenceChanged, s.Offset, t.Offset, unlike(s, t)}, true, nil
		}
	default:
		if why := c.declaredAbsent(s.Offset); why != "" {
			c.passSource(s, why)
			return nil, false, nil
		}
		if why := c.declaredPresent(from); why != "" { // it came too early
			c.passTarget(t, from, why)
			return nil, false, nil
		}
		if c.cleaned {
			c.lostByTarget(s)
			return nil, false, nil
		}
	}
	d, err = c.name(s, t)
	return d, true, err
}

// unclaimed compares two records of which the offset map knows nothing, in logs that are cleaned.
func (c *comparer) unclaimed(s, t batch.Record) error {
	inSource, err := c.source.find(t)
	if err != nil {
		return err
	}
	inTarget, err := c.target.find(s)
	if err != nil {
		return err
	}
	if inTarget < 0 || inSource >= 0 && inSource <= inTarget {
		c.lostByTarget(s)
	}
	if inSource < 0 || inTarget >= 0 && inTarget < inSource {
		c.goneAtSource(t, c.next)
	}
	return nil
}

// onlySource: the target has no more records of the link.
func (c *comparer) onlySource(s batch.Record) (d *Difference, done bool, err error) {
	if why := c.declaredAbsent(s.Offset); why != "" {
		c.passSource(s, why)
		return nil, false, nil
	}
	if c.cleaned {
		c.lostByTarget(s)
		return nil, false, nil
	}
	return &Difference{DifferenceMissing, s.Offset, -1, "the target ends before it"}, true, nil
}

// onlyTarget: the source has no more records that the link should have copied.
func (c *comparer) onlyTarget(t batch.Record) (d *Difference, done bool, err error) {
	from, known := c.claimed(t.Offset)
	if known && from >= c.to {
		return nil, true, nil
	}
	if why := c.declaredPresent(from); known && why != "" {
		c.passTarget(t, from, why)
		return nil, false, nil
	}
	if c.cleaned && (!known || from >= c.next) {
		if !known {
			from = c.next
		}
		c.goneAtSource(t, from)
		return nil, false, nil
	}
	d, err = c.surplus(t)
	return d, true, err
}
