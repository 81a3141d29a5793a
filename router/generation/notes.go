package generation

import (
	"context"
	"fmt"
)

// Note appends a text to a log of notes, whose name begins with "@": the next of its rounds decides it. All read the same notes in the same order, as long as a majority of
// the control clusters is there. Its error wraps [ErrBeaten] where somebody else's came first: whoever gets it reads, and looks whether his is still wanted; with [ErrUnknown] it
// may turn up later. What was read last says which round is next.
func (s *Store) Note(ctx context.Context, log, text string) error {
	failed := func(err error) error { return fmt.Errorf("note in %s of router %s: %w", log, s.cfg.Router, err) }
	if !isNotes(log) {
		return failed(fmt.Errorf("%q is no log of notes", log))
	}
	p, err := s.prepare(ctx, log)
	if err != nil {
		return failed(err)
	}
	if p.Taken != nil {
		if err := s.Propose(ctx, p, *p.Taken); err != nil {
			return failed(err)
		}
		return failed(fmt.Errorf("another note was left undecided: %w", ErrBeaten))
	}
	if err := s.Propose(ctx, p, Value{Kind: Noted, Note: text, Switch: p.Ballot.Unique}); err != nil {
		return failed(err)
	}
	return nil
}

// Notes are those of a log that are known to be decided, in their order, as far as was read.
func (s *Store) Notes(log string) (out []string, err error) {
	st, err := s.State(log)
	for _, v := range st.History {
		out = append(out, v.Note)
	}
	return out, err
}
