package mirror

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// Records that cannot be copied. Who finds them: the walk over an answer (nothing there can be read), the packing of a batch (it does
// not decode, a record is over the target's limit), the time limits, or the target, which refuses a batch. A refused batch is read and packed
// anew, in pieces, until what is refused is one record that was packed here: until then it may be that the batch was damaged on its way,
// that the limits changed, or that its neighbours are well. Then a worker reads the batch once more from the source (inspect.go), and what
// is still bad is halted before, or left out by the link's policy: skip.go and deadletter.go.

// poisoned is what stands behind the last record that was copied, and cannot be copied as things are.
type poisoned struct {
	cause       Cause
	first, last int64 // source offsets, inclusive; last -1: where it ends is not known
	detail      string
	refused     bool  // the target said so, of one record
	need        int   // bytes that the target would have to take; 0 unknown
	time        int64 // of the record, ms
	refusal     error // what the target said
}

func (e *poisoned) Error() string { return e.detail }

// poisonOf says what an error of reading or packing is a case of; at is where the first batch that was not taken begins.
func poisonOf(err error, at int64) *poisoned {
	var known *poisoned
	var large *errTooLarge
	var late *errTooLate
	bad := &poisoned{cause: CausePoison, first: at, last: -1, detail: err.Error()}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		bad.cause, bad.first, bad.last, bad.need = CauseLarge, large.offset, large.offset, large.bytes
	case errors.As(err, &late):
		bad.cause, bad.first, bad.last, bad.time = CauseLate, late.offset, late.next-1, late.time
	}
	return bad
}

// still reports whether the target's limits stand against the records as before; known is false where they tell nothing.
func (e *poisoned) still(lim limits, now time.Time) (still, known bool) {
	switch {
	case e.cause == CauseLarge && e.need > 0 && lim.maxBytes > 0:
		return e.need > lim.maxBytes, true
	case e.cause == CauseLate && !e.refused:
		return e.time > lim.latest(now), true
	case e.cause == CauseLate || e.cause == CauseEarly:
		return e.time > lim.latest(now) || e.time < lim.earliest(now), e.time > lim.latest(now) || lim.beforeMax > 0
	case e.cause == CauseNullKey:
		return lim.cleaned, true
	}
	return false, false
}

// refusals are what a target says of the records themselves, or of how they are packed.
var refusals = []*kerr.Error{kerr.CorruptMessage, kerr.UnsupportedCompressionType, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.MessageTooLarge, kerr.RecordListTooLarge}

// ofRecords reports whether the target's error is about what is in the batch.
func ofRecords(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// causeOfRefusal is the word for a refusal of a record with this time; keyless says that it has no key.
func causeOfRefusal(err error, lim limits, keyless bool, at int64, now time.Time) Cause {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return CauseLarge
	case errors.Is(err, kerr.InvalidTimestamp) && at > now.UnixMilli():
		return CauseLate
	case errors.Is(err, kerr.InvalidTimestamp):
		return CauseEarly
	case errors.Is(err, kerr.InvalidRecord) && lim.cleaned && keyless:
		return CauseNullKey
	}
	return CausePoison
}

// trial is what a pump knows of records that may not be fit to be copied.
type trial struct {
	poison  error     // what stands behind the last queued batch and cannot be copied
	bad     *poisoned // what the pump is halted before, or is about to leave out
	said    int64     // the offset that was last logged
	suspect distrust
}

// distrust is that something in a stretch of source offsets is refused by the target.
type distrust struct {
	first, next int64 // [first, next); next 0: none
	piece       int   // most records of a batch, so that refusals tell more
	plain       bool  // the codec was refused: they go unpacked
	verdict     *poisoned
	tries       int // verdicts in a row
}

// on reports whether the distrust is about some of a batch.
func (s *distrust) on(h batch.Header) bool { return h.BaseOffset < s.next && h.LastOffset() >= s.first }

// about is the distrust if it is about some of a batch, else nil.
func (s *distrust) about(h batch.Header) *distrust {
	if s.next == 0 || !s.on(h) {
		return nil
	}
	return s
}

// parts cuts records into what is packed apart: what is suspected in pieces, and apart from the rest.
func (s *distrust) parts(records []batch.Record) (out [][]batch.Record) {
	if s == nil {
		return [][]batch.Record{records}
	}
	from := 0
	class := func(r batch.Record) bool { return r.Offset >= s.first && r.Offset < s.next }
	for i := 1; i <= len(records); i++ {
		inside := class(records[from])
		if i == len(records) || class(records[i]) != inside || inside && i-from >= s.piece {
			out = append(out, records[from:i])
			from = i
		}
	}
	return out
}

// pieces is how many batches a suspected one is cut into.
const pieces = 16

// suspectLocked takes the target's refusal of a batch for what is in it: it is read again, and packed in smaller ones.
func (p *pump) suspectLocked(b *outBatch, err error, now time.Time) {
	last := b.spans[len(b.spans)-1]
	first, next := b.spans[0].first, last.end()
	cause := causeOfRefusal(err, p.flow.limits(), true, b.maxTime, now)
	s := &p.out.suspect
	if b.alone && b.records == 1 {
		s.tries++
		s.verdict = &poisoned{cause: cause, first: first, last: first, refused: true, refusal: err, time: b.maxTime,
			detail: fmt.Sprintf("the target refuses the record at source offset %d: %v%s", first, err, remedy(err))}
	} else {
		*s = distrust{first: first, next: next, piece: max(1, int(b.records)/pieces),
			plain: errors.Is(err, kerr.UnsupportedCompressionType)}
	}
	p.flow.rejudge() // its limits may have changed
	p.link.poke()
	p.drainLocked(cause, fmt.Sprintf("target refused records from source offset %d: %v%s", first, err, remedy(err)), now)
}

// verdictLocked is what is certain about the next record to be copied, nil if nothing is.
func (p *pump) verdictLocked() error {
	v := p.out.suspect.verdict
	if v == nil {
		return nil
	}
	p.out.suspect.verdict = nil
	if p.acked.SourceNext > v.first {
		return nil // it has been copied meanwhile, or left out
	}
	return v
}

// rejudge has the settings of both topics read in the next pass.
func (f *flow) rejudge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judged = time.Time{}
}

// poisonLocked stops before records that cannot go to the target as things are. A worker looks at them once more.
func (p *pump) poisonLocked(err error, now time.Time) {
	bad := poisonOf(err, p.acked.SourceNext)
	p.voidLocked()
	p.out.bad, p.nextTry = bad, now
	p.becomeLocked(StateRetrying, bad.cause, "reading once more: "+bad.detail, now)
	p.link.agenda.add(p, 0)
}

// poisonRecheck is how often a pump that is halted before bad records looks whether the cause is gone, or the policy another one. Trying
// again at the target takes twice as long.
const poisonRecheck = 3 * time.Second

// haltBeforeLocked halts the pump before bad records, until they can be copied or the policy says that they are left out.
func (p *pump) haltBeforeLocked(bad *poisoned, now time.Time) {
	detail := fmt.Sprintf("%s; the partition goes on when they can be copied, or by poison = \"dead-letter\" or \"skip\" of link %s", bad.detail, p.link.name)
	p.voidLocked()
	if p.state != StateHalted && p.out.said != bad.first+1 {
		p.out.said = bad.first + 1
		p.link.log.Error("pump halted", "pump", p.id.String(), "state", string(bad.cause), "detail", detail)
	}
	p.out.bad, p.attempts = bad, 0
	p.becomeLocked(StateHalted, bad.cause, fmt.Sprintf("%s: %s", bad.cause, detail), now)
	after := poisonRecheck
	if _, known := bad.still(p.flow.limits(), now); !known {
		after <<= min(p.out.suspect.tries, 1)
	}
	p.lookLaterLocked(after, now)
}

// lookLaterLocked has a worker look at the pump again.
func (p *pump) lookLaterLocked(after time.Duration, now time.Time) {
	after = p.link.jitter(after)
	p.nextTry = now.Add(after)
	p.link.agenda.add(p, after)
}
