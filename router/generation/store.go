package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/journal"
)

const (
	// patience is how long one control cluster may take for one thing.
	patience = 5 * time.Second
	// grace is how long the others may take when a majority has answered: they are not needed, but good to know.
	grace = 50 * time.Millisecond
)

// Errors of a store.
var (
	// ErrNoMajority says that too few control clusters answer. Nothing can be decided, and no lease be had.
	ErrNoMajority = errors.New("no majority of the control clusters answers")
	// ErrBeaten says that somebody with a higher ballot has taken over, or that the round is decided. Whoever gets it reads again.
	ErrBeaten = errors.New("another coordinator has taken over")
	// ErrUnknown says that a value was proposed and it is not known whether it is decided. Who wants to know prepares again.
	ErrUnknown = errors.New("it is not known whether this is decided")
)

var errPatience = fmt.Errorf("no answer within %v: %w", patience, context.DeadlineExceeded)

// Config is whose store it is.
type Config struct {
	Router string
	Node   string        // for people, and to order ballots
	Unique func() string // gives a text that nobody else is given; called by one goroutine at a time
	Now    func() Moment // see [Clock]
}

// Store keeps the generations of one router on the control clusters. It may be used by several goroutines.
type Store struct {
	cfg      Config
	controls []*control
	running  sync.WaitGroup

	mu   sync.Mutex         // guards what follows, the logs, and Unique; nobody waits under it
	cuts map[string][]Chunk // by the id of the cut
}

// control is one control cluster.
type control struct {
	turn    chan struct{} // held by who uses the journal
	journal *journal.Journal
	log     Log
}

// NewStore returns the store of a router on the control clusters. Nothing is dialled.
func NewStore(clusters []*broker.Cluster, cfg Config) *Store {
	s := &Store{cfg: cfg, cuts: map[string][]Chunk{}}
	for _, c := range clusters {
		s.controls = append(s.controls, &control{turn: make(chan struct{}, 1), journal: journal.New(c)})
	}
	return s
}

// Close ends the connections for writing, when what is under way has ended, which takes some seconds at the most. Nothing may be called afterwards.
func (s *Store) Close() {
	s.running.Wait()
	for _, c := range s.controls {
		c.journal.Close()
	}
}

// away is a control cluster that did not do what it was asked.
type away struct {
	cluster string
	err     error
}

// each does something with all control clusters at once, and returns when all are done, or a majority is and the others were waited for a little; those go on
// by themselves. done is how many have done it. An error is of a record that nobody here may pass over.
func (s *Store) each(ctx context.Context, do func(context.Context, *control) error) (done int, gone []away, err error) {
	results := make(chan away, len(s.controls))
	for _, c := range s.controls {
		s.running.Go(func() {
			ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), patience, errPatience)
			defer cancel()
			select {
			case c.turn <- struct{}{}:
				err := do(ctx, c)
				<-c.turn
				results <- away{c.journal.Cluster(), err}
			case <-ctx.Done():
				results <- away{c.journal.Cluster(), context.Cause(ctx)}
			}
		})
	}
	var late <-chan time.Time
	for range s.controls {
		select {
		case r := <-results:
			switch {
			case errors.Is(r.err, ErrVersion):
				return done, gone, fmt.Errorf("cluster %s: %w", r.cluster, r.err)
			case r.err != nil:
				gone = append(gone, r)
			default:
				done++
			}
			if done == majority(len(s.controls)) {
				timer := time.NewTimer(grace)
				defer timer.Stop()
				late = timer.C
			}
		case <-late:
			return done, gone, nil
		case <-ctx.Done():
			return done, gone, context.Cause(ctx)
		}
	}
	return done, gone, nil
}

// enough is the error of too few that have done something.
func (s *Store) enough(done int, gone []away) error {
	of := len(s.controls)
	if of > 0 && done >= majority(of) {
		return nil
	}
	var all []error
	for _, g := range gone {
		all = append(all, fmt.Errorf("cluster %s: %w", g.cluster, g.err))
	}
	hint := "bring one back"
	if of <= 2 {
		hint = "with fewer than three control clusters all are needed: bring it back, add a witness to control of [fabric], or let a human decide"
	}
	return fmt.Errorf("%d of %d control clusters answer, %d are needed; %s: %w: %w", done, of, majority(of), hint, ErrNoMajority, errors.Join(all...))
}

// Now is the moment by the clock of the store: leases are to be asked by the same.
func (s *Store) Now() Moment { return s.cfg.Now() }

// Reading is how many of the control clusters were read to their ends, from Began on.
type Reading struct {
	Began    Moment
	Read, Of int
}

// Read reads what is new. Its error wraps [ErrNoMajority], or [ErrVersion], which does not pass by itself. What was read counts all the same.
func (s *Store) Read(ctx context.Context) (Reading, error) {
	r := Reading{Began: s.cfg.Now(), Of: len(s.controls)}
	done, gone, err := s.each(ctx, s.read)
	if r.Read = done; err == nil {
		err = s.enough(done, gone)
	}
	if err != nil {
		return r, fmt.Errorf("read the generations of router %s: %w", s.cfg.Router, err)
	}
	return r, nil
}

// read reads one control cluster to its end.
func (s *Store) read(ctx context.Context, c *control) error {
	return c.journal.Read(ctx, func(key, value []byte) error { return s.take(c, key, value) })
}

// take applies one record. What is none counts for nobody, so it is passed over.
func (s *Store) take(c *control, key, value []byte) error {
	if value == nil {
		if id, ok := strings.CutPrefix(string(key), s.cfg.Router+"/"+kindBound+"/"); ok {
			s.mu.Lock()
			defer s.mu.Unlock()
			c.log.forget(id)
		}
		return nil
	}
	r, mine, err := Decode(s.cfg.Router, key, value)
	if errors.Is(err, ErrForeign) || err == nil && !mine {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Kind != kindCut {
		c.log.Apply(r)
		return nil
	}
	if id := r.Cut.ID; !slices.ContainsFunc(s.cuts[id], func(o Chunk) bool { return o.Index == r.Cut.Index }) {
		s.cuts[id] = append(s.cuts[id], *r.Cut)
	}
	return nil
}

// logsLocked are those of all control clusters.
func (s *Store) logsLocked() (all []*Log) {
	for _, c := range s.controls {
		all = append(all, &c.log)
	}
	return all
}

// State is what was read of a set. An error means that the records cannot be those of an Isthmus.
func (s *Store) State(set string) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Judge(s.logsLocked(), len(s.controls), set)
}

// Lease is what a reading gives for a set, by what is known now.
func (s *Store) Lease(r Reading, set string) (Lease, error) {
	st, err := s.State(set)
	if err != nil {
		return Lease{}, err
	}
	return Grant(r.Began, r.Read, r.Of, st), nil
}

// Bounds are the greatest virtual offsets that are reserved in a set, by topic and partition.
func (s *Store) Bounds(set string) (out map[string][]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logsLocked() {
		if of := l.sets[set]; of != nil {
			out = mergeBounds(out, of.bounds.greatest)
		}
	}
	return out
}

// Plans are the newest of each switch of a set, the oldest switch first.
func (s *Store) Plans(set string) (out []Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := map[string]Plan{}
	for _, l := range s.logsLocked() {
		for id, r := range l.plans {
			if o, there := newest[id]; r.Set == set && (!there || r.Plan.ahead(&o)) {
				newest[id] = *r.Plan
			}
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b Plan) int {
		return cmp.Or(cmp.Compare(a.Began, b.Began), strings.Compare(a.Switch, b.Switch))
	})
}

// Cut is the cut that a decision refers to, of what was read. Its error wraps [ErrCut] where chunks are missing, or are not those that were decided on.
func (s *Store) Cut(ref CutRef) ([]CutTopic, error) {
	s.mu.Lock()
	chunks := slices.Clone(s.cuts[ref.ID])
	s.mu.Unlock()
	return join(ref, chunks)
}
