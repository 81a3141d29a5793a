package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// inspection is one look of a worker at bad records.
type inspection struct {
	bad     *poisoned
	from    int64 // source offset where copying stopped
	suspect distrust
	halted  bool
	at      Checkpoint // of copying
	desks   desks      // where it has a place
}

// conclusion is what came of it. Without stretches the pump goes on: what was bad is not, or has to be tried.
type conclusion struct {
	found []stretch
	left  bool // they are left out, and the ledger says so
	err   error
}

// stretch is a range of source records that cannot be copied.
type stretch struct {
	poisoned
	records int64 // -1 unknown
	kind    string
	raw     []byte
}

// inspectTimeout bounds one look, and the writing of what is left out.
const inspectTimeout = time.Minute

// inspect looks at a pump that stands before bad records. False: this one does not.
func (l *Link) inspect(ctx context.Context, p *pump) bool {
	in, due, mine := p.beginInspection(l.now())
	if !due {
		if mine {
			p.passOn()
		}
		return mine
	}
	defer in.desks.leave(l.agenda)
	call, cancel := context.WithTimeout(ctx, inspectTimeout)
	c := l.conclude(call, p, in)
	cancel()
	if ctx.Err() == nil { // else the link ends
		p.endInspection(in, c, l.now())
	}
	return true
}

// beginInspection takes what the look starts from. mine is false for pumps that have nothing to be looked at.
func (p *pump) beginInspection(now time.Time) (in inspection, due, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.bad == nil {
		return in, false, false
	}
	if p.told || p.state != StateHalted && p.state != StateRetrying {
		p.out.bad = nil // somebody has it try again, whatever is known
		return in, false, false
	}
	if wait := p.waitLocked(now); wait > 0 {
		p.link.agenda.add(p, wait)
		return in, false, true
	}
	if p.working || p.anchoring || p.window == nil || p.fetcher == nil {
		return in, false, true
	}
	if !mayResume(p.cause, p.knownLocked()) {
		p.holdLocked(now)
		return in, false, true
	}
	at := desks{p.window.desk, p.fetcher.desk}
	if !at.enter(p) {
		return in, false, true // its turn comes
	}
	p.working, p.futile = true, false
	return inspection{bad: p.out.bad, from: p.acked.SourceNext, suspect: p.out.suspect, halted: p.state == StateHalted, at: p.acked.clone(), desks: at}, true, true
}

// endInspection acts on what came of it.
func (p *pump) endInspection(in inspection, c conclusion, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = false
	if p.out.bad != in.bad || p.state != StateHalted && p.state != StateRetrying {
		return // somebody else has seen to it, or the pump has to go
	}
	switch {
	case c.err != nil:
		p.link.metrics.failed(p, c.err)
		p.becomeLocked(p.state, in.bad.cause, fmt.Sprintf("%s: %v", in.bad.detail, c.err), now)
		p.lookLaterLocked(max(p.backoffLocked(), time.Second), now)
	case c.left:
		p.out.bad, p.out.suspect, p.attempts = nil, distrust{}, 0
		p.link.metrics.leftOut(p, c.found)
		p.findLocked("", "going on behind what was left out", 0, now)
	case len(c.found) == 0:
		after := time.Duration(0)
		if !in.halted { // who was halted has waited
			after = p.backoffLocked()
		}
		p.out.bad = nil
		p.findLocked(in.bad.cause, "trying again: "+in.bad.detail, after, now)
	default:
		bad := c.found[0].poisoned
		p.haltBeforeLocked(&bad, now)
	}
}

// conclude reads the records once more and does with what is still bad as the policy says now.
func (l *Link) conclude(ctx context.Context, p *pump, in inspection) (c conclusion) {
	policy := l.terms().Policy.Poison
	halts := policy != topology.DeadLetter && policy != topology.SkipPoison
	if in.halted && halts {
		p.flow.rejudge() // the next pass shows whether the cause is gone at the target
		still, known := in.bad.still(p.flow.limits(), l.now())
		switch {
		case known && still:
			return conclusion{found: []stretch{{poisoned: *in.bad}}}
		case known || in.bad.refused:
			return conclusion{} // only the target can tell
		}
	}
	c.found, c.err = l.badAt(ctx, p, in)
	if c.err != nil || halts || len(c.found) == 0 {
		return c
	}
	if stand, err := l.limitsStand(ctx, p.flow, c.found[0].cause); err != nil || !stand {
		c.err = err
		return c
	}
	entries, err := l.leaveOut(ctx, p, c.found, policy, l.store.logOf(in.at))
	withdrawn := false
	if err == nil {
		withdrawn, err = l.withdraw(ctx, p, in.at, c.found, entries)
	}
	if withdrawn {
		return conclusion{} // the next look finds who copied them
	}
	c.left, c.err = err == nil, err
	return c
}

// badAt reads the first source batch that is still to be copied, over another connection, and returns what of it cannot be.
func (l *Link) badAt(ctx context.Context, p *pump, in inspection) (found []stretch, err error) {
	frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, in.from, recoveryFetchBytes, true)
	if err != nil {
		return nil, atSource(fmt.Errorf("read the bad records once more: %w", err))
	}
	defer frame.Release()
	err = p.flow.walk(&frame.Partitions[0], in.from, func(s *sourceBatch) error {
		if s.act == actSkip {
			return nil
		}
		found = l.badIn(p, s, in)
		return errEnough
	})
	var nothing *unreadable
	switch {
	case errors.Is(err, errEnough):
		return found, nil
	case errors.As(err, &nothing):
		s, err := l.extent(ctx, p, nothing)
		return []stretch{s}, err
	}
	return nil, err
}

// badIn returns the records of a batch that cannot be copied: those that the target's limits are against, and the one it refused. Of a
// batch that cannot be taken apart although it has to be, it is all.
func (l *Link) badIn(p *pump, s *sourceBatch, in inspection) (found []stretch) {
	suspected := in.suspect.on(s.header)
	if err := unknownCodec(s.header); err != nil {
		return []stretch{wholeBatch(s, err)}
	}
	late := in.bad.cause == CauseLate && !in.bad.refused
	if s.act == actCopy && !suspected && !in.bad.refused && !late {
		return nil
	}
	records, err := s.decode(l.cfg.DecodeBytes)
	if err != nil {
		return []stretch{wholeBatch(s, err)}
	}
	lim, now := p.flow.limits(), l.now()
	for _, r := range records {
		if bad := badRecord(r, s.of(s.header), lim, now, in.bad); bad != nil {
			raw, err := batch.Encode(nil, []batch.Record{r}, batch.None, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
			if err != nil {
				return []stretch{wholeBatch(s, err)}
			}
			binary.BigEndian.PutUint64(raw, uint64(r.Offset)) // the checksum does not cover it
			found = append(found, stretch{poisoned: *bad, records: 1, kind: letterRecord, raw: raw})
		}
	}
	return found
}

// badRecord says why a record cannot be copied, nil if it can as far as is known.
func badRecord(r batch.Record, codec batch.Codec, lim limits, now time.Time, bad *poisoned) *poisoned {
	out := &poisoned{first: r.Offset, last: r.Offset, time: r.Timestamp}
	timed := bad.cause == CauseLate || bad.cause == CauseEarly
	if _, err := encodeWithin([]batch.Record{r}, codec, lim.maxBytes); err != nil {
		var large *errTooLarge
		if errors.As(err, &large) {
			out.need = large.bytes
		}
		out.cause, out.detail = CauseLarge, err.Error()
		return out
	}
	switch {
	case r.Timestamp > lim.latest(now):
		out.cause, out.detail = CauseLate, (&errTooLate{offset: r.Offset, next: r.Offset + 1, time: r.Timestamp, most: lim.latest(now)}).Error()
	case timed && r.Timestamp < lim.earliest(now):
		out.cause, out.refused = CauseEarly, true
		out.detail = fmt.Sprintf("the record at source offset %d has the time %d ms, the target topic takes none before %d: raise message.timestamp.before.max.ms there",
			r.Offset, r.Timestamp, lim.earliest(now))
	case bad.cause == CauseNullKey && lim.cleaned && r.Key == nil:
		out.cause = CauseNullKey
		out.detail = fmt.Sprintf("the record at source offset %d has no key, which a compacted topic does not take", r.Offset)
	case bad.refused && bad.first == r.Offset:
		*out = *bad
		out.cause = causeOfRefusal(bad.refusal, lim, r.Key == nil, r.Timestamp, now)
	default:
		return nil
	}
	return out
}

// unknownCodec refuses what no Kafka can unpack: some brokers answer it with an error that looks like an accident.
func unknownCodec(h batch.Header) error {
	if h.Codec() > batch.Zstd {
		return fmt.Errorf("source batch at offset %d is packed with %v, which Kafka does not know", h.BaseOffset, h.Codec())
	}
	return nil
}

// wholeBatch is all of a batch that is still to be copied.
func wholeBatch(s *sourceBatch, err error) stretch {
	first := max(s.from, s.header.BaseOffset)
	w := stretch{poisoned: poisoned{cause: CausePoison, first: first, last: s.header.LastOffset(), detail: err.Error()},
		records: -1, kind: letterBatch, raw: bytes.Clone(s.raw)}
	if first == s.header.BaseOffset && len(s.omitted) == 0 {
		w.records = int64(s.header.Records)
	}
	return w
}

// extent finds where bytes end that nobody can read: a source gives the same bytes for every offset that they stand for.
func (l *Link) extent(ctx context.Context, p *pump, u *unreadable) (stretch, error) {
	s := stretch{poisoned: poisoned{cause: CausePoison, first: u.at, detail: u.Error()}, records: -1, kind: letterBatch}
	end, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Latest, true)
	if err != nil {
		return s, atSource(err)
	}
	mark := u.rest[:min(len(u.rest), batch.HeaderSize)]
	var behind []byte // how what comes next begins
	same := func(at int64) (bool, error) {
		if at >= end.Offset {
			return false, nil
		}
		frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, 1, true)
		if err != nil {
			return false, atSource(err)
		}
		defer frame.Release()
		got := frame.Partitions[0].Batches
		if bytes.HasPrefix(got, mark) {
			return true, nil
		}
		behind = bytes.Clone(got[:min(len(got), batch.HeaderSize)])
		return false, nil
	}
	next, err := firstOther(u.at, same)
	if err != nil {
		return s, err
	}
	s.last, s.raw = next-1, bytes.Clone(u.rest)
	if cut := bytes.Index(s.raw, behind); cut > 0 {
		s.raw = s.raw[:cut]
	}
	return s, nil
}

// firstOther returns the first offset behind at for which same is false; it is true for all before.
func firstOther(at int64, same func(int64) (bool, error)) (int64, error) {
	low, step := at, int64(1) // same at low
	for {
		ok, err := same(low + step)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		low, step = low+step, 2*step
	}
	high := low + step
	for high-low > 1 {
		mid := low + (high-low)/2
		ok, err := same(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	return high, nil
}

// leaveOut makes it durable that the stretches are not copied: the letters first, then the ledger, which is what counts. Who is killed
// in between begins again; the letters have the same keys then.
func (l *Link) leaveOut(ctx context.Context, p *pump, found []stretch, policy topology.OnPoison, log int16) (entries []LedgerEntry, err error) {
	reason := ReasonSkipped
	if policy == topology.DeadLetter {
		reason = ReasonDeadLetter
		all := make([]DeadLetter, 0, len(found))
		for _, s := range found {
			all = append(all, DeadLetter{Pump: p.id, First: s.first, Last: s.last, Cause: string(s.cause), Detail: s.detail,
				Writer: l.writer, At: l.now(), Kind: s.kind, Raw: s.raw})
		}
		if err := l.writeLetters(ctx, all); err != nil {
			return nil, err
		}
	}
	entries = l.entriesOf(p.id, found, reason, policy)
	for i := range entries {
		entries[i].log = log
	}
	if err := l.store.enter(ctx, entries...); err != nil {
		return nil, err
	}
	if left, ok := p.mayTell(l.now()); ok {
		l.log.Warn("records left out", "pump", p.id.String(), "policy", string(policy), "cause", string(found[0].cause),
			"first", found[0].first, "last", found[len(found)-1].last, "detail", found[0].detail, "lines_left_out", left)
	}
	return entries, nil
}

// entriesOf makes entries of the ledger: one of neighbours for the same cause. The digest is that of their bytes, one after the other.
func (l *Link) entriesOf(id PumpID, found []stretch, reason Reason, policy topology.OnPoison) (out []LedgerEntry) {
	for i := 0; i < len(found); {
		e := LedgerEntry{Link: l.name, Pump: id, First: found[i].first, Reason: reason, At: l.now(), Writer: l.writer, Policy: string(policy),
			Detail: fmt.Sprintf("%s: %s", found[i].cause, found[i].detail)}
		sum := sha256.New()
		for cause := found[i].cause; i < len(found) && found[i].cause == cause && (e.Last == 0 && e.Records == 0 || found[i].first == e.Last+1); i++ {
			sum.Write(found[i].raw)
			e.Last = found[i].last
			if found[i].records < 0 || e.Records < 0 {
				e.Records = -1
			} else {
				e.Records += found[i].records
			}
		}
		e.Digest = hex.EncodeToString(sum.Sum(nil))
		out = append(out, e)
	}
	return out
}
