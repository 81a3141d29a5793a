package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// kindNote is the kind of state record that holds notes (sync_merge.go). They lie among the checkpoints of the target.
const kindNote = 'k'

// noteKey is what notes are about: the settings of a topic, a rule, or a quota's entity.
type noteKey struct {
	kind    string // DriftConfig, DriftACL or DriftQuota
	topic   string // of settings, with both of its names: see PumpID.named
	subject string // the rule, or the entity
}

func (k noteKey) pump(at path) PumpID {
	topic, as := parted(k.topic)
	return PumpID{From: at.from, To: at.to, Topic: topic, As: as}
}

// source is the topic's name at the source, target that on the target.
func (k noteKey) source() string { return k.pump(path{}).Topic }
func (k noteKey) target() string { return k.pump(path{}).Target() }

func (k noteKey) record(at path, notes map[string]noted) broker.Record {
	p := k.pump(at)
	r := broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: stateKey(kindNote, p, k.kind, k.subject)}
	if len(notes) > 0 {
		r.Value = encodeNotes(notes)
	}
	return r
}

func encodeNotes(notes map[string]noted) []byte {
	e := encoder{formatVersion}
	e.int(int64(len(notes)))
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		e.str(name)
		e.str(notes[name].value)
		ours := int64(0)
		if notes[name].ours {
			ours = 1
		}
		e.int(ours)
	}
	return e
}

func decodeNotes(b []byte) (map[string]noted, error) {
	d := newDecoder(b)
	notes := make(map[string]noted)
	for range d.count() {
		name := d.str()
		notes[name] = noted{value: d.str(), ours: d.int() != 0}
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode a note: %w", d.err)
	}
	return notes, nil
}

// takeNote applies one state record with notes.
func (s *stateLog) takeNote(r batch.Record, p PumpID, rest []string) error {
	key := noteKey{kind: rest[0], topic: p.named(), subject: rest[1]}
	var notes map[string]noted
	if r.Value != nil {
		var err error
		if notes, err = decodeNotes(r.Value); err != nil {
			return err
		}
	}
	s.keepLocked(p.path(), key, notes)
	return nil
}

// keepLocked replaces the notes about one thing; none: it is forgotten.
func (s *stateLog) keepLocked(at path, key noteKey, notes map[string]noted) {
	if len(notes) == 0 {
		delete(s.notes[at], key)
		return
	}
	if s.notes[at] == nil {
		s.notes[at] = make(map[noteKey]map[string]noted)
	}
	s.notes[at][key] = notes
}

// notesOf returns the notes about one thing. They are replaced as a whole, never written to.
func (s *store) notesOf(key noteKey) map[string]noted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes[s.path][key]
}

// subjects are what there are notes about.
func (s *store) subjects(kind string) (out []noteKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.notes[s.path] {
		if key.kind == kind {
			out = append(out, key)
		}
	}
	return out
}

// note makes notes durable. What is noted must be so before what it allows is done, and forgotten only afterwards.
func (s *store) note(ctx context.Context, all map[noteKey]map[string]noted) error {
	records := make([]broker.Record, 0, len(all))
	for key, notes := range all {
		records = append(records, key.record(s.path, notes))
	}
	if err := s.append(ctx, records); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, notes := range all {
		s.keepLocked(s.path, key, notes)
	}
	return nil
}
