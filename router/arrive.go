package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/sets"
)

const (
	// arrivePatience is how long it may take to find out what there is to know of a home.
	arrivePatience = 30 * time.Second
	// leftPatience is how long a home that is left may take to say that it is there.
	leftPatience = time.Second
	// membersPatience is how long it may take to say who the members of groups are: the switch waits for that.
	membersPatience = 2 * time.Second
)

// arrive takes the set to the newest home that was decided.
func (f *follower) arrive(ctx context.Context) error {
	st, err := f.learn() // which ends ctx where it is news
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	at := f.r.stages.now[f.set].Load()
	if st.Generation <= at.Generation {
		return nil
	}
	home, err := f.build(ctx, st, st.Generation == at.Generation+1, f.left(ctx, at, st))
	if err != nil {
		if ctx.Err() == nil {
			f.failed.Add(1)
		}
		return err
	}
	f.mu.Lock()
	if f.gathered.generation == at.Generation && st.Generation == at.Generation+1 {
		home.Members = f.gathered.members
	}
	f.mu.Unlock()
	return f.r.Move(ctx, f.name, home)
}

// build finds out what there is to know of a home that was decided.
func (f *follower) build(ctx context.Context, st generation.State, along bool, left *broker.Cluster) (Home, error) {
	failed := func(err error) (Home, error) {
		return Home{}, fmt.Errorf("go to generation %d at %s: %w", st.Generation, st.Home, err)
	}
	cluster, err := f.r.clusters.of(st.Home)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, arrivePatience, fmt.Errorf("not done within %v: %w", arrivePatience, context.DeadlineExceeded))
	defer cancel()
	request := arrival.Request{
		Router: f.r.cfg.Router.Name, Set: f.name, First: f.r.cfg.homeName(f.set), Switches: st.History, Cut: f.r.cut, Along: along, Left: left, Now: time.Now(),
		Salted: func(id int64) (int64, error) { return f.r.deps.Salted(id, st.Generation) },
	}
	if request.There, err = arrival.There(ctx, cluster); err != nil {
		return failed(err)
	}
	request.Earlier = f.earlier(st, left)
	var runs arrival.Runs
	if f.r.deps.Runs != nil {
		runs = f.r.deps.Runs()
	}
	got, err := f.r.deps.Arrive(ctx, request, runs)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return failed(err)
	}
	return Home{Generation: st.Generation, Cluster: cluster, Positions: got.Positions, Producers: got.Producers}, nil
}

// earlier are the other clusters that were home.
func (f *follower) earlier(st generation.State, left *broker.Cluster) (all []*broker.Cluster) {
	names := []string{f.r.cfg.homeName(f.set)}
	for _, v := range st.History {
		names = append(names, v.Home)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if c, err := f.r.clusters.of(name); err == nil && c != left {
			all = append(all, c)
		}
	}
	return all
}

// cut is a cut that was decided on. Its chunks are in a majority of the logs, so in one of any majority that was read to the end.
func (r *Router) cut(ctx context.Context, ref generation.CutRef) ([]generation.CutTopic, error) {
	topics, err := r.deps.Generations.Cut(ref)
	if !errors.Is(err, generation.ErrCut) {
		return topics, err
	}
	if _, err := r.deps.Generations.Read(ctx); err != nil {
		return nil, err
	}
	return r.deps.Generations.Cut(ref)
}

// left is the home that clients are taken along from, if it can be asked; nil if not, or if it is not the one before the newest.
func (f *follower) left(ctx context.Context, at *staging, st generation.State) *broker.Cluster {
	last := st.History[len(st.History)-1]
	if st.Generation != at.Generation+1 || last.Kind == generation.Unplanned {
		return nil
	}
	c, err := f.r.clusters.of(at.home)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leftPatience)
	defer cancel()
	if _, err := c.Brokers(ctx); err != nil {
		f.r.log.Warn("the home that is left cannot be asked; producers are not kept in order behind the move", "set", f.name, "left", at.home, "error", err)
		return nil
	}
	return c
}

// warm has the connections to a home made that the set is about to go to; what is wrong with it is said by the move.
func (f *follower) warm(ctx context.Context, home string) {
	ctx, cancel := context.WithTimeout(ctx, homePatience)
	defer cancel()
	if c, err := f.r.clusters.of(home); err == nil {
		_ = f.r.Speaks(ctx, c)
	}
}

// anybody is a member that never comes back: who joins a group of which nobody could say who was in it waits as long as for one.
var anybody = []string{""}

// membersHere are the members of the set's groups at the home that it is at; nil if nobody could be asked.
func (f *follower) membersHere(ctx context.Context) map[string][]string {
	ctx, cancel := context.WithTimeout(ctx, membersPatience)
	defer cancel()
	c, err := f.r.clusters.of(f.r.stages.now[f.set].Load().home)
	if err != nil {
		return nil
	}
	members, err := membersOf(ctx, c, sets.NewMap(f.r.cfg.Router), f.set)
	if err != nil && ctx.Err() == nil {
		f.r.log.Warn("not all members of groups are known at the home that may be left; behind a move who joins waits for others as long as it may", "set", f.name, "error", err)
	}
	return members
}

// membersOf are the members of the groups of a set at a cluster, by group; those of which it does not tell have anybody.
func membersOf(ctx context.Context, c *broker.Cluster, all *sets.Map, set int) (map[string][]string, error) {
	groups, err := c.Groups(ctx)
	if err != nil {
		return nil, err // a group that is not named would have no members
	}
	var ask []string
	for _, g := range groups {
		if all.OfGroup(g.ID) == set && g.Classic() && g.State != broker.GroupEmpty && g.State != broker.GroupDead {
			ask = append(ask, g.ID)
		}
	}
	members, err := c.GroupMembers(ctx, ask...)
	for _, id := range ask {
		if _, told := members[id]; !told {
			members[id] = anybody
		}
	}
	return members, err
}
