package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/isthmus-project/isthmus/router/journal"
)

// Notes is a log that several clusters keep together, so that none of them may be missed; see generation.Store.
type Notes interface {
	// Read reads what is new. With ErrTooFew in its error what could be read counts.
	Read(ctx context.Context) error
	// Notes are all that were read, in their order, which is the same for everybody.
	Notes() ([]string, error)
	// Note appends one. ErrBeaten is in its error where somebody was faster.
	Note(ctx context.Context, text string) error
}

// Errors of [Notes].
var (
	// ErrBeaten says that somebody else's note came first.
	ErrBeaten = errors.New("another instance was faster")
	// ErrTooFew says that too few clusters are there to write. What is known may be read all the same.
	ErrTooFew = errors.New("too few clusters keep notes")
)

// noteVersion is that of the notes that are written here.
const noteVersion = 1

// note is some claims, as they are stored.
type note struct {
	V      int     `json:"v"`
	Claims []Claim `json:"claims"`
}

// shared is how far notes were applied.
type shared struct {
	notes   Notes  // nil: the claims are in the home's own topic
	home    *Store // that topic
	applied int
	few     time.Time // too few clusters kept notes then, before the first note
}

// fewLasts is for how long that is believed, before the first note: finding out takes as long as a silent cluster is waited for.
const fewLasts = 10 * time.Second

// NewShared returns a store whose claims are notes. The first note is what the home's own topic had when it was written; what is claimed there afterwards counts no more, but for
// blocks of producer ids, which have numbers of their own there: they are claimed in that topic as long as too few clusters keep notes. Before there is a first note the topic
// is all there is.
func NewShared(notes Notes, home *Store) *Store {
	return &Store{router: home.router, by: home.by, unique: home.unique, log: home.log, shared: shared{notes: notes, home: home}}
}

// readNotes reads what is new, and writes the first note if there is none.
func (s *Store) readNotes(ctx context.Context) error {
	if s.applied == 0 && time.Since(s.few) < fewLasts {
		return s.readHome(ctx)
	}
	for try := 0; ; try++ {
		few := s.notes.Read(ctx)
		if few != nil && !errors.Is(few, ErrTooFew) {
			return few
		}
		if err := s.applyNotes(); err != nil || s.applied > 0 {
			return err
		}
		if few != nil {
			s.few = time.Now()
			if err := s.readHome(ctx); err != nil {
				return errors.Join(err, few)
			}
			return nil
		}
		began := time.Now()
		if err := s.begin(ctx); err != nil && !errors.Is(err, ErrBeaten) {
			return err
		}
		if err := s.rest(ctx, try, time.Since(began)); err != nil {
			return err
		}
	}
}

// applyNotes takes the claims of the notes that were read.
func (s *Store) applyNotes() error {
	all, err := s.notes.Notes()
	if err != nil {
		return err
	}
	if s.applied == 0 { // what was read of the topic comes by the first note
		s.state = State{}
	}
	for ; s.applied < len(all); s.applied++ {
		if err := s.apply(all[s.applied]); err != nil {
			return fmt.Errorf("note %d: %w", s.applied, err)
		}
	}
	return nil
}

// readHome reads the home's own topic, and takes it for all there is.
func (s *Store) readHome(ctx context.Context) error {
	err := s.home.read(ctx)
	s.state = s.home.state
	return err
}

// begin writes the first note: what the home's own topic has.
func (s *Store) begin(ctx context.Context) error {
	if err := s.home.read(ctx); err != nil {
		return err
	}
	return s.note(ctx, s.home.state.claims())
}

// claims make a state.
func (s *State) claims() (out []Claim) {
	if s.KnownCluster {
		out = append(out, Claim{Kind: KindCluster, Cluster: s.Cluster})
	}
	for _, o := range s.Slots {
		out = append(out, Claim{Kind: KindSlot, Set: o.Set, Slot: o.Index, ID: o.ID, Node: o.Node, Generation: o.Generation})
	}
	if s.Block > 0 {
		out = append(out, Claim{Kind: KindProducers, Block: s.Block})
	}
	return out
}

func (s *Store) note(ctx context.Context, claims []Claim) error {
	for i := range claims {
		c := &claims[i]
		c.V, c.Router, c.By = Version, s.router, s.by
		if c.Proposal == "" {
			c.Proposal = s.unique()
		}
	}
	text, err := json.Marshal(note{noteVersion, claims})
	if err != nil {
		return fmt.Errorf("encode claims: %w", err)
	}
	return s.notes.Note(ctx, string(text))
}

// apply takes the claims of a note.
func (s *Store) apply(text string) error {
	var n note
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if n.V > noteVersion {
		return fmt.Errorf("version %d, and up to %d are known: %w", n.V, noteVersion, journal.ErrVersion)
	}
	for _, c := range n.Claims {
		won := s.state.Apply(c)
		if c.Key() == s.ours && !s.found { // a claim that was written twice counts once
			s.found, s.won = true, won
		}
	}
	return nil
}

// proposeNote is propose where claims are notes.
func (s *Store) proposeNote(ctx context.Context, claims []Claim) (won bool, err error) {
	if s.applied == 0 { // the first note is the home's own topic
		if err := s.readNotes(ctx); err != nil {
			return false, err
		}
	}
	if s.applied == 0 {
		for _, c := range claims {
			if won, err = s.home.propose(ctx, c); err != nil {
				break
			}
		}
		s.state = s.home.state
		return won, err
	}
	for try := 0; ; try++ {
		began := time.Now()
		err := s.note(ctx, claims)
		if err != nil && !errors.Is(err, ErrBeaten) {
			return false, err
		}
		before := s.applied
		if err == nil {
			err = s.applyNotes()
		} else {
			err = s.readNotes(ctx)
		}
		if err != nil {
			return false, err
		}
		if s.found || s.applied > before { // if it is not there, another came first: the claim may not be wanted any more
			return s.won, nil
		}
		if err := s.rest(ctx, try, time.Since(began)); err != nil {
			return false, err
		}
	}
}

const (
	restShort = 5 * time.Millisecond
	restLong  = 500 * time.Millisecond
)

// rest waits before the next try: instances that are in each other's way wait differently long, and longer each time; so long that another can end what took this one so long.
func (s *Store) rest(ctx context.Context, try int, took time.Duration) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.by))
	d := min(max(took, restShort<<min(try, 10)), restLong)
	timer := time.NewTimer(d + d*time.Duration(h.Sum32()%8)/4)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
