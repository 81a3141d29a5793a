package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/sets"
	"github.com/isthmus-project/isthmus/router/switchover"
)

const (
	// groupsAtOnce is how many groups are worked on at the same time.
	groupsAtOnce = 16
	// groupLooks is how often it is looked whether all positions are as they were set: a link may be carrying an older one over just then.
	groupLooks = 5
)

// where is how positions at a home are called by clients, and back; the zero value is a home whose own they are.
type where struct{ arrival.Arrived }

func (w where) virtual(topic string, p int32, real int64) int64 {
	if w.Positions == nil {
		return real
	}
	return w.Positions.Virtual(topic, p, real)
}

func (w where) real(topic string, p int32, virtual int64) int64 {
	if w.Positions == nil {
		return virtual
	}
	return w.Positions.Real(topic, p, virtual)
}

// mirror takes the groups along: nobody is a member at the home that is left any more, and the new one has their positions.
func (a *attempt) mirror(ctx context.Context, s switchover.State) switchover.Event {
	if err := a.takeGroups(ctx, s); err != nil {
		return refused(err)
	}
	return switchover.Event{Happening: switchover.Mirrored}
}

func (a *attempt) takeGroups(ctx context.Context, s switchover.State) error {
	from, to, err := a.clusters(s)
	if err != nil {
		return err
	}
	here := a.here(s.Set)
	names, _, err := groupsOf(ctx, from, here)
	if err == nil {
		err = emptyAll(ctx, from, names)
	}
	if err != nil {
		return err
	}
	before, err := a.history(s)
	if err != nil {
		return err
	}
	var there [2]where
	for i, switches := range [][]generation.Value{before, append(slices.Clone(before), s.Value())} {
		r, err := a.request(s.Set, switches)
		if err == nil {
			r.There, err = arrival.There(ctx, []*broker.Cluster{from, to}[i])
		}
		if err != nil {
			return err
		}
		if there[i].Arrived, err = arrival.Build(ctx, r, a.deps.Mirror()); err != nil {
			return err
		}
	}
	wanted, err := positions(from.GroupOffsets(ctx, names...), func(o *broker.GroupOffset) bool {
		o.Offset, o.LeaderEpoch = there[1].real(o.Topic, o.Partition, there[0].virtual(o.Topic, o.Partition, o.Offset)), -1
		return here.Topic(o.Topic) && !ours(o.Topic)
	})
	if err != nil {
		return err
	}
	return setAll(ctx, to, wanted)
}

// groupsOf are the groups of a set at a cluster: those that clients of a router can be in, and the others.
func groupsOf(ctx context.Context, at *broker.Cluster, here sets.Here) (names, others []string, err error) {
	groups, err := at.Groups(ctx)
	for _, g := range groups {
		switch {
		case !here.Group(g.ID):
		case g.Classic():
			names = append(names, g.ID)
		default:
			others = append(others, g.ID)
		}
	}
	return names, others, err
}

// emptyAll takes the members out of those of some groups that have any.
func emptyAll(ctx context.Context, at *broker.Cluster, names []string) error {
	if len(names) == 0 {
		return nil
	}
	all, err := at.DescribeGroups(ctx, names...)
	if err != nil {
		return err
	}
	ask, ctx := errgroup.WithContext(ctx)
	ask.SetLimit(groupsAtOnce)
	for _, name := range names {
		if g := all[name]; g.Active() {
			ask.Go(func() error {
				_, err := at.EmptyGroup(ctx, name)
				return err
			})
		}
	}
	return ask.Wait()
}

// positions are the offsets of groups that keep says are wanted, as it changes them.
func positions(all map[string]broker.GroupOffsets, keep func(*broker.GroupOffset) bool) (map[string][]broker.GroupOffset, error) {
	out := make(map[string][]broker.GroupOffset)
	for group, g := range all {
		if g.Err != nil {
			return nil, g.Err
		}
		for _, o := range g.Offsets {
			if o.Err != nil {
				return nil, fmt.Errorf("position of group %s in %s:%d: %w", group, o.Topic, o.Partition, o.Err)
			}
			if o.Offset >= 0 && keep(&o) {
				out[group] = append(out[group], o)
			}
		}
	}
	return out, nil
}

// errMoves says that positions are set by somebody else at the same time.
var errMoves = errors.New("somebody else sets them too")

// setAll sets positions where they are others, and looks until they stay.
func setAll(ctx context.Context, at *broker.Cluster, wanted map[string][]broker.GroupOffset) error {
	names := slices.Sorted(maps.Keys(wanted))
	for range groupLooks {
		others, err := differ(at.GroupOffsets(ctx, names...), wanted)
		if err != nil {
			return err
		}
		if len(others) == 0 {
			return nil
		}
		if err := emptyAll(ctx, at, slices.Sorted(maps.Keys(others))); err != nil {
			return err
		}
		if err := commitAll(ctx, at, others); err != nil {
			return err
		}
	}
	return fmt.Errorf("set the positions of %s at %s: %w", some(names), at.Name(), errMoves)
}

// differ are the positions that are wanted and are not there.
func differ(there map[string]broker.GroupOffsets, wanted map[string][]broker.GroupOffset) (map[string][]broker.GroupOffset, error) {
	out := make(map[string][]broker.GroupOffset)
	for group, list := range wanted {
		g := there[group]
		if g.Err != nil {
			return nil, g.Err
		}
		at := make(map[broker.TopicPartition]int64, len(g.Offsets))
		for _, o := range g.Offsets {
			if o.Err == nil {
				at[o.TopicPartition] = o.Offset
			}
		}
		for _, o := range list {
			if now, ok := at[o.TopicPartition]; !ok || now != o.Offset {
				out[group] = append(out[group], o)
			}
		}
	}
	return out, nil
}

// commitAll commits positions of groups that have no members. What a cluster refuses is an error: whoever goes on there would read again, or skip.
func commitAll(ctx context.Context, at *broker.Cluster, offsets map[string][]broker.GroupOffset) error {
	var mu sync.Mutex
	var errs []error
	var ask errgroup.Group
	ask.SetLimit(groupsAtOnce)
	for group, list := range offsets {
		ask.Go(func() error {
			no, err := at.CommitGroup(ctx, group, list)
			for tp, one := range no {
				err = errors.Join(err, fmt.Errorf("position of group %s in %s:%d at %s: %w", group, tp.Topic, tp.Partition, at.Name(), one))
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil && len(errs) < most {
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = ask.Wait() // errors are in errs
	return errors.Join(errs...)
}
