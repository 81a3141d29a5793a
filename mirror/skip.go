package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// omitted are the source offsets of a pump that were left out by a policy: stretches in their order, which neither touch nor overlap. It is
// never changed, only replaced. Of one log it only grows: what the ledger has said is left out stays so, or who counts the records of the
// source from a checkpoint on would count others than who copied them.
type omitted []span

func (s span) end() int64 { return s.first + s.records }

// with returns the offsets with one more stretch.
func (o omitted) with(s span) omitted {
	if s.records <= 0 {
		return o
	}
	i := sort.Search(len(o), func(i int) bool { return o[i].end() >= s.first }) // touches it, or comes after
	j := i
	end := s.end()
	for ; j < len(o) && o[j].first <= end; j++ {
		s.first, end = min(s.first, o[j].first), max(end, o[j].end())
	}
	s.records = end - s.first
	return slices.Concat(o[:i], omitted{s}, o[j:])
}

// within returns those of the offsets that are in [first, last].
func (o omitted) within(first, last int64) omitted {
	i := sort.Search(len(o), func(i int) bool { return o[i].end() > first })
	j := i
	for j < len(o) && o[j].first <= last {
		j++
	}
	return o[i:j]
}

// covers reports whether every offset of [first, last] is left out.
func (o omitted) covers(first, last int64) bool {
	in := o.within(first, last)
	return len(in) == 1 && in[0].first <= first && in[0].end() > last
}

// past is where the stretch ends that an offset is in.
func (o omitted) past(offset int64) (end int64, ok bool) {
	in := o.within(offset, offset)
	if len(in) == 0 {
		return offset, false
	}
	return in[0].end(), true
}

// without takes the records out that are left out.
func (o omitted) without(records []batch.Record) []batch.Record {
	if len(o) == 0 {
		return records
	}
	kept := make([]batch.Record, 0, len(records))
	for _, r := range records {
		if _, out := o.past(r.Offset); !out {
			kept = append(kept, r)
		}
	}
	return kept
}

// omits reports whether the records of an entry are left out for good, by this reason.
func (r Reason) omits() bool {
	return r == ReasonDeadLetter || r == ReasonSkipped || r == ReasonTailAgain || r == ReasonTailDiverted || r == ReasonTailListed
}

// omits reports what a flow's partition leaves out. It is asked for every answer of the source: as long as no pump leaves anything out,
// it costs one look at a counter.
func (f *flow) omits(partition int32) omitted {
	if f.link.store.omitting.Load() == 0 {
		return nil
	}
	return f.link.store.omittedOf(f.pumpID(partition))
}

// omittedOf returns what a pump leaves out.
func (s *stateLog) omittedOf(p PumpID) omitted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.omitted[p]
}

// omission is what one entry of the ledger leaves out, of the log that began in an epoch.
type omission struct {
	span
	log int16
}

// omissions are those of a pump, by the keys of the entries.
type omissions map[string]omission

// omitLocked notes what an entry of the ledger leaves out.
func (s *stateLog) omitLocked(key string, l LedgerEntry) {
	if !l.Reason.omits() || l.log == leftLog {
		return
	}
	of := s.omissions[l.Pump]
	if of == nil {
		of = make(omissions)
		s.omissions[l.Pump] = of
	}
	was, known := of[key]
	now := omission{span{l.First, l.Last - l.First + 1}, l.log}
	of[key] = now
	if !known {
		s.omitsLocked(l.Pump, s.omitted[l.Pump].with(s.stillOfLocked(l.Pump, now.span, now.log)))
	} else if was != now {
		s.omitAgainLocked(l.Pump)
	}
}

// stayLocked forgets what an entry left out that was taken back.
func (s *stateLog) stayLocked(p PumpID, key string) {
	if _, known := s.omissions[p][key]; known {
		delete(s.omissions[p], key)
		s.omitAgainLocked(p)
	}
}

// omitAgainLocked works out anew what a pump leaves out: what the entries say, or to which log they belong, has changed.
func (s *stateLog) omitAgainLocked(p PumpID) {
	var out omitted
	for _, o := range s.omissions[p] {
		out = out.with(s.stillOfLocked(p, o.span, o.log))
	}
	s.omitsLocked(p, out)
}

func (s *stateLog) omitsLocked(p PumpID, out omitted) {
	if len(out) == 0 {
		delete(s.omitted, p)
	} else {
		s.omitted[p] = out
	}
	s.omitting.Store(int64(len(s.omitted)))
}

// stillOfLocked is the part of some source offsets, of a log that began in an epoch, that has the same records in the log as it is now.
func (s *stateLog) stillOfLocked(p PumpID, o span, log int16) span {
	st := s.pumps[p]
	if st == nil {
		return o
	}
	for _, i := range st.anchorsLocked() {
		if i.Epoch > log {
			o.records = min(o.records, max(0, i.anchor.sourceCut-o.first))
		}
	}
	return o
}

// logOf is the epoch in which the source's log began that a pump reads which is at a checkpoint: see [LedgerEntry].
func (s *stateLog) logOf(at Checkpoint) (log int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[at.Pump]
	if st == nil {
		return 0
	}
	for _, i := range st.anchorsLocked() {
		if i.anchor.sourceCut != noCut && !i.supersedes(at) {
			log = i.Epoch
		}
	}
	return log
}

// leaves are the entries of a pump's ledger that leave something out, and their keys, when nothing is left of the log that they are of.
func (s *stateLog) leaves(p PumpID) (out []broker.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.omissions[p] {
		l := s.ledger[p.path()][key]
		l.log = leftLog
		out = append(out, broker.Record{Topic: topicLedger, Key: l.key(), Value: l.encode()}, broker.Record{Topic: topicLedger, Key: []byte(key)})
	}
	return out
}

// passedOver stands for source offsets that nobody could read, and that were left out.
func passedOver(from, end int64) *sourceBatch {
	n := int32(min(end-from, 1<<31-1))
	return &sourceBatch{act: actSkip, why: whyOmitted, from: from, header: batch.Header{
		BaseOffset: from, LastOffsetDelta: n - 1, Records: n, Magic: 2, LeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}}
}

// errLeftOut: what is left out of the source is more than was known when the search began.
var errLeftOut = errors.New("records were left out meanwhile: looking again")

// sameOmitted makes sure that a search compared the target with the source as who wrote the target saw it: what an owner leaves out is in the
// ledger before it writes what comes next. So it has to be called after the target was read.
func (l *Link) sameOmitted(ctx context.Context, p *pump, known omitted) error {
	if err := l.store.refresh(ctx); err != nil {
		return fmt.Errorf("read what was left out: %w", err)
	}
	if !slices.Equal(known, l.store.omittedOf(p.id)) {
		return errLeftOut
	}
	return nil
}
