package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/members"
	"github.com/isthmus-project/isthmus/router/relay"
)

const (
	// lookEvery is how often the logs of generations are read: a lease lasts for nearly three of them.
	lookEvery = time.Second
	// fewPatience is how long a router that starts waits for a majority of the control clusters. Then the highest decision counts of those that could be read.
	fewPatience = 10 * time.Second
	// beginAgain is how soon it tries again what it needs to start.
	beginAgain = 500 * time.Millisecond
)

// Look has the logs of generations read now, and not only when it is time.
func (r *Router) Look() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// reading is what became of reading the logs.
type reading struct {
	generation.Reading
	err error
}

// followGenerations takes the sets where it was decided that they are, until ctx ends (nil), or the logs are such that only a newer version knows.
func (r *Router) followGenerations(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, f := range r.followers {
		all.Go(func() { f.run(ctx) })
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	results := make(chan reading, 1)
	busy, again := false, false
	for {
		due := true
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			r.learnAll(ctx) // a control cluster that is silent holds up the others' news otherwise
		case <-r.asked:
			again = busy
		case got := <-results:
			busy, due, again = false, again, false
			if err := r.took(ctx, got); err != nil {
				return err
			}
		}
		if due && !busy {
			busy = true
			all.Go(func() {
				one, err := r.deps.Generations.Read(ctx)
				results <- reading{one, err}
			})
		}
	}
}

// took does what follows from a reading. Its error does not pass by itself.
func (r *Router) took(ctx context.Context, got reading) error {
	if errors.Is(got.err, generation.ErrVersion) && ctx.Err() == nil {
		return fmt.Errorf("router %s: %w", r.cfg.Router.Name, got.err)
	}
	r.tell(ctx, aboutLogs, "what is decided about homes cannot be read", got.err)
	for _, f := range r.followers {
		if l, err := r.deps.Generations.Lease(got.Reading, f.name); err == nil {
			f.grant(l)
		}
	}
	r.learnAll(ctx)
	return nil
}

// aboutLogs is the trouble of logs that cannot be read.
const aboutLogs = "generations"

// learnAll has all sets act on what was read.
func (r *Router) learnAll(ctx context.Context) {
	for _, f := range r.followers {
		_, err := f.learn()
		r.tell(ctx, aboutLogs+" of set "+f.name, "the logs of generations cannot be right; a set stays where it is", err)
	}
}

// begin waits until it is known where the homes are, and begins there. It returns nil when ctx ends.
func (r *Router) begin(ctx context.Context) error {
	if r.deps.Generations == nil {
		return nil
	}
	for few := time.Now().Add(fewPatience); ; {
		one, err := r.deps.Generations.Read(ctx)
		if errors.Is(err, generation.ErrVersion) {
			return fmt.Errorf("router %s: %w", r.cfg.Router.Name, err)
		}
		r.tell(ctx, aboutLogs, "what is decided about homes cannot be read", err)
		if (err == nil || one.Read > 0 && !time.Now().Before(few)) && r.beginAt(ctx) {
			return r.took(ctx, reading{one, err})
		}
		if sleep(ctx, beginAgain) != nil {
			return nil
		}
	}
}

// beginAt has the sets begin at the homes that were decided before, and reports whether all could. Nobody is served yet.
func (r *Router) beginAt(ctx context.Context) bool {
	for i, f := range r.followers {
		st, err := r.deps.Generations.State(f.name)
		if err == nil && st.Generation > f.at() {
			var home Home
			if home, err = f.build(ctx, st, false, nil); err == nil {
				r.follow.homes[i] = newHome(known{set: f.name, cluster: home.Cluster, generation: home.Generation, positions: home.Positions}, r.follow.homes[i].way)
				r.stages.set(i, func(s *staging) {
					s.Generation, s.home, s.Producers = home.Generation, home.Cluster.Name(), home.Producers
				})
				r.log.Info("a home was decided before", "set", f.name, "home", home.Cluster.Name(), "generation", home.Generation)
			}
		}
		if f.say(ctx, err); err != nil {
			return false
		}
	}
	return true
}

// lease is what a connection asks before it writes; nil where nothing has to be asked.
func (r *Router) lease(c *connection) func(generation int64) bool {
	if r.deps.Generations == nil {
		return nil
	}
	return func(generation int64) bool {
		f := r.followers[c.set()]
		return !f.strict || f.leased(generation)
	}
}

// dropAll hangs up on who waits for the home of a set, which is lost.
func (r *Router) dropAll(set int) {
	for _, c := range r.open.list() {
		if c.set() == set && (c.seen.Writes.Load() > 0 || c.seen.Pending.Load() > 0) {
			c.relay.Drop()
		}
	}
}

// Standing is where a set stands at this instance.
type Standing struct {
	Set        string
	Home       string // cluster
	Generation int64
	Phase      hold.Phase
	Round      int64 // the open round that it holds for; 0 for none
	Writes     int   // requests that may still change something at the home
	// Held says that it holds for Round: no write is under way, and none will be sent on before the round is decided; and the members of groups are known, or could not be asked.
	Held    bool
	Leased  bool
	Trouble string // why it does not go on: for people
}

// Standings are those of all sets, the unnamed first. It waits for nothing.
func (r *Router) Standings() (out []Standing) {
	logs := r.news.about(aboutLogs)
	for i, f := range r.followers {
		now := r.stages.now[i].Load()
		s := Standing{Set: f.name, Home: now.home, Generation: now.Generation, Phase: now.Phase, Round: now.round, Writes: r.writes(i), Leased: f.leased(now.Generation)}
		f.mu.Lock()
		s.Held = now.round != 0 && f.held == now.round && s.Writes == 0
		s.Trouble = f.trouble
		f.mu.Unlock()
		if s.Trouble == "" {
			s.Trouble = logs
		}
		out = append(out, s)
	}
	return out
}

// relayed is what a relay needs of homes that may change.
func (r *Router) relayed(c *connection) relay.Moving {
	return relay.Moving{
		Stage: func() relay.Stage { return r.stages.of(c.set()) }, Members: func() *members.Book { return r.stages.members(c.set()) },
		Lease: r.lease(c),
		Committed: func(ctx context.Context, generation int64, id string, producer int64, epoch int16) bool {
			return r.followers[c.set()].committed(ctx, generation, id, producer, epoch)
		},
	}
}
