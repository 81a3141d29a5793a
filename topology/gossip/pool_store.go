package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	storeTimeout = 20 * time.Second // of loading, or saving what is missing
	saveTimeout  = 5 * time.Second  // of one change
	saveAnswer   = 700 * time.Millisecond
	storePoll    = 5 * time.Second        // between two tries of a store that failed
	storeLook    = 500 * time.Millisecond // for stores that are new
	storeSweep   = 256                    // changes that mean nothing any more, until they are taken out of a store
	storeTries   = 3                      // of reading one, until it is not waited for any more
)

// ErrNoSettings is wrapped by the error of a [Store] whose cluster refuses for good to give this node any: it is not waited for.
var ErrNoSettings = errors.New("the cluster gives this node no settings")

// storing keeps the stores and the settings the same.
type storing struct {
	p *Pool

	mu     sync.Mutex
	loaded map[string]time.Time // stores that were read, and when they were compared
	behind map[string]bool      // stores that missed a change
	tried  map[string]int       // how often reading one failed that was never read
	told   map[string]bool      // stores of which it was told that they were read
	again  map[string]time.Time // when one that failed is tried again
	busy   map[string]bool
}

func newStoring(p *Pool) *storing {
	return &storing{p: p, loaded: make(map[string]time.Time), behind: make(map[string]bool),
		tried: make(map[string]int), told: make(map[string]bool), again: make(map[string]time.Time), busy: make(map[string]bool)}
}

func (s *storing) stores() []Store {
	if s.p.deps.Stores == nil {
		return nil
	}
	return s.p.deps.Stores()
}

// save stores a new change everywhere. It waits a moment only; what is not done by then goes on, and the note names it.
func (s *storing) save(ctx context.Context, c Change) (note string) {
	type result struct {
		name string
		err  error
	}
	stores := s.stores()
	done := make(chan result, len(stores))
	waiting := make(map[string]bool)
	for _, st := range stores {
		waiting[st.Name()] = true
		started := s.p.mail.spawn(s.p.mail.serving, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
			defer cancel()
			err := st.Save(ctx, c)
			s.missed(st.Name(), err)
			done <- result{st.Name(), err}
		})
		if !started {
			s.missed(st.Name(), errors.New("too much is going on"))
		}
	}
	for _, name := range s.away(waiting) {
		s.missed(name, errors.New("the cluster does not answer"))
		waiting[name] = true
	}
	timer := time.NewTimer(saveAnswer)
	defer timer.Stop()
	for range stores {
		select {
		case r := <-done:
			if r.err == nil {
				delete(waiting, r.name)
			}
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		break
	}
	if len(waiting) == 0 {
		return ""
	}
	return fmt.Sprintf("not stored yet on cluster %s; it will be", strings.Join(sortedKeys(waiting), ", "))
}

// away are the stores that were there before, without those that are.
func (s *storing) away(there map[string]bool) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range sortedKeys(s.loaded) {
		if !there[name] {
			names = append(names, name)
		}
	}
	return names
}

// missed remembers that a store is behind.
func (s *storing) missed(name string, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	s.behind[name] = true
	s.again[name] = s.p.deps.Now().Add(storePoll)
	s.mu.Unlock()
	if s.p.limit.ok("store " + name) {
		s.p.deps.Log.Warn("settings not stored, will try again", "cluster", name, "err", err)
	}
}

// loop reads each store once, and compares it now and then.
func (s *storing) loop(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	s.each(ctx, &wg)
	wg.Wait()
	close(s.p.load)
	for pause(ctx, s.p.rand.around(storeLook)) {
		s.each(ctx, &wg)
	}
	return nil
}

// each compares those stores that are due, side by side, each by itself: one that hangs holds up no other.
func (s *storing) each(ctx context.Context, wg *sync.WaitGroup) {
	for _, st := range s.stores() {
		if !s.due(st) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			err := s.compare(ctx, st)
			s.compared(st.Name(), err)
			if err != nil && ctx.Err() == nil && s.p.limit.ok("compare "+st.Name()) {
				s.p.deps.Log.Warn("settings and their store not compared, will try again", "cluster", st.Name(), "err", err)
			}
		})
	}
}

// compared notes how it went.
func (s *storing) compared(name string, err error) {
	s.mu.Lock()
	delete(s.busy, name)
	if err != nil {
		s.again[name] = s.p.deps.Now().Add(storePoll)
	}
	if _, read := s.loaded[name]; !read {
		s.tried[name]++
	}
	if errors.Is(err, ErrNoSettings) {
		s.tried[name] = storeTries
	}
	news := s.readLocked(name) && !s.told[name]
	s.told[name] = s.told[name] || news
	s.mu.Unlock()
	if news {
		s.p.mu.Lock()
		s.p.publishLocked()
		s.p.mu.Unlock()
	}
}

func (s *storing) readLocked(name string) bool {
	_, read := s.loaded[name]
	return read || s.tried[name] >= storeTries
}

// StoreRead tells whether this node knows the settings that the store of a cluster has: it read them once, or the cluster has none for
// it. Where reading fails for other reasons it tries three times. A change is told as one of the view.
func (p *Pool) StoreRead(cluster string) bool {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readLocked(cluster)
}

// due tells whether this node is to compare a store now: it never read it, or it missed a change, or it is this node's turn.
func (s *storing) due(st Store) bool {
	name, now := st.Name(), s.p.deps.Now()
	keeper := s.p.View().keeper(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.loaded[name]
	turn := !ok || s.behind[name] || now.Sub(at) >= s.p.cfg.Timings.Stores && keeper == s.p.cfg.Name
	if !turn || s.busy[name] || now.Before(s.again[name]) {
		return false
	}
	s.busy[name] = true
	return true
}

// keeper is the node that compares a cluster's store: the first live one by name that reaches the cluster.
func (v *View) keeper(cluster string) string {
	for _, m := range v.Members {
		if r := m.Report.Reach[cluster]; m.Status == Alive && r.Reads && r.Writes {
			return m.Name
		}
	}
	return v.Self // nobody said that it reaches it, but this node has the store
}

// compare takes over what only the store has, and adds what it has not.
func (s *storing) compare(ctx context.Context, st Store) error {
	s.mu.Lock()
	first := s.loaded[st.Name()].IsZero()
	behind := s.behind[st.Name()]
	delete(s.behind, st.Name()) // what is missed from now on is not in what is read
	s.mu.Unlock()
	before := s.p.deps.Settings.Changes()
	stored, bad := st.Load(ctx)
	if bad != nil && len(stored) == 0 {
		if behind {
			s.missed(st.Name(), bad)
		}
		return fmt.Errorf("load the settings of %s: %w", st.Name(), bad)
	}
	s.p.takeChanges(stored)
	s.mu.Lock()
	s.loaded[st.Name()] = s.p.deps.Now()
	s.mu.Unlock()
	if first && s.p.View().keeper(st.Name()) != s.p.cfg.Name {
		return bad // it just came; the keeper knows better what is missing
	}
	has := make(map[Time]bool, len(stored))
	for _, c := range stored {
		has[c.Version] = true
	}
	missing := slices.DeleteFunc(before, func(c Change) bool { return has[c.Version] })
	if len(missing) == 0 {
		return errors.Join(bad, s.sweep(ctx, st, stored))
	}
	if err := st.Save(ctx, missing...); err != nil {
		s.missed(st.Name(), err)
		return errors.Join(bad, fmt.Errorf("save settings to %s: %w", st.Name(), err))
	}
	return bad
}

// sweep takes out of a store what has no meaning any more, many at once: else it would grow for ever, and be read by each node that
// starts.
func (s *storing) sweep(ctx context.Context, st Store, stored []Change) error {
	over := s.p.deps.Settings.Superseded(stored)
	if len(over) < storeSweep {
		return nil
	}
	if err := st.Drop(ctx, over...); err != nil {
		return fmt.Errorf("drop old settings of %s: %w", st.Name(), err)
	}
	s.p.deps.Log.Debug("old settings dropped", "cluster", st.Name(), "changes", len(over))
	return nil
}
