package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// Topic holds the claims of all routers that have their home in a cluster.
const Topic = "__isthmus.routers"

const (
	fetchBytes  = 1 << 20
	callTimeout = 30 * time.Second
	lookAgain   = 100 * time.Millisecond
	// tries is how often a claim is made again that others were faster with: once for each of them, and slots are bounded.
	tries = MaxSlots
)

var errTimeout = fmt.Errorf("not done within %v: %w", callTimeout, context.DeadlineExceeded)

// Store is the identity of one router at its home. One goroutine uses it.
type Store struct {
	home     *broker.Cluster
	router   string
	by       string
	unique   func() string
	producer *broker.Producer
	made     bool // the topic was seen

	state State
	next  int64 // offset that was not read yet

	ours       string // key of the claim that is waited for; empty for none
	found, won bool   // it was read, and what became of it
}

// NewStore returns the store of a router. by names the node, and unique gives a text that nobody else is given. Nothing is dialled.
func NewStore(home *broker.Cluster, router, by string, unique func() string) *Store {
	return &Store{home: home, router: router, by: by, unique: unique}
}

// Close ends the store's connections for writing; the cluster stays open.
func (s *Store) Close() {
	if s.producer != nil {
		s.producer.Close()
		s.producer = nil
	}
}

// State is what was read. It is not changed later.
func (s *Store) State() State { return s.state }

// Read reads what is new. An error that wraps [ErrVersion] does not pass by itself.
func (s *Store) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	if err := s.whenThere(ctx, s.read); err != nil {
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
	for _, node := range nodes {
		for try := 0; !s.state.Has(set, generation, node); try++ {
			slot, ok := s.state.Next(set, generation, node, min(count, MaxSlots))
			if !ok {
				left = append(left, node)
				break
			}
			if try == tries {
				return nil, fmt.Errorf("claim a slot for broker %d of router %s: others were faster %d times", node, s.router, tries)
			}
			if _, err := s.propose(ctx, Claim{Kind: KindSlot, Set: set, Slot: slot.Index, ID: slot.ID, Node: slot.Node, Generation: generation}); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// Block claims a block of producer ids that nobody had before.
func (s *Store) Block(ctx context.Context) (int64, error) {
	for range tries {
		block := s.state.Block + 1
		won, err := s.propose(ctx, Claim{Kind: KindProducers, Block: block})
		if won || err != nil {
			return block, err
		}
	}
	return 0, fmt.Errorf("claim producer ids of router %s: others were faster %d times", s.router, tries)
}

// propose appends a claim, reads up to it, and reports whether it counts. One that lost is taken back, so that the topic does not grow.
func (s *Store) propose(ctx context.Context, c Claim) (won bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	c.Router, c.By, c.Proposal = s.router, s.by, s.unique()
	value, err := c.Encode()
	if err != nil {
		return false, err
	}
	key := c.Key()
	failed := func(err error) error { return fmt.Errorf("claim %s: %w", key, err) }
	if err := s.write(ctx, broker.Record{Topic: Topic, Key: []byte(key), Value: value}); err != nil {
		return false, failed(err)
	}
	s.ours = key
	defer func() { s.ours, s.won, s.found = "", false, false }()
	if err := s.whenThere(ctx, s.read); err != nil {
		return false, failed(err)
	}
	if !s.found {
		return false, failed(fmt.Errorf("it is not in topic %s after it was written; was the topic deleted, or is its cleanup.policy not compact", Topic))
	}
	if s.won {
		return true, nil
	}
	if err := s.write(ctx, broker.Record{Topic: Topic, Key: []byte(key)}); err != nil {
		return false, failed(err)
	}
	return false, nil
}

// write appends one record, which all replicas in sync have when it returns, and makes the topic if it is not there.
func (s *Store) write(ctx context.Context, rec broker.Record) error {
	return s.whenThere(ctx, func(ctx context.Context) error {
		if s.producer == nil {
			p, err := s.home.Producer(broker.ProducerOptions{ManualPartition: true})
			if err != nil {
				return err
			}
			s.producer = p
		}
		err := s.make(ctx)
		if err == nil {
			_, err = s.producer.Produce(ctx, rec)
		}
		if err != nil { // a producer never goes over to a new topic of the same name
			s.producer.Close()
			s.producer, s.made = nil, false
		}
		return err
	})
}

// make sees to it that the topic is there, as safe as the cluster allows. Two instances that do it at once are no harm.
func (s *Store) make(ctx context.Context) error {
	if s.made {
		return nil
	}
	m, err := s.home.Metadata(ctx, Topic)
	if err != nil {
		return err
	}
	switch err = m.Topics[Topic].Err; {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		factor := min(3, max(1, len(m.Brokers)))
		err = s.home.CreateTopic(ctx, Topic, 1, factor, map[string]string{"cleanup.policy": "compact", "compression.type": "producer",
			"min.insync.replicas": fmt.Sprint(max(1, factor-1)), "segment.bytes": fmt.Sprint(16 << 20)})
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	case err != nil:
		return fmt.Errorf("find topic %s of cluster %s: %w", Topic, s.home.Name(), err)
	}
	s.made = true
	return nil
}

// read reads from where it was to the end that the log has now. A topic that is not there has no claims.
func (s *Store) read(ctx context.Context) error {
	m, err := s.home.Metadata(ctx, Topic)
	if err != nil {
		return err
	}
	if err := m.Topics[Topic].Err; errors.Is(err, kerr.UnknownTopicOrPartition) && s.next == 0 && s.ours == "" {
		return nil
	}
	start, err := s.home.ListOffsets(ctx, Topic, 0, broker.Earliest, false)
	if err != nil {
		return err
	}
	end, err := s.home.ListOffsets(ctx, Topic, 0, broker.Latest, false)
	if err != nil {
		return err
	}
	if end.Offset < s.next {
		return fmt.Errorf("topic %s of cluster %s ends at %d and was read up to %d; was it deleted? Clients keep what they were told until this node is restarted", Topic, s.home.Name(), end.Offset, s.next)
	}
	for at := max(s.next, start.Offset); at < end.Offset; at = s.next {
		frame, err := s.home.FetchOnce(ctx, Topic, 0, at, fetchBytes, false)
		if err != nil {
			return err
		}
		err = s.batches(at, frame.Partitions[0].Batches)
		frame.Release()
		if err != nil {
			return err
		}
		if s.next <= at { // what is left was compacted away
			s.next = end.Offset
		}
	}
	return nil
}

// batches reads what one answer holds from an offset on.
func (s *Store) batches(from int64, raw []byte) error {
	for len(raw) > 0 {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s of cluster %s at offset %d: %w", Topic, s.home.Name(), from, err)
		}
		raw = rest
		if h.Control() || h.Records == 0 || h.LastOffset() < from {
			s.next = max(s.next, h.NextOffset())
			continue
		}
		records, err := batch.Decode(one, 2*fetchBytes)
		if err != nil {
			return fmt.Errorf("%s of cluster %s at offset %d: %w", Topic, s.home.Name(), h.BaseOffset, err)
		}
		for _, rec := range records {
			if rec.Offset < from || rec.Value == nil {
				continue
			}
			if err := s.take(rec); err != nil {
				return fmt.Errorf("%s of cluster %s at offset %d: %w", Topic, s.home.Name(), rec.Offset, err)
			}
		}
		s.next = max(s.next, h.NextOffset())
	}
	return nil
}

// take applies one record. What is no claim counts for nobody, so it is passed over.
func (s *Store) take(rec batch.Record) error {
	c, mine, err := Decode(s.router, rec.Key, rec.Value)
	switch {
	case errors.Is(err, ErrForeign) || err == nil && !mine:
		return nil
	case err != nil:
		return err
	}
	won := s.state.Apply(c)
	if string(rec.Key) == s.ours {
		s.found, s.won = true, won
	}
	return nil
}

// whenThere calls fn until the brokers all know a new topic and its leader.
func (s *Store) whenThere(ctx context.Context, fn func(context.Context) error) error {
	for {
		err := fn(ctx)
		if !notYet(err) {
			return err
		}
		timer := time.NewTimer(lookAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// notYet reports the errors of a topic that is new, or whose leader is new.
func notYet(err error) bool {
	for _, e := range []error{kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
