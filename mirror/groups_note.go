package mirror

import (
	"context"
	"fmt"

	"github.com/isthmus-project/isthmus/broker"
)

// kindGroup is the kind of state record that holds a group's two positions in one partition which were last alike. They lie among the checkpoints
// of the target, with those of their pump: whoever copies the partition keeps its positions, too.
const kindGroup = 'g'

func groupNoteKey(p PumpID, group string) []byte { return stateKey(kindGroup, p, group) }

func (g groupPair) encode() []byte {
	e := encoder{formatVersion}
	e.int(g.source)
	e.int(g.target)
	e.int(g.when)
	return e
}

func decodeGroupPair(b []byte) (g groupPair, err error) {
	d := newDecoder(b)
	g = groupPair{d.int(), d.int(), d.int()}
	if d.err != nil {
		return g, fmt.Errorf("decode positions of a group: %w", d.err)
	}
	return g, nil
}

// takeGroup applies one state record with a group's positions.
func (st *pumpState) takeGroup(group string, value []byte) error {
	g, err := decodeGroupPair(value)
	if err != nil {
		return err
	}
	st.keepGroup(group, &g)
	return nil
}

func (st *pumpState) keepGroup(group string, at *groupPair) {
	switch {
	case at == nil:
		delete(st.groups, group)
	case st.groups == nil:
		st.groups = map[string]groupPair{group: *at}
	default:
		st.groups[group] = *at
	}
}

// groupPair is what is noted of a group's positions in a pump's partition; nil: nothing.
func (s *store) groupPair(p PumpID, group string) *groupPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		if g, ok := st.groups[group]; ok {
			return &g
		}
	}
	return nil
}

// groupsOf are the groups of which something is noted in a pump's partition.
func (s *store) groupsOf(p PumpID) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		for group := range st.groups {
			out = append(out, group)
		}
	}
	return out
}

// groupNote is a note to be made; at nil: to be taken away.
type groupNoted struct {
	pump  PumpID
	group string
	at    *groupPair
}

// noteGroups makes notes durable.
func (s *store) noteGroups(ctx context.Context, all []groupNoted) error {
	records := make([]broker.Record, 0, len(all))
	for _, n := range all {
		r := broker.Record{Topic: topicCheckpoints, Partition: partitionOf(n.pump), Key: groupNoteKey(n.pump, n.group)}
		if n.at != nil {
			r.Value = n.at.encode()
		}
		records = append(records, r)
	}
	if err := s.append(ctx, records); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range all {
		s.stateLocked(n.pump).keepGroup(n.group, n.at)
	}
	return nil
}
