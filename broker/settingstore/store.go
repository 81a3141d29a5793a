package settingstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// Topic holds the changes of a fabric's settings, one record each: the key is the change's version as text, so that one that was
// stored twice is kept once, and the value is what [gossip.EncodeChange] makes of it.
const Topic = "__isthmus.settings"

// How long the whole of a call may take, and how often it looks again while the brokers learn of a new topic.
const (
	callTimeout = 30 * time.Second
	lookAgain   = 100 * time.Millisecond
)

// errTimeout ends a call whose cluster is too slow.
var errTimeout = fmt.Errorf("not done within %v: %w", callTimeout, context.DeadlineExceeded)

// Store is a [gossip.Store] in one cluster. It is safe for concurrent use.
type Store struct {
	c    *broker.Cluster
	turn chan struct{} // one at a time saves

	mu       sync.Mutex // never held across I/O
	producer *broker.Producer
	made     bool // the topic was seen
	closed   bool
}

var _ gossip.Store = (*Store)(nil)

// New returns the store of a cluster. Nothing is dialled, read or made before it is asked to.
func New(c *broker.Cluster) *Store { return &Store{c: c, turn: make(chan struct{}, 1)} }

// Name is the cluster's.
func (s *Store) Name() string { return s.c.Name() }

// Close ends the store's connections for writing; the cluster stays open.
func (s *Store) Close() {
	s.mu.Lock()
	p := s.producer
	s.producer, s.closed = nil, true
	s.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// Save adds changes, and makes the topic if it is not there. It returns when all replicas in sync have them.
func (s *Store) Save(ctx context.Context, changes ...gossip.Change) error {
	if len(changes) == 0 {
		return nil
	}
	records := make([]broker.Record, len(changes))
	for i, c := range changes {
		records[i] = broker.Record{Topic: Topic, Key: []byte(c.Version.String()), Value: gossip.EncodeChange(nil, c)}
	}
	if err := s.write(ctx, records); err != nil {
		return fmt.Errorf("save settings: %w", err)
	}
	return nil
}

// Drop takes changes away: what the topic has after it for their keys has no value.
func (s *Store) Drop(ctx context.Context, versions ...gossip.Time) error {
	if len(versions) == 0 {
		return nil
	}
	records := make([]broker.Record, len(versions))
	for i, v := range versions {
		records[i] = broker.Record{Topic: Topic, Key: []byte(v.String())}
	}
	if err := s.write(ctx, records); err != nil {
		return fmt.Errorf("drop settings: %w", err)
	}
	return nil
}

// write appends records.
func (s *Store) write(ctx context.Context, records []broker.Record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for those before: %w", context.Cause(ctx))
	}
	for {
		p, err := s.writer()
		if err == nil {
			err = s.make(ctx)
		}
		if err == nil {
			_, err = p.Produce(ctx, records...)
		}
		if err == nil {
			return nil
		}
		if s.forget(p); !notYet(err) || wait(ctx) != nil {
			return err
		}
	}
}

// forget is for the time after an error: the topic may have been deleted since it was seen, and a producer never goes over to
// one of the same name.
func (s *Store) forget(p *broker.Producer) {
	ours := false
	s.set(func() {
		s.made = false
		if ours = p != nil && s.producer == p; ours {
			s.producer = nil
		}
	})
	if ours {
		p.Close()
	}
}

// writer is the producer, which is made once.
func (s *Store) writer() (*broker.Producer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("cluster %s: %w", s.c.Name(), broker.ErrClosed)
	}
	if s.producer == nil {
		p, err := s.c.Producer(broker.ProducerOptions{ManualPartition: true, MaxBatchBytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		s.producer = p
	}
	return s.producer, nil
}

func (s *Store) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// make sees to it that the topic is there, as safe as the cluster allows. Two nodes that do it at once are no harm.
func (s *Store) make(ctx context.Context) error {
	made := false
	if s.set(func() { made = s.made }); made {
		return nil
	}
	m, err := s.c.Metadata(ctx, Topic)
	if err != nil {
		return err
	}
	switch err = m.Topics[Topic].Err; {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		factor := min(3, max(1, len(m.Brokers)))
		err = s.c.CreateTopic(ctx, Topic, 1, factor, map[string]string{"cleanup.policy": "compact", "compression.type": "producer",
			"min.insync.replicas": fmt.Sprint(max(1, factor-1)), "max.message.bytes": fmt.Sprint(4 << 20),
			"segment.bytes": fmt.Sprint(16 << 20), "segment.ms": fmt.Sprint((24 * time.Hour).Milliseconds())}) // the newest segment is never compacted
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	case err != nil:
		return fmt.Errorf("find topic %s of cluster %s: %w", Topic, s.c.Name(), err)
	}
	s.set(func() { s.made = true })
	return nil
}

// notYet reports the errors of a topic that is new, or was made anew, or whose leader is new.
func notYet(err error) bool {
	for _, e := range []error{
		kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait lets a moment pass.
func wait(ctx context.Context) error {
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
