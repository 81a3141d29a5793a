package coordinator

import (
	"cmp"
	"context"
	"fmt"
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
func (a *attempt) timelines(ctx context.Context, s switchover.State, mirror Mirror) (map[string][]timeline.Timeline, error) {
	before, err := a.history(s)
	if err != nil {
		return nil, err
	}
	r, err := a.request(s.Set, before)
	if err != nil {
		return nil, err
	}
	return arrival.Timelines(ctx, r, mirror)
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
	left, err := from.LogEnds(ctx, topics...)
	if err != nil {
		return none, err
	}
	if err := a.mirrored(ctx, s, left); err != nil {
		return none, err
	}
	own, err := to.LogEnds(ctx, topics...)
	if err != nil {
		return none, err
	}
	timelines, err := a.timelines(ctx, s, a.deps.Mirror())
	if err != nil {
		return none, err
	}
	written, err := arrival.Cut(timelines, s.To, left, own)
	if err != nil {
		return none, err
	}
	return a.deps.Store.WriteCut(ctx, s.Set, written)
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
	mirror := a.deps.Mirror()
	timelines, err := a.timelines(ctx, s, mirror)
	if err != nil {
		return none, err
	}
	own := make(map[string][]int64)
	if len(topics) > 0 {
		if own, err = to.LogEnds(ctx, topics...); err != nil {
			return none, err
		}
	}
	bounds := a.deps.Store.Bounds(s.Set)
	var out []generation.CutTopic
	for _, topic := range topics {
		t := generation.CutTopic{Topic: topic, Real: own[topic]}
		for p := range own[topic] {
			left, err := mirror.Reached(ctx, s.From, s.To, topic, int32(p))
			if err != nil {
				return none, fmt.Errorf("how much of %s:%d is at %s: %w", topic, p, s.To, err)
			}
			end := left
			if lines := timelines[topic]; p < len(lines) && lines[p] != nil {
				end = max(lines[p].Now().Virtual(left), lines[p].Now().First)
			}
			t.Left, t.Virtual = append(t.Left, left), append(t.Virtual, reserve.First(bounds[topic], p, end))
		}
		out = append(out, t)
	}
	return a.deps.Store.WriteCut(ctx, s.Set, out)
}

// mirrored waits until the mirror has brought everything below the ends of the home that is left, as far as is durable.
func (a *attempt) mirrored(ctx context.Context, s switchover.State, left map[string][]int64) error {
	for {
		a.deps.Instances(ctx, s.Set) // so that nodes make durable what they have copied
		behind, where, err := a.behind(ctx, s.From, s.To, left)
		switch {
		case err != nil:
			return err
		case behind == 0:
			return nil
		}
		if !pause(ctx, mirrorEvery) {
			return fmt.Errorf("%d records are not mirrored yet, the first of %s: %w", behind, where, ctx.Err())
		}
	}
}

// behind is how many offsets below some ends the mirror has not brought yet, and in which partition some of them are.
func (c *Coordinator) behind(ctx context.Context, from, to string, left map[string][]int64) (n int64, where string, err error) {
	ask, ctx := errgroup.WithContext(ctx)
	ask.SetLimit(partitionsAtOnce)
	mirror := c.deps.Mirror()
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
