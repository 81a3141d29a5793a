package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/sets"
)

const (
	// drainPatience is how long transactions that have begun may take to end before the home is left: less than what is left of a lease when an open round is learned of, and
	// most transactions take milliseconds. What is open then is aborted once.
	drainPatience = 1500 * time.Millisecond
	// drainEvery is how often the home is asked for those that are open. Other instances may have begun them, so only the home knows.
	drainEvery = 20 * time.Millisecond
)

// drain gives transactions that have begun their time to end, and lets nothing through any more then.
func (f *follower) drain(ctx context.Context, g goal) {
	f.mu.Lock()
	done := f.drained == g.round
	f.mu.Unlock()
	if done {
		return
	}
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	open, err := f.transactions(asking)
	for err == nil && len(open) > 0 && sleep(asking, drainEvery) == nil {
		open, err = f.transactions(asking)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !errors.Is(err, broker.ErrUnsupported):
		f.r.log.Warn("the home does not say which transactions are open; they are not waited for", "set", f.name, "error", err)
	case len(open) > 0:
		f.r.log.Info("transactions have not ended in time", "set", f.name, "transactions", len(open), "first", open[0], "waited", time.Since(began))
	}
	f.mu.Lock()
	if f.goal.round == g.round {
		f.drained = g.round
	}
	f.mu.Unlock()
	f.keep()
}

// committedPatience is how long a home that was left may take to say what became of a transaction.
const committedPatience = 2 * time.Second

// committed reports whether the home that was left for a generation has committed the newest transaction of an id, as far as it can be asked.
func (f *follower) committed(ctx context.Context, generation int64, id string, producer int64, epoch int16) bool {
	if f.r.deps.Generations == nil {
		return false
	}
	st, err := f.r.deps.Generations.State(f.name)
	if err != nil || generation < 1 || int64(len(st.History)) < generation {
		return false
	}
	c, err := f.r.clusters.of(st.History[generation-1].From)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, committedPatience)
	defer cancel()
	all, err := c.DescribeTransactions(ctx, id)
	if err != nil {
		f.r.log.Warn("a transaction whose end was asked for at the home that was left is taken for aborted: that home does not say", "set", f.name, "transaction", id, "error", err)
	}
	for _, t := range all {
		ended := t.State == broker.TransactionCommits || t.State == broker.TransactionCommitted
		if t.ID == id && t.ProducerID == producer && t.Epoch == epoch && ended {
			return true
		}
	}
	return false
}

// transactions are the ids of those of the set that are open at its home, of whatever instance.
func (f *follower) transactions(ctx context.Context) (ids []string, err error) {
	c, err := f.r.clusters.of(f.r.stages.now[f.set].Load().home)
	if err != nil {
		return nil, err
	}
	open, err := c.TransactionsIn(ctx, broker.TransactionOngoing)
	if ctx.Err() != nil {
		err = nil // in time nothing else was said
	}
	all := sets.NewMap(f.r.cfg.Router)
	for _, t := range open {
		if all.OfGroup(t.ID) == f.set {
			ids = append(ids, t.ID)
		}
	}
	slices.Sort(ids)
	return ids, err
}
