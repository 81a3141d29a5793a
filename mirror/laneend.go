package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// A link that relays an origin's records gives them up when the routes have another link bring them. Two records in the target's
// state topics say so. The end of the lanes is an election, like a first checkpoint: whoever copies the partition, then or later,
// carries these origins below one source offset and not from there on. The succession says where that is at the source of the link
// that carries them now: everything before it is on the target, and nothing behind. Releases that do not know these kinds leave them alone.
const (
	kindEnd        = 'e'
	kindSuccession = 's'
)

// laneEnd is the decision that a pump gives origins up.
type laneEnd struct {
	Pump PumpID
	At   int64  // of source batches that begin here or later none of the origins is copied
	Next string // the source of the link that carries them now
	// Lanes are the origins, each with the epoch that it ended in, which a later anchored one voids, and the count of its records before At.
	Lanes  []Lane
	Writer string
}

func (e laneEnd) has(origin string) bool {
	return slices.ContainsFunc(e.Lanes, func(l Lane) bool { return l.Origin == origin })
}

func (e laneEnd) origins() (names []string) {
	for _, l := range e.Lanes {
		names = append(names, l.Origin)
	}
	return names
}

// which tells the ends of a pump apart.
func (e laneEnd) which() string { return fmt.Sprintf("%d/%s", e.At, e.Next) }

func (e laneEnd) key() []byte { return stateKey(kindEnd, e.Pump, e.Writer, e.which()) }

func (e laneEnd) encode() []byte {
	b := encoder{formatVersion}
	b.int(e.At)
	b.str(e.Next)
	b.int(int64(len(e.Lanes)))
	for _, l := range e.Lanes {
		b.str(l.Origin)
		b.int(int64(l.Epoch))
		b.int(l.Count)
	}
	return b
}

func decodeLaneEnd(p PumpID, writer string, b []byte) (laneEnd, error) {
	d := newDecoder(b)
	e := laneEnd{Pump: p, Writer: writer, At: d.int(), Next: d.str()}
	for range d.count() {
		e.Lanes = append(e.Lanes, Lane{Origin: d.str(), Epoch: int16(d.int()), Count: d.int()})
	}
	if d.err == nil && len(e.Lanes) == 0 {
		d.err = errShortState
	}
	if d.err != nil {
		return laneEnd{}, fmt.Errorf("decode the end of lanes of %s by %s: %w", p, writer, d.err)
	}
	return e, nil
}

// succession is where the next link goes on after an end.
type succession struct {
	Pump  PumpID // that ended
	which string // of its ends
	Place int64  // source offset of the next link; -1: it cannot be known
	Last  int64  // source offset of the pump's last record before it; -1: none
	Why   string // it cannot
	// Writer found it out.
	Writer string
}

func (s succession) key() []byte { return stateKey(kindSuccession, s.Pump, s.Writer, s.which) }

func (s succession) encode() []byte {
	b := encoder{formatVersion}
	b.int(s.Place)
	b.int(s.Last)
	b.str(s.Why)
	return b
}

func decodeSuccession(p PumpID, writer, which string, b []byte) (succession, error) {
	d := newDecoder(b)
	s := succession{Pump: p, which: which, Writer: writer, Place: d.int(), Last: d.int(), Why: d.str()}
	if d.err != nil {
		return succession{}, fmt.Errorf("decode the succession to %s by %s: %w", p, writer, d.err)
	}
	return s, nil
}

// takeEnd keeps a record of either kind.
func (s *stateLog) takeEnd(kind byte, r batch.Record, p PumpID, rest []string) error {
	s.lanes.changes.Add(1)
	s.relaysLocked(p)
	st := s.stateLocked(p)
	if kind == kindSuccession {
		st.successions = slices.DeleteFunc(st.successions, func(o stored[succession]) bool { return string(o.value.key()) == string(r.Key) })
		if r.Value == nil {
			return nil
		}
		v, err := decodeSuccession(p, rest[0], rest[1], r.Value)
		if err == nil {
			st.successions = append(st.successions, stored[succession]{v, r.Offset})
		}
		return err
	}
	same := func(o stored[laneEnd]) bool { return string(o.value.key()) == string(r.Key) }
	if r.Value == nil {
		st.laneEnds = slices.DeleteFunc(st.laneEnds, same)
		return nil
	}
	e, err := decodeLaneEnd(p, rest[0], r.Value)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(st.laneEnds, same); i >= 0 && string(st.laneEnds[i].value.encode()) == string(r.Value) {
		return nil // the same once more: the first counts
	}
	st.laneEnds = append(slices.DeleteFunc(st.laneEnds, same), stored[laneEnd]{e, r.Offset}) // one that an anchor has voided is decided anew at the same place
	return nil
}

// laneFacts are what the state topics say of the lanes of a pump: ends in offset order, and the anchored decisions, which void
// those before them.
type laneFacts struct {
	ends    []laneEnd
	anchors []Incarnation
}

func (st *pumpState) laneFactsLocked() (f laneFacts) {
	for _, e := range st.laneEnds {
		f.ends = append(f.ends, e.value)
	}
	if len(f.ends) > 0 {
		f.anchors = st.anchorsLocked()
	}
	return f
}

// of is the end that holds for an origin. Of several the first in offset order is the decision; ever: there was one, which an anchor has voided since.
func (f laneFacts) of(origin string) (e laneEnd, ended, ever bool) {
	for _, e := range f.ends {
		for _, l := range e.Lanes {
			if l.Origin != origin {
				continue
			}
			ever = true
			if !slices.ContainsFunc(f.anchors, func(i Incarnation) bool { return i.Epoch > l.Epoch }) {
				return e, true, true
			}
		}
	}
	return laneEnd{}, false, ever
}

func (s *store) laneFacts(p PumpID) laneFacts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		return st.laneFactsLocked()
	}
	return laneFacts{}
}

// decideEnd proposes an end and returns the one that holds for its first origin.
func (s *store) decideEnd(ctx context.Context, e laneEnd) (laneEnd, error) {
	err := s.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(e.Pump), Key: e.key(), Value: e.encode()}})
	if err != nil {
		return e, err
	}
	if err := s.refresh(ctx); err != nil {
		return e, err
	}
	won, ended, _ := s.laneFacts(e.Pump).of(e.Lanes[0].Origin)
	if !ended {
		return e, fmt.Errorf("the end of lanes of %s at source offset %d is not in %s after it was written", e.Pump, e.At, topicCheckpoints)
	}
	return won, nil
}

// succeeded writes where the next link goes on.
func (s *store) succeeded(ctx context.Context, v succession) error {
	err := s.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(v.Pump), Key: v.key(), Value: v.encode()}})
	if err != nil {
		return err
	}
	return s.refresh(ctx)
}

// succession is what is known of where the next link goes on after an end: the first that says a place, else the first that says why there is none.
func (st *pumpState) successionLocked(e laneEnd) (v succession, known bool) {
	for _, o := range st.successions {
		if o.value.which == e.which() && (!known || v.Place < 0 && o.value.Place >= 0) {
			v, known = o.value, true
		}
	}
	return v, known
}

func (s *store) succession(e laneEnd) (succession, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[e.Pump]; st != nil {
		return st.successionLocked(e)
	}
	return succession{}, false
}
