package mirror

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// shared is what the links of a node have in common.
type shared struct {
	routing atomic.Pointer[routing]
	pauses  atomic.Pointer[Pauses]
	tails   atomic.Pointer[Tails] // nil: there are none
	owners  Owners                // nil: everything is this node's
	hand    *handover             // nil: nobody is asked
	now     func() time.Time
	// view finds the map of a partition, of whatever link; nil for a link that runs alone.
	view func(ctx context.Context, from, to, topic string, partition int32) (mapView, bool, error)
	// cluster is one that is open on this node; nil for a link that runs alone.
	cluster func(name string) (c *broker.Cluster, ok bool)
	find    func(PumpID) *pump // of any link of this node; nil for a link that runs alone
	// groupsRest is until when positions of groups are left alone, in ns since 1970; see Set.RestGroups.
	groupsRest atomic.Int64

	mu       sync.Mutex
	pictures map[*broker.Cluster]*picture
}

// Pauses says whether a partition is paused, and why: by whom, since when, until when, for people. It answers at once, from
// memory, and any goroutine may call it.
type Pauses func(link, topic string, partition int32) (why string, paused bool)

func newShared(topo *topology.Topology, now func() time.Time) *shared {
	s := &shared{now: now, pictures: make(map[*broker.Cluster]*picture)}
	s.routing.Store(newRouting(topo, nil))
	return s
}

// picture is what a cluster last said about itself. All links of a node look at one, so that a cluster is not asked by
// each of them.
type picture struct {
	turn    chan struct{} // one question at a time; who waits for it may find it answered
	probing chan struct{} // the same for the probe

	mu     sync.Mutex
	last   broker.Metadata
	asked  time.Time   // when last was asked for; zero: never
	probed observation // what was seen of it as a target
	when   time.Time   // that was seen; zero: never
	state  *stateLog   // of the links to it; nil before the first
}

// probedFor is how long what a probe saw of a target counts for other links to it.
const probedFor = 10 * time.Minute

// picture finds or makes that of a cluster.
func (s *shared) picture(c *broker.Cluster) *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pictures[c]
	if p == nil {
		p = &picture{turn: make(chan struct{}, 1), probing: make(chan struct{}, 1)}
		s.pictures[c] = p
	}
	return p
}

// state is what is known of the state topics of a target.
func (s *shared) state(c *broker.Cluster, log *slog.Logger) *stateLog {
	p := s.picture(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		p.state = newStateLog(c, log)
	}
	return p.state
}

// probe has a target looked at, once for all links to it.
func (s *shared) probe(ctx context.Context, c *broker.Cluster, look func() (observation, error)) (observation, error) {
	p := s.picture(c)
	select {
	case <-ctx.Done():
		return observation{}, ctx.Err()
	case p.probing <- struct{}{}:
	}
	defer func() { <-p.probing }()
	p.mu.Lock()
	o, at := p.probed, p.when
	p.mu.Unlock()
	if !at.IsZero() && s.now().Sub(at) < probedFor {
		return o, nil
	}
	o, err := look()
	if err != nil {
		return o, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probed, p.when = o, s.now()
	return o, nil
}

// metadata is what the cluster says, asked for at since or later.
func (s *shared) metadata(ctx context.Context, c *broker.Cluster, since time.Time) (broker.Metadata, error) {
	p := s.picture(c)
	if m, ok := p.since(since, s.now()); ok {
		return m, nil
	}
	select {
	case <-ctx.Done():
		return broker.Metadata{}, ctx.Err()
	case p.turn <- struct{}{}:
	}
	defer func() { <-p.turn }()
	if m, ok := p.since(since, s.now()); ok {
		return m, nil
	}
	at := s.now()
	m, err := c.Metadata(ctx)
	if err != nil {
		return m, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.asked = m, at
	return m, nil
}

// since is the picture, if it was asked for at a time or later. One from the future says only that the clock was set back.
func (p *picture) since(at, now time.Time) (broker.Metadata, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, !p.asked.IsZero() && !p.asked.Before(at) && !p.asked.After(now)
}

// forget drops what is known of clusters that are no longer open.
func (s *shared) forget(open []*broker.Cluster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.pictures, func(c *broker.Cluster, _ *picture) bool { return !slices.Contains(open, c) })
}

// pump finds the pump of a partition on this node, of whatever link; nil: there is none.
func (s *shared) pump(id PumpID) *pump {
	if s.find == nil {
		return nil
	}
	return s.find(id)
}

// owner is who should copy a pump: empty for this node.
func (s *shared) owner(p PumpID) string {
	if s.owners == nil {
		return ""
	}
	if node := s.owners.Owner(p); node != s.owners.Self() {
		return node
	}
	return ""
}

// before is who has to be asked for a pump first; empty: nobody.
func (s *shared) before(p PumpID) string {
	if s.owners == nil || s.hand == nil {
		return ""
	}
	if node := s.owners.Before(p); node != s.owners.Self() {
		return node
	}
	return ""
}

// offer tells a pump's owner that it is copied here.
func (s *shared) offer(p PumpID, owner string) {
	if s.hand != nil {
		s.hand.offer(p, owner)
	}
}

// waitsStill starts a pump that waits for a node which need not be asked any more: it is gone.
func (s *shared) waitsStill(p *pump) {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != "" && s.before(p.id) != held {
		s.hand.skip(p.id)
	}
}

// paused says why a partition is paused; empty = it is not.
func (s *shared) paused(link, topic string, partition int32) string {
	f := s.pauses.Load()
	if f == nil {
		return ""
	}
	why, paused := (*f)(link, topic, partition)
	switch {
	case !paused:
		return ""
	case why == "":
		return "paused"
	}
	return why
}
