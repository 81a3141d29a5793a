package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/members"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/written"
)

// Home is where a set has its home from a generation on.
type Home struct {
	// Generation counts the homes of a set; that of the first is 0.
	Generation int64
	// Cluster is it. It stays open for as long as the router runs.
	Cluster *broker.Cluster
	// Positions are where the home has what clients know by other offsets; nil where its own are those that clients know.
	Positions *positions.Book
	// Producers are the gates of producers and the ids that the home sees. Nil lets everything through under the ids that clients have.
	Producers *gate.Book
	// Members are those of groups at the home that is left, by group; nil where nobody could be asked.
	Members map[string][]string
}

// Hold sets what clients of a set may do while its home is about to move, [hold.Serving] if it is not any more. It counts from the next request of each connection on; see
// [Router.Writes].
func (r *Router) Hold(set string, phase hold.Phase) error {
	i, err := r.setNamed(set)
	if err != nil {
		return err
	}
	r.stages.set(i, func(s *staging) { s.Phase, s.round = phase, 0 })
	if phase == hold.Held {
		r.flush(i)
	}
	return nil
}

// flush has the home say what of all that was sent there it has served, also where clients want no answer.
func (r *Router) flush(set int) {
	for _, c := range r.open.list() {
		if c.set() == set && c.seen.Writes.Load() > 0 {
			c.relay.Flush()
		}
	}
}

// Writes is how many requests of clients may still change something at the home of a set. Once it is 0 behind [Router.Hold] it stays that.
func (r *Router) Writes(set string) (n int, err error) {
	i, err := r.setNamed(set)
	if err != nil {
		return 0, err
	}
	return r.writes(i), nil
}

func (r *Router) writes(set int) (n int) {
	for _, c := range r.open.list() {
		if c.set() == set {
			n += int(c.seen.Writes.Load())
		}
	}
	return n
}

// Move takes a set to another home and lets its clients go on there. It returns when they do, or with the reason why the home could not be asked for its brokers: then all is as before, and it
// may be called again.
func (r *Router) Move(ctx context.Context, set string, to Home) error {
	i, err := r.setNamed(set)
	if err != nil {
		return err
	}
	if now := r.stages.of(i).Generation; to.Generation <= now {
		return fmt.Errorf("move router %s to generation %d: it is at %d", r.cfg.Router.Name, to.Generation, now)
	}
	return r.moves.ask(ctx, &move{set: i, to: to, done: make(chan error, 1)})
}

// Written are the ends of the logs at the home of a set as far as this instance knows from what was acknowledged there, by topic and partition, since the home is that and this instance
// runs; see [written.Book.Ends]. Where the generation is another one than the set is at nothing is known, and the set of no such name has nothing.
func (r *Router) Written(set string, generation int64) map[string][]int64 {
	i, err := r.setNamed(set)
	if err != nil {
		return nil
	}
	if s := r.stages.now[i].Load(); s.Generation == generation {
		return s.Written.Ends()
	}
	return nil
}

// setNamed is the number of a set; that of no name is what no set names.
func (r *Router) setNamed(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	for i, s := range r.cfg.Router.Sets {
		if s.Name == name {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("router %s has no set %q", r.cfg.Router.Name, name)
}

// moving is what takes sets to other homes.
type moving struct {
	stages    stages
	moves     *moves
	followers []*follower // by set
	clusters  *clusters
	asked     chan struct{} // somebody knows of news in the logs of generations
}

// stages are where the homes of all sets stand.
type stages struct {
	now []*atomic.Pointer[staging]
}

// staging is a stage and where it is, how it ends, the open round that it is held for, and what there is to know of members of groups since the home moved; nil for nothing.
type staging struct {
	relay.Stage
	home  string
	over  chan struct{}
	round int64 // 0 for none
	book  *members.Book
	gated map[gate.Reason]int64 // batches at the gates of generations before
}

// decided is how many batches gates have decided about, in all generations.
func (s *staging) decided() map[gate.Reason]int64 {
	out := maps.Clone(s.gated)
	if out == nil {
		out = make(map[gate.Reason]int64)
	}
	if s.Producers != nil {
		for reason, n := range s.Producers.Counts() {
			out[reason] += n
		}
	}
	return out
}

// members is the book of a set, nil if it is not needed any more.
func (s stages) members(set int) *members.Book {
	if b := s.now[set].Load().book; b != nil && !b.Over(time.Now()) {
		return b
	}
	return nil
}

func newStages(homes []*home) (s stages) {
	for _, h := range homes {
		first := new(atomic.Pointer[staging])
		over := make(chan struct{})
		first.Store(&staging{Stage: relay.Stage{Written: written.New(), Over: over}, home: h.cluster.Name(), over: over})
		s.now = append(s.now, first)
	}
	return s
}

func (s stages) of(set int) relay.Stage { return s.now[set].Load().Stage }

// set puts what change makes of a stage in its place.
func (s stages) set(set int, change func(*staging)) {
	for {
		old := s.now[set].Load()
		next := *old
		change(&next)
		next.over = make(chan struct{})
		next.Over = next.over
		if s.now[set].CompareAndSwap(old, &next) {
			close(old.over)
			return
		}
	}
}

// move is a home that followLoop is to take a set to.
type move struct {
	set  int
	to   Home
	done chan error
}

// moves are those that wait for followLoop, which leaves what it does for them: it may be asking a home that is lost.
type moves struct {
	queue chan *move
	wait  atomic.Int32 // how many moves there are

	mu    sync.Mutex
	leave func() // what followLoop does; nil for nothing
}

// errMoving is why followLoop left what it did.
var errMoving = errors.New("a home is moving")

// ask has a move done.
func (m *moves) ask(ctx context.Context, one *move) error {
	m.wait.Add(1)
	defer m.wait.Add(-1)
	m.mu.Lock()
	if m.leave != nil {
		m.leave()
	}
	m.mu.Unlock()
	select {
	case m.queue <- one:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-one.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// while runs what a move may interrupt.
func (m *moves) while(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.mu.Lock()
	m.leave = func() { cancel(errMoving) }
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leave = nil
	}()
	if m.wait.Load() > 0 {
		return nil
	}
	return fn(ctx)
}

// take takes a set to another home. It is followLoop's.
func (r *Router) take(ctx context.Context, m *move) error {
	f := &r.follow
	before := f.homes[m.set]
	h := newHome(known{set: before.set, cluster: m.to.Cluster, generation: m.to.Generation, positions: m.to.Positions}, before.way)
	f.homes[m.set] = h
	err := r.arrive(ctx, h)
	if err != nil {
		f.homes[m.set] = before
		r.followers[m.set].failed.Add(1)
		return fmt.Errorf("move %s of router %s to %s: %w", h.about("home"), r.cfg.Router.Name, m.to.Cluster.Name(), err)
	}
	r.apart.moved(m.set)
	r.followers[m.set].put(func(s *staging) {
		s.gated = s.decided()
		s.Generation, s.home = m.to.Generation, m.to.Cluster.Name()
		s.Producers, s.Written, s.book = m.to.Producers, written.New(), members.New(time.Now(), m.to.Members)
	})
	r.followers[m.set].moved.Add(1)
	r.log.Info("home moved", "set", h.set, "home", m.to.Cluster.Name(), "generation", m.to.Generation, "brokers", len(h.last.Brokers))
	return nil
}

// arrive asks a home that is new who its brokers are, gives them slots, and draws the picture with them.
func (r *Router) arrive(ctx context.Context, h *home) error {
	ctx, cancel := context.WithTimeoutCause(ctx, homePatience, fmt.Errorf("no answer within %v: %w", homePatience, context.DeadlineExceeded))
	defer cancel()
	var err error
	if h.last, err = h.brokers(ctx); err != nil {
		return err
	}
	if told := r.follow.versions; told != nil {
		if _, err := h.speaks(ctx, told); err != nil {
			return err
		}
	}
	if err := r.claim(ctx); err != nil {
		return err
	}
	return r.redraw(ctx)
}
