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

	"github.com/isthmus-project/isthmus/topology"
)

// A link keeps the positions of consumer groups alike on its two clusters (groups_decide.go says which side leads). Each position is kept by the node
// that copies its partition, so that the map it is translated by is the one that grows. What the clusters say of commits as they happen, or
// what is asked regularly, only says where to look: before anything is decided both clusters are asked again, because what was heard may be older than what
// this node has set since.
//
//	commits heard ─▶ book ─▶ moved? ─▶ ask both ─▶ decide ─▶ set ─▶ note
//	                           ▲                     │
//	                           └── again, later ◀────┘ waits, blocked, split, failed

const (
	// groupTick is how often is looked at what waits, groupGather how long after the first news others are waited for.
	groupTick, groupGather = 100 * time.Millisecond, 20 * time.Millisecond
	// groupRest is between two times of acting: what comes meanwhile is acted on together.
	groupRest = 300 * time.Millisecond
	// groupCome is how often is looked which partitions have come to this node, when nothing else is to be looked at.
	groupCome = time.Second
	// groupFirst and groupMost are between tries of one position; groupNear is the most for one that waits for what is copied, if few do.
	groupFirst, groupMost = 100 * time.Millisecond, 5 * time.Second
	groupNear, groupFew   = time.Second, 10_000
	// groupGrave is the most between looks at a group that is gone, until what was set of it is taken away.
	groupGrave = 10 * time.Minute
	// groupsAtOnce is how many groups are asked about and set at a time.
	groupsAtOnce = 200
	// groupSets is how many groups are set at a time: each is a request of its own.
	groupSets = 32
)

// groupEnd is what is done at one of the two clusters.
type groupEnd interface {
	// positions are those that groups have now. A group about which nothing could be learnt is missing; one that has none is there.
	positions(ctx context.Context, groups []string) (map[string]map[topicPartition]groupPosition, error)
	// active are the groups that have members, and those of which that is not known are missing.
	active(ctx context.Context, groups []string) (map[string]bool, error)
	// set commits positions of a group that has no members. refused are those that were not taken, if not all were.
	set(ctx context.Context, group string, at map[topicPartition]groupPosition) (refused map[topicPartition]error, err error)
	// remove takes positions of a group away. refused are those that were not taken away, if not all were.
	remove(ctx context.Context, group string, at []topicPartition) (refused map[topicPartition]error, err error)
}

// ends are the two clusters of a link.
const (
	atSourceEnd = iota
	atTargetEnd
)

// groupKeeper keeps the positions of one link's groups, as long as it runs.
type groupKeeper struct {
	link  *Link
	names [2]string // of the clusters
	ends  [2]groupEnd
	books [2]*groupBook
	wake  chan struct{}
	again map[groupKey]groupAgain
	mine  map[topicPartition]*pump // partitions that were copied here at the last pass
	came  time.Time                // that pass
	other *Link                    // the link the other way, for who only looks; nil: what it noted does not matter, or there is none
}

// groupAgain is a position that is looked at again.
type groupAgain struct {
	do    groupDo
	why   error // what failed; nil: nothing did
	since time.Time
	wait  time.Duration
	next  time.Time
}

func newGroupKeeper(l *Link, ends [2]groupEnd) *groupKeeper {
	wake := make(chan struct{}, 1)
	return &groupKeeper{link: l, names: [2]string{l.spec.From, l.spec.To}, ends: ends, books: [2]*groupBook{newGroupBook(wake), newGroupBook(wake)}, wake: wake,
		again: make(map[groupKey]groupAgain), mine: make(map[topicPartition]*pump)}
}

// run does passes until ctx ends or stop says so.
func (k *groupKeeper) run(ctx context.Context, stop func() bool) {
	tick := time.NewTicker(groupTick)
	defer tick.Stop()
	for !stop() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.wake:
			if sleep(ctx, groupGather) != nil {
				return
			}
		}
		call, cancel := context.WithTimeout(ctx, refreshTimeout)
		acted := k.pass(call)
		cancel()
		if acted && sleep(ctx, groupRest) != nil {
			return
		}
	}
}

// pass looks once at all that may have moved, and reports whether anything had.
func (k *groupKeeper) pass(ctx context.Context) (acted bool) {
	if k.link.groupsRest() {
		return false
	}
	due := k.due(k.link.now())
	for some := range slices.Chunk(slices.Sorted(maps.Keys(due)), groupsAtOnce) {
		k.act(ctx, some, due)
	}
	k.link.groupsPending.Store(k.pending())
	return len(due) > 0
}

// due are the positions that have to be acted on, by group.
func (k *groupKeeper) due(now time.Time) map[string][]groupKey {
	if !k.books[atSourceEnd].complete() || !k.books[atTargetEnd].complete() {
		return nil
	}
	keys := make(map[groupKey]bool)
	k.books[atSourceEnd].take(keys)
	k.books[atTargetEnd].take(keys)
	for key, a := range k.again {
		if !within(now, a.next.Add(-a.wait), a.next) {
			keys[key] = true
		}
	}
	if len(keys) == 0 && within(now, k.came, k.came.Add(groupCome)) {
		return nil
	}
	here := k.come(keys)
	k.came = now
	due := make(map[string][]groupKey)
	for key := range keys {
		keeps, both := k.keeps(key)
		if here[key.topicPartition] == nil || !keeps {
			delete(k.again, key)
			continue
		}
		c := groupCase{noted: k.link.store.groupPair(k.pump(key), key.group), both: both || k.books[atSourceEnd].has(key.group)}
		c.source.at, c.target.at = k.books[atSourceEnd].at(key), k.books[atTargetEnd].at(key)
		if c.still() {
			delete(k.again, key)
			continue
		}
		if a := k.again[key]; a.do == groupWaits && c.source.at != nil && c.source.at.offset > here[key.topicPartition].reached() {
			k.later(key, groupWaits, nil) // nobody has to be asked
			continue
		}
		due[key.group] = append(due[key.group], key)
	}
	return due
}

// come adds all positions in partitions that have come to this node, and returns the pumps that are here.
func (k *groupKeeper) come(keys map[groupKey]bool) (here map[topicPartition]*pump) {
	here = make(map[topicPartition]*pump)
	for _, p := range k.link.pumpsHere() {
		tp := topicPartition{p.id.Topic, p.id.Partition}
		here[tp] = p
		if k.mine[tp] == p {
			continue
		}
		for _, groups := range [][]string{k.books[atSourceEnd].in(tp), k.books[atTargetEnd].in(tp), k.link.store.groupsOf(p.id)} {
			for _, group := range groups {
				keys[groupKey{group, tp}] = true
			}
		}
	}
	k.mine = here
	return here
}

// keeps reports whether the link keeps a position, and whether the link the other way is for it as well: then the one whose name comes first
// does, both ways.
func (k *groupKeeper) keeps(key groupKey) (keeps, both bool) {
	t, r := k.link.terms(), k.link.routing()
	keeps = r.keepsGroup(t, key)
	there := key
	there.topic = k.pump(key).Target()
	for _, l := range r.topo.Links {
		if l.From == t.To && l.To == t.From && r.keepsGroup(l, there) && r.pumpID(l, there.topic, 0).Target() == key.topic {
			return keeps && t.Name < l.Name, true
		}
	}
	return keeps, false
}

// keepsGroup reports whether a link is for a position, by the topic's name at its source. Of topics that become one a position on the target could not be
// told whose it is.
func (r *routing) keepsGroup(l topology.Link, key groupKey) bool {
	return l.KeepsGroup(key.group) && !l.Merges(key.topic) && r.topo.Takes(l, key.topic)
}

func (k *groupKeeper) pump(key groupKey) PumpID {
	return k.link.routing().pumpID(k.link.spec, key.topic, key.partition)
}

// act decides about positions of some groups by what both clusters say now, and does it.
func (k *groupKeeper) act(ctx context.Context, groups []string, due map[string][]groupKey) {
	now, err := k.ask(ctx, groups)
	view, when := k.link.viewer(ctx), k.link.now().UnixMilli()
	var notes []groupNoted
	var all []*groupSetting
	for _, group := range groups {
		sets := [2]groupSetting{{end: atSourceEnd, group: group}, {end: atTargetEnd, group: group}}
		for _, key := range due[group] {
			if !now.knows(group) {
				k.later(key, groupNothing, errors.Join(fmt.Errorf("group %s: nothing could be learnt of it", group), err))
				continue
			}
			c := k.caseOf(key, now, view)
			do, to := c.decide()
			switch do {
			case groupSetTarget:
				sets[atTargetEnd].put(key.topicPartition, to, groupPair{c.source.at.offset, to.offset, when})
			case groupSetSource:
				sets[atSourceEnd].put(key.topicPartition, to, groupPair{to.offset, c.target.at.offset, when})
			case groupNote:
				notes = append(notes, groupNoted{k.pump(key), group, &groupPair{c.source.at.offset, c.target.at.offset, when}})
			case groupForget:
				notes = append(notes, groupNoted{k.pump(key), group, nil})
			case groupNothing:
				delete(k.again, key)
			case groupDelete:
				if k.rests(key) {
					sets[atTargetEnd].gone = append(sets[atTargetEnd].gone, key.topicPartition)
				}
			default:
				k.later(key, do, cmp.Or(c.source.err, c.target.err))
			}
		}
		for i := range sets {
			if len(sets[i].at)+len(sets[i].gone) > 0 {
				all = append(all, &sets[i])
			}
		}
	}
	notes = append(notes, k.set(ctx, all)...)
	if len(notes) == 0 {
		return
	}
	err = k.link.store.noteGroups(ctx, notes)
	for _, n := range notes {
		key := groupKey{n.group, topicPartition{n.pump.Topic, n.pump.Partition}}
		if err != nil {
			k.later(key, groupNote, err)
			continue
		}
		delete(k.again, key)
	}
}

// groupSetting is what is set of one group at one end, and what became of it.
type groupSetting struct {
	end     int
	group   string
	at      map[topicPartition]groupPosition
	pairs   map[topicPartition]groupPair
	gone    []topicPartition // what is taken away
	refused map[topicPartition]error
	err     error
}

func (s *groupSetting) put(tp topicPartition, to groupPosition, pair groupPair) {
	if s.at == nil {
		s.at, s.pairs = make(map[topicPartition]groupPosition), make(map[topicPartition]groupPair)
	}
	s.at[tp], s.pairs[tp] = to, pair
}

// set commits positions of groups, and returns what is to be noted of them.
func (k *groupKeeper) set(ctx context.Context, all []*groupSetting) (notes []groupNoted) {
	var g errgroup.Group
	g.SetLimit(groupSets)
	for _, s := range all {
		g.Go(func() error {
			if k.link.groupsRest() {
				s.err = errGroupsRest
				return nil
			}
			if len(s.gone) > 0 { // of a group that is gone nothing is set
				s.refused, s.err = k.ends[s.end].remove(ctx, s.group, s.gone)
			} else {
				s.refused, s.err = k.ends[s.end].set(ctx, s.group, s.at)
			}
			return nil
		})
	}
	_ = g.Wait() // each error is its group's
	for _, s := range all {
		for _, tp := range s.gone {
			key := groupKey{s.group, tp}
			if why := cmp.Or(s.err, s.refused[tp]); why != nil {
				k.later(key, groupDelete, why)
				continue
			}
			k.link.log.Info("position of a group is taken away, which is gone from the source", "group", s.group, "partition", fmt.Sprintf("%s:%d", tp.topic, tp.partition))
			notes = append(notes, groupNoted{k.pump(key), s.group, nil})
		}
		for tp := range s.at {
			key := groupKey{s.group, tp}
			if why := cmp.Or(s.err, s.refused[tp]); why != nil {
				k.later(key, groupBlocked, why)
				continue
			}
			pair := s.pairs[tp]
			k.link.metrics.groupSet(k.names[s.end])
			notes = append(notes, groupNoted{k.pump(key), s.group, &pair})
		}
	}
	return notes
}

// rests reports whether a group has been gone for so long that what was set of it is taken away; until then it is looked at again.
func (k *groupKeeper) rests(key groupKey) bool {
	a, known := k.again[key]
	if known && a.do == groupDelete && k.link.now().Sub(a.since) >= k.link.terms().Policy.DeletedAfter {
		return true
	}
	k.later(key, groupDelete, nil)
	return false
}

// later has a position looked at again after a while.
func (k *groupKeeper) later(key groupKey, do groupDo, why error) {
	a, known := k.again[key]
	if !known || (do == groupDelete) != (a.do == groupDelete) {
		a.since, a.wait = k.link.now(), 0
	}
	most := groupMost
	if do == groupDelete {
		most = groupGrave
	} else if do == groupWaits && len(k.again) < groupFew {
		most = groupNear
	}
	a.do, a.why, a.wait = do, why, min(max(2*a.wait, groupFirst), most)
	a.next = k.link.now().Add(a.wait)
	k.again[key] = a
}

// groupsNow is what both clusters say of some groups now.
type groupsNow struct {
	at     [2]map[string]map[topicPartition]groupPosition
	active [2]map[string]bool
}

// knows reports whether all is known of a group that decides.
func (g *groupsNow) knows(group string) bool {
	for end := range g.at {
		_, at := g.at[end][group]
		_, active := g.active[end][group]
		if !at || !active {
			return false
		}
	}
	return true
}

// ask asks both clusters. Members first: a group that gets some afterwards is not set, because its cluster refuses that.
func (k *groupKeeper) ask(ctx context.Context, groups []string) (*groupsNow, error) {
	var now groupsNow
	var errs [4]error
	var both sync.WaitGroup
	for end := range k.ends {
		both.Go(func() {
			now.active[end], errs[2*end] = k.ends[end].active(ctx, groups)
			now.at[end], errs[2*end+1] = k.ends[end].positions(ctx, groups)
		})
	}
	both.Wait()
	return &now, errors.Join(errs[:]...)
}

// caseOf is all that is known of a position now.
func (k *groupKeeper) caseOf(key groupKey, now *groupsNow, view findMap) groupCase {
	keeps, both := k.keeps(key)
	gone := len(now.at[atSourceEnd][key.group]) == 0
	c := groupCase{noted: k.noted(key, keeps), both: both || !gone, gone: gone,
		follows: k.link.terms().Policy.GroupsDeleted == topology.FollowDelete}
	r := k.link.routing()
	for end, side := range []*groupSide{&c.source, &c.target} {
		side.active = now.active[end][key.group]
		at, ok := now.at[end][key.group][key.topicPartition]
		if !ok {
			continue
		}
		if heard := k.books[end].at(key); heard != nil && heard.offset == at.offset {
			at.time = heard.time
		}
		side.at = &at
		w := r.way(k.link.spec, key.topic, end == atTargetEnd)
		side.there, side.ok, side.err = groupThere(r.topo, view, w, key.partition, at.offset)
	}
	return c
}

// noted is the pair that was last seen alike, by whichever of the two links keeps the position.
func (k *groupKeeper) noted(key groupKey, keeps bool) *groupPair {
	if k.other == nil || keeps {
		return k.link.store.groupPair(k.pump(key), key.group)
	}
	p := k.other.store.groupPair(k.link.routing().pumpID(k.other.spec, k.pump(key).Target(), key.partition), key.group)
	if p == nil {
		return nil
	}
	return &groupPair{p.target, p.source, p.when}
}

// groupThere is where a position goes on on the other cluster; ok is false while records before it are not copied yet.
func groupThere(topo *topology.Topology, view findMap, w way, partition int32, offset int64) (there int64, ok bool, err error) {
	if m, copies := view(w.from, w.to, w.topic, partition); copies && offset > m.reached() {
		return 0, false, nil
	}
	t, err := translate(topo, view, w, partition, offset)
	return t.Result, err == nil, err
}

// pumpsHere are the pumps that this node copies.
func (l *Link) pumpsHere() (out []*pump) {
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			if p.here() {
				out = append(out, p)
			}
		}
	}
	return out
}

// viewer finds offset maps for one pass: each is looked for once.
func (l *Link) viewer(ctx context.Context) findMap {
	type seen struct {
		m  mapView
		ok bool
	}
	all := make(map[PumpID]seen)
	return func(from, to, topic string, partition int32) (mapView, bool) {
		id := PumpID{From: from, To: to, Topic: topic, Partition: partition}
		s, known := all[id]
		if !known && l.shared.view != nil {
			s.m, s.ok, _ = l.shared.view(ctx, from, to, topic, partition) // what cannot be read is as good as not there
			all[id] = s
		}
		return s.m, s.ok
	}
}
