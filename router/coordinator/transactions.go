package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/sets"
)

// endEvery is the pause between two looks at transactions that are to end.
const endEvery = 20 * time.Millisecond

// A home that is left must have no open transaction: the mirror brings only what is committed, and nobody could end one there any more. Instances let those that have begun end for a moment; what
// is open then is aborted here, in the name of its producer, who hears of it at the new home.

// checkTransactions looks for transactions that are open and that nobody could end.
func (c *Coordinator) checkTransactions(ctx context.Context, set string, at *broker.Cluster, topics map[string][]int64) Check {
	open, err := at.OpenTransactions(ctx, partitionsOf(topics))
	if errors.Is(err, broker.ErrUnsupported) {
		return Check{Name: "transactions", OK: true, Warning: true, Text: "the brokers do not tell of open transactions; with one the switch would be given up"}
	}
	if err != nil {
		return found("transactions", err, "")
	}
	if lost := hanging(open); lost != "" {
		return Check{Name: "transactions", Text: lost}
	}
	begun, err := c.begun(ctx, at, set, names(topics))
	return found("transactions", err, fmt.Sprintf("%d are open; what has not ended a moment after the switch has begun is aborted once", len(begun)))
}

// names are the keys of what is about topics.
func names(topics map[string][]int64) (out []string) {
	for name := range topics {
		out = append(out, name)
	}
	return out
}

func partitionsOf(topics map[string][]int64) map[string][]int32 {
	out := make(map[string][]int32, len(topics))
	for topic, ends := range topics {
		for p := range ends {
			out[topic] = append(out[topic], int32(p))
		}
	}
	return out
}

// hanging says which transactions no coordinator knows (KIP-664), and what to do about them; empty for none. One that has just ended, or begun, may look like one to who asks once.
func hanging(open []broker.OpenTransaction) string {
	var lost []string
	for _, o := range open {
		if o.TransactionalID == "" {
			lost = append(lost, fmt.Sprintf("%s:%d, producer %d", o.Topic, o.Partition, o.ProducerID))
		}
	}
	if lost == nil {
		return ""
	}
	return some(lost) + ": open, and no coordinator tells whose; wait for their end, let the router describe transactional ids, or abort them with kafka-transactions.sh"
}

// begun are the transactions at a cluster that have not ended: those that write to topics of a set, and those of its transactional ids that have nothing but positions of groups in them.
func (c *Coordinator) begun(ctx context.Context, at *broker.Cluster, set string, topics []string) ([]broker.Transaction, error) {
	listed, err := at.TransactionsIn(ctx, broker.TransactionOngoing, broker.TransactionCommits, broker.TransactionAborts)
	if err != nil || len(listed) == 0 {
		return nil, err
	}
	ids := make([]string, len(listed))
	for i, t := range listed {
		ids[i] = t.ID
	}
	all, err := at.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, err
	}
	here := c.here(set)
	return slices.DeleteFunc(all, func(t broker.Transaction) bool { return !takesPart(t, here, topics) }), nil
}

// takesPart tells whether a transaction has to end before the home of some topics may be left.
func takesPart(t broker.Transaction, here sets.Here, topics []string) bool {
	switch t.State {
	case broker.TransactionOngoing, broker.TransactionCommits, broker.TransactionAborts:
	default:
		return false
	}
	others := false
	for _, topic := range t.Topics {
		if slices.Contains(topics, topic) {
			return true
		}
		others = others || !ours(topic)
	}
	return !others && here.Group(t.ID)
}

// endTransactions has those aborted that are still open, and waits until all have ended.
func (a *attempt) endTransactions(ctx context.Context, set string, at *broker.Cluster, topics []string) error {
	var asked []string
	for {
		open, err := a.begun(ctx, at, set, topics)
		switch {
		case errors.Is(err, broker.ErrUnsupported):
			return nil // with one that is open the mirror does not come to the end, and the switch is given up
		case err != nil:
			return err
		case len(open) == 0:
			if len(asked) > 0 {
				a.deps.Log.Warn("transactions had not ended and were aborted", "set", set, "cluster", at.Name(), "transactions", len(asked), "ids", some(asked))
			}
			return nil
		}
		for _, t := range open {
			if t.State != broker.TransactionOngoing || slices.Contains(asked, t.ID) {
				continue
			}
			if err := at.AbortTransaction(ctx, t); err != nil {
				return err
			}
			asked = append(asked, t.ID)
		}
		if !pause(ctx, endEvery) {
			return fmt.Errorf("the transaction of %s does not end: %w", open[0].ID, cmp.Or(context.Cause(ctx), ctx.Err()))
		}
	}
}
