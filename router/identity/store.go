package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/journal"
)

// Topic holds the claims of all routers that have their home in a cluster.
const Topic = journal.Topic

const (
	callTimeout = 30 * time.Second
	// tries is how often a claim is made again that others were faster with: once for each of them, and slots are bounded.
	tries = MaxSlots
)

var errTimeout = fmt.Errorf("not done within %v: %w", callTimeout, context.DeadlineExceeded)

// Store is the identity of one router at its home. One goroutine uses it.
type Store struct {
	log    *journal.Journal
	router string
	by     string
	unique func() string
	others func(key, value []byte) bool // records of the router that are read elsewhere; nil: none

	state State

	shared
	ours       string // key of the claim that is waited for; empty for none
	found, won bool   // it was read, and what became of it
}

// NewStore returns the store of a router. by names the node, and unique gives a text that nobody else is given. others says of a record of the router that it is no claim and
// that this node acts on it elsewhere, so that it is passed over whatever its version; nil says it of none. Nothing is dialled.
func NewStore(home *broker.Cluster, router, by string, unique func() string, others func(key, value []byte) bool) *Store {
	return &Store{log: journal.New(home), router: router, by: by, unique: unique, others: others}
}

// Close ends the store's connections for writing; the cluster stays open.
func (s *Store) Close() { s.log.Close() }

// State is what was read. It is not changed later.
func (s *Store) State() State { return s.state }

// Read reads what is new. An error that wraps [ErrVersion] does not pass by itself.
func (s *Store) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	if err := s.read(ctx); err != nil {
		return fmt.Errorf("read the identity of router %s: %w", s.router, err)
	}
	return nil
}

// Cluster has the cluster's id settled: this one, unless there is one already.
func (s *Store) Cluster(ctx context.Context, id string) error {
	if s.state.KnownCluster {
		return nil
	}
	_, err := s.propose(ctx, Claim{Kind: KindCluster, Cluster: id})
	return err
}

// Claim has a slot of a set settled for each of the brokers, of the home of a generation, that has none, as far as count slots reach. What it returns are the brokers that are
// left without one.
func (s *Store) Claim(ctx context.Context, set string, generation int64, nodes []int32, count int) (left []int32, err error) {
	for try := 0; ; try++ {
		wanted, left := s.state.wanted(set, generation, nodes, min(count, MaxSlots))
		switch {
		case len(wanted) == 0:
			return left, nil
		case try == tries:
			return nil, fmt.Errorf("claim slots for %d brokers of router %s: others were faster %d times", len(wanted), s.router, tries)
		case s.notes == nil || s.applied == 0:
			wanted = wanted[:1] // each is a record of its own
		}
		if _, err := s.propose(ctx, wanted...); err != nil {
			return nil, err
		}
	}
}

// Blocks is how many blocks of producer ids there are: numbers begin again behind that.
const Blocks = 1 << 12

// Block claims a block of producer ids that nobody had lately, below [Blocks]. Where claims are notes the upper half is for those that are claimed while too few clusters keep
// notes, so that the two cannot be the same.
func (s *Store) Block(ctx context.Context) (int64, error) {
	if s.notes == nil {
		n, err := s.block(ctx)
		return n % Blocks, err
	}
	n, err := s.block(ctx)
	if err == nil && s.applied > 0 {
		return n % (Blocks / 2), nil
	}
	if err != nil && !errors.Is(err, ErrTooFew) {
		return 0, err
	}
	if err != nil {
		if n, err = s.home.Block(ctx); err != nil {
			return 0, err
		}
	}
	return Blocks/2 + n%(Blocks/2), nil
}

// block is the number of a block that is claimed now.
func (s *Store) block(ctx context.Context) (int64, error) {
	for range tries {
		block := s.state.Block + 1
		won, err := s.propose(ctx, Claim{Kind: KindProducers, Block: block})
		if won || err != nil {
			return block, err
		}
	}
	return 0, fmt.Errorf("claim producer ids of router %s: others were faster %d times", s.router, tries)
}

// propose appends claims, reads up to them, and reports whether the last counts. One that lost is taken back, so that the topic does not grow. Several are made as notes only.
func (s *Store) propose(ctx context.Context, claims ...Claim) (won bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	for i := range claims {
		c := &claims[i]
		c.Router, c.By, c.Proposal = s.router, s.by, s.unique()
	}
	c := claims[len(claims)-1]
	value, err := c.Encode()
	if err != nil {
		return false, err
	}
	key := c.Key()
	failed := func(err error) error { return fmt.Errorf("claim %s: %w", key, err) }
	if s.notes != nil {
		s.ours = key
		defer func() { s.ours, s.won, s.found = "", false, false }()
		if won, err = s.proposeNote(ctx, claims); err != nil {
			return false, failed(err)
		}
		return won, nil
	}
	if err := s.log.Append(ctx, broker.Record{Key: []byte(key), Value: value}); err != nil {
		return false, failed(err)
	}
	s.ours = key
	defer func() { s.ours, s.won, s.found = "", false, false }()
	if err := s.read(ctx); err != nil {
		return false, failed(err)
	}
	if !s.found {
		return false, failed(fmt.Errorf("it is not in topic %s after it was written; was the topic deleted, or is its cleanup.policy not compact", Topic))
	}
	if s.won {
		return true, nil
	}
	if err := s.log.Append(ctx, broker.Record{Key: []byte(key)}); err != nil {
		return false, failed(err)
	}
	return false, nil
}

// read reads from where it was to the end that the log has now.
func (s *Store) read(ctx context.Context) error {
	if s.notes != nil {
		return s.readNotes(ctx)
	}
	return s.log.Read(ctx, s.take)
}

// take applies one record. What is no claim, or was taken back, counts for nobody, so it is passed over.
func (s *Store) take(key, value []byte) error {
	if value == nil || s.others != nil && s.others(key, value) {
		return nil
	}
	c, mine, err := Decode(s.router, key, value)
	switch {
	case errors.Is(err, ErrForeign) || err == nil && !mine:
		return nil
	case err != nil:
		return err
	}
	won := s.state.Apply(c)
	if string(key) == s.ours {
		s.found, s.won = true, won
	}
	return nil
}
