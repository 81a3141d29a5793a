package mirror

import (
	"context"
	"math"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
)

// An epoch usually goes on with the same two logs, and what was copied before it stays as it is. One that is anchored does not: a log was
// truncated or made anew, or somebody said where to go on. Then the incarnation says all that a checkpoint says, so that one record, of
// which the first wins, moves the pump: there is no moment at which half of it is durable.

// noCut is a cut that voids nothing.
const noCut = math.MaxInt64

// anchorage is what an anchored incarnation says beside its place at the source.
type anchorage struct {
	// sourceTopicID and targetTopicID are of the logs that it goes on with.
	sourceTopicID, targetTopicID [16]byte
	// targetFrom is where to look for the epoch's batches.
	targetFrom int64
	// Runs of earlier epochs are void from source offset sourceCut on, and from target offset targetCut on: other records
	// are there now. noCut: none are.
	sourceCut, targetCut int64
	// sourcePartitions is as in a checkpoint.
	sourcePartitions int32
}

func (a *anchorage) encode(e *encoder) {
	e.bytes(a.sourceTopicID[:])
	e.bytes(a.targetTopicID[:])
	e.int(a.targetFrom)
	e.int(a.sourceCut)
	e.int(a.targetCut)
	e.int(int64(a.sourcePartitions))
}

func decodeAnchorage(d *decoder) *anchorage {
	return &anchorage{sourceTopicID: d.id(), targetTopicID: d.id(), targetFrom: d.int(), sourceCut: d.int(), targetCut: d.int(),
		sourcePartitions: int32(d.int())}
}

// supersedes reports whether the incarnation moves a pump that is at a checkpoint.
func (i Incarnation) supersedes(c Checkpoint) bool {
	return i.anchor != nil && slices.ContainsFunc(i.Lanes, func(l Lane) bool { return c.lane(l.Origin).Epoch < i.Epoch })
}

// moved is where a pump that was at a checkpoint is by an anchored incarnation. An origin that it does not name had no records copied.
func (i Incarnation) moved(c Checkpoint) Checkpoint {
	c = c.clone()
	for _, l := range i.Lanes {
		c.setLane(i.lane(l.Origin))
	}
	c.Pump, c.SourceTopicID, c.SourceEpoch, c.SourceNext = i.Pump, i.anchor.sourceTopicID, -1, i.Source
	c.TargetTopicID, c.TargetEpoch, c.TargetLast, c.TargetFrom = i.anchor.targetTopicID, -1, -1, i.anchor.targetFrom
	c.SourcePartitions = max(c.SourcePartitions, i.anchor.sourcePartitions)
	if c.Writer == "" {
		c.Writer = i.Writer
	}
	return c
}

// keeps returns the part of a run that still holds behind the incarnation.
func (i Incarnation) keeps(r Run) Run {
	if i.anchor == nil || r.Epoch >= i.Epoch || !slices.ContainsFunc(i.Lanes, func(l Lane) bool { return l.Origin == r.Origin }) {
		return r
	}
	end := r.sourceEnd()
	if i.anchor.targetCut != noCut {
		end = min(end, r.Source+max(0, i.anchor.targetCut-r.Target))
	}
	return r.slice(r.Source, voided(r, min(end, max(r.Source, i.anchor.sourceCut))))
}

// leaves is the target offset before which copies may lie of which nobody knows the source offset any more, behind an incarnation; before it was
// former. A target that was made anew has none of them.
func (i Incarnation) leaves(former int64) int64 {
	switch {
	case i.anchor == nil:
	case i.anchor.targetCut == 0:
		return 0
	case i.anchor.sourceCut != noCut:
		return i.anchor.targetFrom
	}
	return former
}

// cut drops the runs that are void behind an anchored incarnation.
func (m *OffsetMap) cut(i Incarnation) {
	m.formerEnd = i.leaves(m.formerEnd)
	m.keep(func(e *extent) bool {
		return i.anchor != nil && (e.to[bySource] > i.anchor.sourceCut || e.to[byTarget] > i.anchor.targetCut)
	}, i.keeps)
}

// anchors are the anchored decisions of a pump, in the order of their epochs. Callers hold mu.
func (st *pumpState) anchorsLocked() (out []Incarnation) {
	seen := make(map[int16]bool)
	for _, i := range st.incarnations { // of each epoch the first in offset order is the decision
		if !seen[i.value.Epoch] && i.value.anchor != nil {
			out = append(out, i.value)
		}
		seen[i.value.Epoch] = true
	}
	slices.SortFunc(out, func(a, b Incarnation) int { return int(a.Epoch) - int(b.Epoch) })
	return out
}

// anchored is the latest anchored decision that moves a pump which is at a checkpoint.
func (s *store) anchored(at Checkpoint) (Incarnation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[at.Pump]
	if st == nil {
		return Incarnation{}, false
	}
	all := st.anchorsLocked()
	for _, i := range slices.Backward(all) {
		if i.supersedes(at) {
			return i, true
		}
	}
	return Incarnation{}, false
}

// lastEpoch is the greatest epoch that anybody has decided for a pump; 0 for none.
func (s *store) lastEpoch(p PumpID) (last int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		for _, i := range st.incarnations {
			last = max(last, i.value.Epoch)
		}
	}
	return last
}

// retract takes entries of the ledger back: what they say did not come to be.
func (s *store) retract(ctx context.Context, entries ...LedgerEntry) error {
	var records []broker.Record
	for _, l := range entries {
		records = append(records, broker.Record{Topic: topicLedger, Key: l.key()})
	}
	if err := s.append(ctx, records); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range entries {
		s.strikeLocked(l.Pump, string(l.key()))
	}
	return nil
}
