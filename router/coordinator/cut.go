package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/reserve"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
)

const (
	// partitionsAtOnce is how many partitions are asked about at the same time.
	partitionsAtOnce = 32
	// mirrorEvery is the pause between two looks at what is not mirrored yet.
	mirrorEvery = 20 * time.Millisecond
	// settleEvery is how soon links have written down what they are asked for, and settlePatience how long it is waited for that: clients wait meanwhile.
	settleEvery    = 50 * time.Millisecond
	settlePatience = 500 * time.Millisecond
)

// refused is the event of something that cannot be done now.
func refused(err error) switchover.Event {
	return switchover.Event{Happening: switchover.No, Why: err.Error()}
}

// clusters are the home that is left and the one that is gone to.
func (a *attempt) clusters(s switchover.State) (from, to *broker.Cluster, err error) {
	if from, err = a.deps.Cluster(s.From); err != nil {
		return nil, nil, err
	}
	to, err = a.deps.Cluster(s.To)
	return from, to, err
}

// request is what arrival is asked of the set after some switches.
func (a *attempt) request(set string, switches []generation.Value) (arrival.Request, error) {
	first, err := a.first(set)
	n := int64(len(switches))
	return arrival.Request{Router: a.router.Name, Set: set, First: first, Switches: switches, Now: time.Now(),
		Cut: func(_ context.Context, ref generation.CutRef) ([]generation.CutTopic, error) {
			return a.deps.Store.Cut(ref)
		},
		Salted: func(id int64) (int64, error) { return a.deps.Salted(id, n) }}, err
}

// history are the switches that were decided before the round.
func (a *attempt) history(s switchover.State) ([]generation.Value, error) {
	st, err := a.deps.Store.State(s.Set)
	return st.History, err
}

// timelines are those of the generation that ends.
func (a *attempt) timelines(ctx context.Context, s switchover.State) (map[string][]timeline.Timeline, error) {
	before, err := a.history(s)
	if err != nil {
		return nil, err
	}
	r, err := a.request(s.Set, before)
	if err != nil {
		return nil, err
	}
	return arrival.Timelines(ctx, r)
}

// cut finds where the home that is left ends, waits until the mirror has brought all of it, and writes down where the new home goes on.
func (a *attempt) cut(ctx context.Context, s switchover.State) switchover.Event {
	ref, err := a.makeCut(ctx, s)
	if err != nil {
		return refused(err)
	}
	return switchover.Event{Happening: switchover.Written, Cut: ref}
}

func (a *attempt) makeCut(ctx context.Context, s switchover.State) (none generation.CutRef, err error) {
	if s.Kind == generation.Unplanned {
		return a.cutOff(ctx, s)
	}
	from, to, err := a.clusters(s)
	if err != nil {
		return none, err
	}
	all, err := a.topics(ctx, from, s.Set)
	if err != nil {
		return none, err
	}
	topics, others := a.carried(s.From, s.To, all)
	if len(others) > 0 {
		return none, fmt.Errorf("no link brings %s from %s to %s", some(others), s.From, s.To)
	}
	if len(topics) == 0 {
		ref, err := a.deps.Store.WriteCut(ctx, s.Set, nil)
		return ref, err
	}
	if err := a.endTransactions(ctx, s.Set, from, topics); err != nil {
		return none, err
	}
	timelines, err := a.timelines(ctx, s)
	if err != nil {
		return none, err
	}
	left, err := a.brought(ctx, s, from, to, topics, timelines)
	if err != nil {
		return none, err
	}
	own, err := to.LogEnds(ctx, topics...)
	if err != nil {
		return none, err
	}
	written, err := arrival.Cut(timelines, s.To, left, own)
	if err != nil {
		return none, err
	}
	before, err := a.history(s)
	if err != nil {
		return none, err
	}
	r, err := a.request(s.Set, before)
	if err == nil {
		err = arrival.Unseen(ctx, r, s.From, s.To, timelines, written, func(topic string) bool { return a.carries(s.To, s.From, topic) }, a.deps.Mirror())
	}
	if err != nil {
		return none, err
	}
	return a.deps.Store.WriteCut(ctx, s.Set, written)
}

// brought waits until the two homes have the same: the one that is left all that the new one has from elsewhere, and then the new one all that the one that is left has, which ends at what is
// returned, and all that clients know from before.
func (a *attempt) brought(ctx context.Context, s switchover.State, from, to *broker.Cluster, topics []string, timelines map[string][]timeline.Timeline) (left map[string][]int64, err error) {
	back, err := a.returning(ctx, s.Order, to, topics)
	if err == nil {
		err = a.mirrored(ctx, s, s.To, s.From, back)
	}
	if err != nil {
		return nil, err
	}
	if left, err = from.LogEnds(ctx, topics...); err != nil {
		return nil, err
	}
	wanted := arrival.Needed(timelines, s.To)
	for home := range wanted {
		if err := a.raise(ctx, home, s.From, left, wanted[home]); err != nil {
			return nil, err
		}
	}
	wanted[s.From] = left
	for home, ends := range wanted {
		if err := a.mirrored(ctx, s, home, s.To, ends); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// returning are the ends of those topics at a new home that a link brings to the one that is left.
func (c *Coordinator) returning(ctx context.Context, o switchover.Order, to *broker.Cluster, topics []string) (map[string][]int64, error) {
	returns := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !c.carries(o.To, o.From, topic) })
	if len(returns) == 0 {
		return nil, nil
	}
	return to.LogEnds(ctx, returns...)
}

// raise raises how far the log of an earlier home must be at the new one to as far as it is at the one that is left: clients know it from there.
func (a *attempt) raise(ctx context.Context, home, at string, there, ends map[string][]int64) error {
	mirror := a.deps.Mirror()
	for topic, all := range there {
		if !a.carries(home, at, topic) {
			continue
		}
		for p := range all {
			reached, err := mirror.Reached(ctx, home, at, topic, int32(p))
			if err != nil {
				return err
			}
			if len(ends[topic]) < len(all) {
				ends[topic] = append(ends[topic], make([]int64, len(all)-len(ends[topic]))...)
			}
			ends[topic][p] = max(ends[topic][p], reached)
		}
	}
	return nil
}

// cutOff writes where the new home goes on when the one that is left cannot be asked: above all that was reserved, behind what the mirror had brought.
func (a *attempt) cutOff(ctx context.Context, s switchover.State) (none generation.CutRef, err error) {
	to, err := a.deps.Cluster(s.To)
	if err != nil {
		return none, err
	}
	all, err := a.topics(ctx, to, s.Set)
	if err != nil {
		return none, err
	}
	topics, _ := a.carried(s.From, s.To, all)
	timelines, err := a.timelines(ctx, s)
	if err != nil {
		return none, err
	}
	lost := arrival.Lost{From: s.From, To: s.To, Number: s.Proposal.Generation, Own: make(map[string][]int64), Back: func(topic string) bool { return a.carries(s.To, s.From, topic) }}
	if len(topics) > 0 {
		if lost.Own, err = to.LogEnds(ctx, topics...); err != nil {
			return none, err
		}
	}
	mirror := a.settled(ctx, s, lost.Own)
	bounds := a.deps.Store.Bounds(s.Set)
	lost.First = func(topic string, p int, end int64) int64 { return reserve.First(bounds[topic], p, end) }
	out, err := arrival.CutOff(ctx, timelines, lost, mirror)
	if err != nil {
		return none, err
	}
	a.loss.Store(a.missing(ctx, s, out))
	return a.deps.Store.WriteCut(ctx, s.Set, out)
}

// settled looks at what links have brought when they have written down how far they are, as far as that does not take too long: what is not written down is seen again by whoever had seen
// it at the lost home.
func (a *attempt) settled(ctx context.Context, s switchover.State, own map[string][]int64) arrival.Mirror {
	var mirror arrival.Mirror
	for before, end := int64(-1), time.Now().Add(settlePatience); ; {
		soon, cancel := context.WithTimeout(ctx, settleEvery) // who is away is not waited for
		a.deps.Instances(soon, s.Set)
		<-soon.Done()
		cancel()
		mirror = a.deps.Mirror()
		now, _, err := behind(ctx, mirror, s.From, s.To, own) // only whether it changes counts
		if err == nil && now == before || ctx.Err() != nil || time.Now().After(end) {
			return mirror
		}
		before = now
	}
}

// mirrored waits until the mirror has brought everything below some ends at a cluster to another, as far as is durable.
func (a *attempt) mirrored(ctx context.Context, s switchover.State, home, to string, ends map[string][]int64) error {
	n, where, err := a.catchUp(ctx, s.Set, home, to, ends, func() bool { return true })
	if err == nil && n > 0 {
		err = fmt.Errorf("%d records of %s are not mirrored to %s yet, the first of %s: %w", n, home, to, where, ctx.Err())
	}
	return err
}

// catchUp waits until the mirror has durably brought everything below some ends, as long as somebody is patient and ctx lasts, and returns how many records are left.
func (c *Coordinator) catchUp(ctx context.Context, set, from, to string, ends map[string][]int64, patient func() bool) (n int64, where string, err error) {
	for len(ends) > 0 {
		c.deps.Instances(ctx, set) // so that nodes make durable what they have copied
		n, where, err = behind(ctx, c.deps.Mirror(), from, to, ends)
		if err != nil || n == 0 || !patient() || !pause(ctx, mirrorEvery) {
			break
		}
	}
	return n, where, err
}

// behind is how many offsets below some ends the mirror has not brought yet, and in which partition some of them are.
func behind(ctx context.Context, mirror arrival.Mirror, from, to string, left map[string][]int64) (n int64, where string, err error) {
	ask, ctx := errgroup.WithContext(ctx)
	ask.SetLimit(partitionsAtOnce)
	var mu sync.Mutex
	for topic, ends := range left {
		for p, end := range ends {
			if end == 0 {
				continue
			}
			ask.Go(func() error {
				at, err := mirror.Reached(ctx, from, to, topic, int32(p))
				if err != nil {
					return fmt.Errorf("how far %s:%d is mirrored from %s to %s: %w", topic, p, from, to, err)
				}
				if at < end {
					mu.Lock()
					defer mu.Unlock()
					n, where = n+end-at, cmp.Or(where, fmt.Sprintf("%s:%d", topic, p))
				}
				return nil
			})
		}
	}
	err = ask.Wait()
	return n, where, err
}
