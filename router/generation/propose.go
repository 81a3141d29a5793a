package generation

import (
	"context"
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/broker"
)

// Proposal is the right to propose what a round decides, until somebody prepares a higher ballot.
type Proposal struct {
	Set    string
	Round  int64
	Ballot Ballot
	// Generation and Home are those before the round.
	Generation int64
	Home       string
	// Taken is the value that must be proposed, because it may be decided already; nil leaves the choice.
	Taken *Value
	// Prepared is when a majority had acknowledged the ballot: leases are over when [Outwaited] says so.
	Prepared Moment
}

// record makes a record of the router with an id of its own.
func (s *Store) record(kind, set string) Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Record{Router: s.cfg.Router, Kind: kind, Set: set, ID: s.cfg.Unique()}
}

// append writes records to one control cluster, and reads up to them.
func (s *Store) append(ctx context.Context, c *control, records ...Record) error {
	var out []broker.Record
	for _, r := range records {
		value, err := r.Encode()
		if err != nil {
			return err
		}
		out = append(out, broker.Record{Key: []byte(r.Key()), Value: value})
	}
	if err := c.journal.Append(ctx, out...); err != nil {
		return err
	}
	return c.journal.ReadBack(ctx, func(key, value []byte) error { return s.take(c, key, value) })
}

// everywhere writes a record to a majority of the control clusters. Their records have ids of their own: an id that is written again would be another record after compaction.
func (s *Store) everywhere(ctx context.Context, records ...Record) error {
	done, gone, err := s.each(ctx, func(ctx context.Context, c *control) error { return s.append(ctx, c, records...) })
	if err == nil {
		err = s.enough(done, gone)
	}
	return err
}

// Prepare takes the round over that decides what comes after the newest decision: whoever prepared before has lost. From now on no instance gets a lease
// before the round is decided, so whoever prepares must go on to [Store.Propose] or [Store.Abort]. Its error wraps [ErrBeaten] where somebody else was faster;
// after any other error the round may be open in some logs, and must be prepared again.
func (s *Store) Prepare(ctx context.Context, set string) (Proposal, error) {
	if _, err := s.Read(ctx); err != nil {
		return Proposal{}, fmt.Errorf("prepare a switch of router %s, set %q: %w", s.cfg.Router, set, err)
	}
	return s.prepare(ctx, set)
}

// prepare is Prepare by what was read before.
func (s *Store) prepare(ctx context.Context, set string) (Proposal, error) {
	failed := func(err error) (Proposal, error) {
		return Proposal{}, fmt.Errorf("prepare a switch of router %s, set %q: %w", s.cfg.Router, set, err)
	}
	st, err := s.State(set)
	if err != nil {
		return failed(err)
	}
	r := s.record(kindPrepare, set)
	own := st.Highest.Above(s.cfg.Node, r.ID)
	r.Round, r.Ballot = st.Round, &own
	done, gone, err := s.each(ctx, func(ctx context.Context, c *control) error {
		return s.append(ctx, c, append(s.missing(c, set, st.Round), r)...)
	})
	if err == nil {
		err = s.enough(done, gone)
	}
	if err != nil {
		return failed(err)
	}
	prepared := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	logs := s.logsLocked()
	if _, over := decision(logs, len(s.controls), set, st.Round); over {
		return failed(fmt.Errorf("round %d was decided meanwhile: %w", st.Round, ErrBeaten))
	}
	standing := stand(logs, set, st.Round, own)
	if standing.Beaten != (Ballot{}) {
		return failed(fmt.Errorf("node %s, round %d: %w", standing.Beaten.Node, st.Round, ErrBeaten))
	}
	if standing.Counts < majority(len(s.controls)) {
		return failed(fmt.Errorf("the ballot stands in %d of %d control clusters: %w", standing.Counts, len(s.controls), ErrNoMajority))
	}
	return Proposal{set, st.Round, own, st.Generation, st.Home, standing.Taken, prepared}, nil
}

// missing are the decisions below a round that one log lacks because its cluster was away. They go before a prepare and an accept, so that whoever finds
// these finds what they follow.
func (s *Store) missing(c *control, set string, below int64) (out []Record) {
	var lacking []int64
	var values []Value
	s.mu.Lock()
	for round := int64(1); round < below; round++ {
		if of := c.log.sets[set]; of != nil {
			if _, there := of.decided[round]; there {
				continue
			}
		}
		if v, ok := decision(s.logsLocked(), len(s.controls), set, round); ok {
			lacking, values = append(lacking, round), append(values, v)
		}
	}
	s.mu.Unlock()
	for i := range lacking {
		r := s.record(kindDecided, set)
		r.Round, r.Value = lacking[i], &values[i]
		out = append(out, r)
	}
	return out
}

// Propose has a round decided. Where it returns no error, the value is decided. Its error wraps [ErrUnknown] where that is not known, and [ErrBeaten]
// where another value is decided.
func (s *Store) Propose(ctx context.Context, p Proposal, v Value) error {
	failed := func(err error) error {
		return fmt.Errorf("decide %s of router %s, set %q, round %d: %w", v.Kind, s.cfg.Router, p.Set, p.Round, err)
	}
	switch {
	case p.Taken != nil && v != *p.Taken:
		return failed(fmt.Errorf("%s of switch %s may be decided already, so nothing else can be: %w", p.Taken.Kind, p.Taken.Switch, ErrBeaten))
	case !v.follows(p.Generation, p.Home):
		return failed(fmt.Errorf("generation %d at %s does not follow generation %d at %q", v.Generation, v.Home, p.Generation, p.Home))
	}
	r := s.record(kindAccept, p.Set)
	r.Round, r.Ballot, r.Value = p.Round, &p.Ballot, &v
	done, gone, err := s.each(ctx, func(ctx context.Context, c *control) error {
		return s.append(ctx, c, append(s.missing(c, p.Set, p.Round), r)...)
	})
	if err == nil {
		err = s.enough(done, gone)
	}
	s.mu.Lock()
	got, over := decision(s.logsLocked(), len(s.controls), p.Set, p.Round)
	s.mu.Unlock()
	switch {
	case over && got != v:
		return failed(fmt.Errorf("%s of switch %s was decided: %w", got.Kind, got.Switch, ErrBeaten))
	case !over:
		return failed(errors.Join(ErrUnknown, err))
	}
	r = s.record(kindDecided, p.Set)
	r.Round, r.Value = p.Round, &v
	s.running.Go(func() { // it is decided; who does not find it here reads it from the accepts, or is told by the next who prepares
		_, _, _ = s.each(context.WithoutCancel(ctx), func(ctx context.Context, c *control) error { return s.append(ctx, c, r) })
	})
	return nil
}

// Abort ends a round without a switch, unless one may be decided already: then it has that decided. It returns what is decided.
func (s *Store) Abort(ctx context.Context, p Proposal, v Value) (Value, error) {
	if p.Taken != nil {
		v = *p.Taken
	}
	return v, s.Propose(ctx, p, v)
}

// WriteCut writes where a generation begins, and returns the reference for the decision.
func (s *Store) WriteCut(ctx context.Context, set string, topics []CutTopic) (CutRef, error) {
	id := s.record(kindCut, set).ID
	chunks, ref, err := split(id, topics)
	if err != nil {
		return CutRef{}, fmt.Errorf("write a cut of router %s, set %q: %w", s.cfg.Router, set, err)
	}
	for i := range chunks {
		r := s.record(kindCut, set)
		r.Cut = &chunks[i]
		if err := s.everywhere(ctx, r); err != nil {
			return CutRef{}, fmt.Errorf("write a cut of router %s, set %q: %w", s.cfg.Router, set, err)
		}
	}
	return ref, nil
}

// WritePlan writes what a switch is doing. The plan of one ballot replaces the one before of the same.
func (s *Store) WritePlan(ctx context.Context, set string, p Plan) error {
	r := Record{Router: s.cfg.Router, Kind: kindPlan, Set: set, ID: p.id(), Plan: &p}
	if err := s.everywhere(ctx, r); err != nil {
		return fmt.Errorf("write the plan of switch %s of router %s: %w", p.Switch, s.cfg.Router, err)
	}
	return nil
}

// Reserve reserves virtual offsets of a topic, below the one that is given for each partition. When it returns without an error they may be served. What
// an own or another's reservation before says less is taken back, so that the log does not grow.
func (s *Store) Reserve(ctx context.Context, set string, b Bound) error {
	r := s.record(kindBound, set)
	r.Bound = &b
	done, gone, err := s.each(ctx, func(ctx context.Context, c *control) error {
		if err := s.append(ctx, c, r); err != nil {
			return err
		}
		s.mu.Lock()
		covered := c.log.set(set).bounds.covered(r.ID)
		s.mu.Unlock()
		var back []broker.Record
		for _, id := range covered {
			back = append(back, broker.Record{Key: []byte(Record{Router: s.cfg.Router, Kind: kindBound, ID: id}.Key())})
		}
		if len(back) > 0 {
			_ = c.journal.Append(ctx, back...) // what stays counts as before, and goes with the next
		}
		return nil
	})
	if err == nil {
		err = s.enough(done, gone)
	}
	if err != nil {
		return fmt.Errorf("reserve offsets of topic %s of router %s: %w", b.Topic, s.cfg.Router, err)
	}
	return nil
}
