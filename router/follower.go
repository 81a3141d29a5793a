package router

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
)

const (
	// arriveAgain and arriveMost are how long after a home could not be gone to that is tried again, at first and at most.
	arriveAgain = 250 * time.Millisecond
	arriveMost  = 5 * time.Second
	// lookFirst and lookMost are how often it is looked whether all writes are answered, at first and later.
	lookFirst = time.Millisecond
	lookMost  = 20 * time.Millisecond
)

// follower takes a set to where it was decided to be. Requests are held at once by whoever learns that they are to be; what takes time is done by run.
type follower struct {
	r      *Router
	set    int
	name   string
	strict bool // it takes no writes without a lease

	lease         atomic.Pointer[generation.Lease] // the newest that was good
	moved, failed atomic.Int64                     // how often the set went to another home, and could not
	wake          chan struct{}

	mu       sync.Mutex
	goal     goal
	leave    func() // ends what run does, which is over with the next goal; nil for nothing
	arriving bool   // that is going to another home, which is over with the next generation only
	rounds
	gathered gathered
	trouble  string
}

// rounds are those for which something is done.
type rounds struct {
	drained int64 // transactions had their time to end
	held    int64 // nothing is under way any more
}

// gathered are the members of groups at the home of a generation, which is about to be left.
type gathered struct {
	generation int64
	members    map[string][]string
}

// learn takes what the logs say now, and returns it.
func (f *follower) learn() (generation.State, error) {
	st, changed, err := f.look()
	if err != nil {
		return st, err
	}
	f.keep()
	if changed {
		f.again()
	}
	return st, nil
}

// look looks what the logs say, and reports whether that is another goal. Under the mutex, so that nobody takes what they said before for news.
func (f *follower) look() (st generation.State, changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st, err = f.r.deps.Generations.State(f.name); err != nil {
		return st, false, err
	}
	g := goalOf(st, f.r.deps.Generations.Plans(f.name))
	if g == f.goal {
		return st, false, nil
	}
	if f.leave != nil && (!f.arriving || g.generation != f.goal.generation) {
		f.leave()
	}
	if f.goal = g; g.round != 0 {
		f.held = 0
	}
	return st, true, nil
}

// again has run look at the goal.
func (f *follower) again() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// keep holds what the goal asks for where the set is now, and lets go what it does not.
func (f *follower) keep() {
	if f.keepPhase() == hold.Held {
		f.r.flush(f.set)
	}
}

// put puts the set at another home, and holds there what the goal asks for, which may be another one by now.
func (f *follower) put(change func(*staging)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.stages.set(f.set, func(s *staging) {
		change(s)
		s.Phase, s.round = f.goal.phase(s.Generation, f.drained)
		s.Closed = f.goal.generation > s.Generation
	})
}

// keepPhase returns the phase that begins with it; Serving also where nothing changes. Under the mutex, so that no older goal is the last word.
func (f *follower) keepPhase() (begins hold.Phase) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.r.stages.now[f.set].Load()
	if phase, round := f.goal.phase(now.Generation, f.drained); phase == now.Phase && round == now.round {
		return hold.Serving
	}
	f.r.stages.set(f.set, func(s *staging) {
		s.Phase, s.round = f.goal.phase(s.Generation, f.drained)
		s.Closed = f.goal.generation > s.Generation
		begins = s.Phase
	})
	return begins
}

func (f *follower) aim() goal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.goal
}

// at is the generation of the home that the set is at.
func (f *follower) at() int64 { return f.r.stages.of(f.set).Generation }

// grant takes a lease, if it is one, and has those go on who wait for it.
func (f *follower) grant(l generation.Lease) {
	if !l.Holds(f.r.deps.Clock()) {
		return
	}
	before := f.leased(l.Generation)
	if f.lease.Store(&l); !before {
		f.r.stages.set(f.set, func(*staging) {})
	}
}

// leased reports whether writes may go to the home of a generation now.
func (f *follower) leased(generation int64) bool {
	l := f.lease.Load() // never without Generations, and their clock
	return l != nil && l.Generation == generation && l.Holds(f.r.deps.Clock())
}

// run does what the goals ask for until ctx ends.
func (f *follower) run(ctx context.Context) {
	pause := arriveAgain
	for {
		g := f.aim()
		err := f.pursue(ctx, g)
		news := f.aim() != g
		if errors.Is(err, errNews) || news {
			err = nil
		}
		var later <-chan time.Time
		if f.say(ctx, err); err == nil {
			pause = arriveAgain
		} else {
			later = time.After(pause)
			pause = min(2*pause, arriveMost)
		}
		if news {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-later:
		}
	}
}

// errNews says that a task is over because of what was learned since it began.
var errNews = errors.New("something else was decided")

// pursue does what is to be done for a goal, and returns early where that is over.
func (f *follower) pursue(ctx context.Context, g goal) error {
	arriving := g.generation > f.at()
	if !arriving && g.round == 0 {
		f.mu.Lock()
		f.gathered = gathered{} // of a home that is not left
		f.mu.Unlock()
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.mu.Lock()
	f.leave, f.arriving = func() { cancel(errNews) }, arriving
	over, done := f.goal != g, !arriving && f.held == g.round
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.leave = nil
	}()
	switch {
	case over:
		return errNews
	case done:
		return nil
	}
	var err error
	if arriving {
		if err = f.arrive(ctx); err == nil {
			f.again() // a round may be open there
		}
	} else {
		err = f.gather(ctx, g)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// say keeps why the set does not go on, and logs it once.
func (f *follower) say(ctx context.Context, err error) {
	f.mu.Lock()
	if f.trouble = ""; err != nil && ctx.Err() == nil {
		f.trouble = err.Error()
	}
	f.mu.Unlock()
	about := "move"
	if f.name != "" {
		about += " of set " + f.name
	}
	f.r.tell(ctx, about, "a set cannot go to the home that was decided; its clients are held, or let go, and it is tried again", err)
}

// gather waits until nothing is under way to a home that may be left, and asks who the members of its groups are. Where the home is presumed dead, who waits for it is hung up on.
func (f *follower) gather(ctx context.Context, g goal) error {
	var warm sync.WaitGroup
	defer warm.Wait()
	if g.to != "" {
		warm.Go(func() { f.warm(ctx, g.to) })
	}
	if !g.lost {
		f.drain(ctx, g)
	}
	for pause := lookFirst; ; pause = min(2*pause, lookMost) {
		if g.lost {
			f.r.dropAll(f.set)
		}
		if f.r.writes(f.set) == 0 {
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	var members map[string][]string
	if !g.lost {
		members = f.membersHere(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.goal == g {
		f.r.stages.set(f.set, func(s *staging) { s.Closed = s.round == g.round }) // before anybody may decide
		f.held, f.gathered = g.round, gathered{g.generation, members}
	}
	return nil
}
