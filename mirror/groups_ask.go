package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
)

// LinkGroups are the groups that a link is asked for.
type LinkGroups struct {
	// Positions are where they stand, by group, topic and partition.
	Positions []GroupStatus
	// Share are the share groups (KIP-932) of either cluster, by name: they have no committed positions, so nothing of them is kept.
	Share []string
}

// GroupStatus is a group's position in one partition on the two clusters of a link.
type GroupStatus struct {
	Link, Group, Topic string
	As                 string // what the target calls the topic, where that is another name
	Partition          int32
	Source, Target     GroupPlace
	State              GroupState
	// Why says more where the state needs it.
	Why string
	// Synced is when the two were last noted to be alike; zero: never.
	Synced time.Time
	// Reread is how many offsets of the target the group would read twice if it moved there now, -1 where that is not known (such as ahead of what
	// is copied), or where it would begin by its own rule because it has no position there.
	Reread int64
}

// GroupPlace is a position on one cluster.
type GroupPlace struct {
	Offset int64 // -1: none
	Lag    int64 // offsets up to the end of the log; -1 unknown
	Active bool  // the group has members there
}

// GroupState is what becomes of a position.
type GroupState string

// The states of positions.
const (
	GroupAlike   GroupState = "alike"    // both sides are
	GroupMoves   GroupState = "moves"    // one side is about to be set
	GroupWaits   GroupState = "waits"    // for records before it that are not copied yet
	GroupBlocked GroupState = "blocked"  // the side that would be set has members
	GroupSplit   GroupState = "split"    // both sides have members, and each goes its own way
	GroupLone    GroupState = "one-side" // it is on one side only, and is not brought to the other
	GroupUnknown GroupState = "unknown"  // one of the clusters did not tell
)

// groupStates says what is done of a position, to people.
var groupStates = map[groupDo]GroupState{groupNothing: GroupAlike, groupNote: GroupAlike, groupForget: GroupAlike, groupDelete: GroupLone, groupSetTarget: GroupMoves, groupSetSource: GroupMoves,
	groupWaits: GroupWaits, groupBlocked: GroupBlocked, groupSplit: GroupSplit}

// endsAtOnce is how many log ends are asked for at a time.
const endsAtOnce = 16

// Groups tells where the groups of a link stand on both of its clusters now, by asking both: those that are named, or all. An error that joins what
// single groups have is returned beside what could be learnt. It returns [ErrNoLink].
func (s *Set) Groups(ctx context.Context, link string, only ...string) (LinkGroups, error) {
	all := s.list()
	for _, l := range all {
		if l.name != link {
			continue
		}
		var back *Link
		for _, b := range all {
			if b.spec.From == l.spec.To && b.spec.To == l.spec.From && b.keepsGroups() {
				back = b.Link
			}
		}
		return l.groupsNow(ctx, back, only)
	}
	return LinkGroups{}, fmt.Errorf("groups of link %q: %w", link, ErrNoLink)
}

// groupsNow asks about the groups that only names, or all; back is the link the other way, if there is one here.
func (l *Link) groupsNow(ctx context.Context, back *Link, only []string) (out LinkGroups, err error) {
	if !l.keepsGroups() {
		return out, nil
	}
	k := newGroupKeeper(l, l.clusterEnds())
	k.other = back
	if l.shared.owners != nil { // other nodes note, too
		for _, noted := range []*Link{l, back} {
			if noted == nil {
				continue
			}
			if err := noted.store.refresh(ctx); err != nil {
				return out, err
			}
		}
	}
	kinds, err := l.wantedGroups(ctx, only)
	if err != nil {
		return out, err
	}
	names := slices.Sorted(maps.Keys(kinds))
	view := l.viewer(ctx)
	var errs []error
	for some := range slices.Chunk(names, groupsAtOnce) {
		now, err := k.ask(ctx, some)
		errs = append(errs, err)
		for _, group := range some {
			states := k.statesOf(group, now, view)
			for end, kind := range kinds[group] {
				if kind == broker.GroupShare {
					tellShare(states, k.names[end])
					out.Share = append(out.Share, group)
				}
			}
			out.Positions = append(out.Positions, states...)
		}
	}
	out.Share = slices.Compact(out.Share)
	return out, errors.Join(append(errs, l.lagsOf(ctx, out.Positions))...)
}

// tellShare says of positions why they stay where they are: the other cluster has a share group of that name.
func tellShare(states []GroupStatus, cluster string) {
	for i := range states {
		states[i].State, states[i].Why = GroupLone, fmt.Sprintf("%s has a share group of that name, which takes no positions", cluster)
	}
}

// wantedGroups are those that the link keeps and either cluster has, of only these or of all, and of which types they are there.
func (l *Link) wantedGroups(ctx context.Context, only []string) (map[string][2]broker.GroupType, error) {
	terms, all := l.terms(), make(map[string][2]broker.GroupType)
	for end, c := range []*broker.Cluster{l.from, l.to} {
		list, err := c.Groups(ctx)
		if err != nil {
			return nil, err
		}
		for _, g := range list {
			if terms.KeepsGroup(g.ID) && (len(only) == 0 || slices.Contains(only, g.ID)) {
				kinds := all[g.ID]
				kinds[end] = g.Type
				all[g.ID] = kinds
			}
		}
	}
	return all, nil
}

// statesOf are the positions of one group.
func (k *groupKeeper) statesOf(group string, now *groupsNow, view findMap) (out []GroupStatus) {
	partitions := make(map[topicPartition]bool)
	for end := range now.at {
		for tp := range now.at[end][group] {
			partitions[tp] = true
		}
	}
	order := func(a, b topicPartition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	}
	for _, tp := range slices.SortedFunc(maps.Keys(partitions), order) {
		key := groupKey{group, tp}
		if !k.link.routing().keepsGroup(k.link.terms(), key) {
			continue
		}
		c := k.caseOf(key, now, view)
		do, _ := c.decide()
		g := GroupStatus{Link: k.link.name, Group: group, Topic: tp.topic, As: k.pump(key).As, Partition: tp.partition, Source: placeOf(c.source), Target: placeOf(c.target),
			State: groupStates[do], Reread: -1}
		if do == groupDelete {
			g.Why = fmt.Sprintf("gone from the source; taken away after %v", k.link.terms().Policy.DeletedAfter)
		}
		if why := cmp.Or(c.source.err, c.target.err); why != nil && do == groupWaits {
			g.Why = why.Error()
		}
		switch {
		case !now.knows(group):
			g.State = GroupUnknown
		case do == groupNothing && (c.source.at == nil || c.target.at == nil):
			g.State = GroupLone
		}
		if c.noted != nil {
			g.Synced = time.UnixMilli(c.noted.when)
		}
		if c.source.at != nil && c.source.ok && c.target.at != nil {
			g.Reread = max(0, c.source.there-c.target.at.offset)
		}
		out = append(out, g)
	}
	return out
}

func placeOf(s groupSide) GroupPlace {
	p := GroupPlace{Offset: -1, Lag: -1, Active: s.active}
	if s.at != nil {
		p.Offset = s.at.offset
	}
	return p
}

// lagsOf asks for the ends of the logs that positions are in.
func (l *Link) lagsOf(ctx context.Context, all []GroupStatus) error {
	var mu sync.Mutex
	ends := [2]map[topicPartition]int64{{}, {}}
	var errs []error
	var ask errgroup.Group
	ask.SetLimit(endsAtOnce)
	for _, g := range all {
		tp := topicPartition{g.Topic, g.Partition}
		for end, c := range []*broker.Cluster{l.from, l.to} {
			mu.Lock()
			_, asked := ends[end][tp]
			ends[end][tp] = -1
			mu.Unlock()
			if asked {
				continue
			}
			ask.Go(func() error {
				at, err := c.ListOffsets(ctx, groupNames{l, end == atTargetEnd}.called(tp.topic), tp.partition, broker.Latest, true)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
					return nil
				}
				ends[end][tp] = at.Offset
				return nil
			})
		}
	}
	_ = ask.Wait() // errors are in errs
	for i := range all {
		tp := topicPartition{all[i].Topic, all[i].Partition}
		for end, p := range []*GroupPlace{&all[i].Source, &all[i].Target} {
			if e := ends[end][tp]; p.Offset >= 0 && e >= 0 {
				p.Lag = max(0, e-p.Offset)
			}
		}
	}
	return errors.Join(errs...)
}
