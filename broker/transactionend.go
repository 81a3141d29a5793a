package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TransactionState is where a transaction is, as its coordinator names it.
type TransactionState string

// The states of one that has begun and has not ended.
const (
	TransactionOngoing TransactionState = "Ongoing"
	TransactionCommits TransactionState = "PrepareCommit" // decided; not all partitions know it
	TransactionAborts  TransactionState = "PrepareAbort"
)

// TransactionCommitted is the state of one that has ended so, until the next one begins.
const TransactionCommitted TransactionState = "CompleteCommit"

// Transaction is the newest one of a transactional id, as its coordinator has it.
type Transaction struct {
	ID         string
	ProducerID int64
	Epoch      int16
	State      TransactionState
	// Topics are those that it has to do with, as far as we may know; positions of groups are in one of the cluster's own. Only described ones have them.
	Topics []string
}

// listTransactionsKey is the request's.
const listTransactionsKey = 66

// TransactionsIn lists the transactions that are in one of some states, by their ids (KIP-664), without their epochs and topics. Those of coordinators that do not tell are left out, and
// joined in the error; it is [ErrUnsupported] where the brokers are too old to tell.
func (c *Cluster) TransactionsIn(ctx context.Context, states ...TransactionState) ([]Transaction, error) {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	all, err := c.admin.ListTransactions(ctx, nil, names)
	if err != nil && len(all) == 0 {
		if ok, verr := c.supports(ctx, listTransactionsKey); verr == nil && !ok {
			err = ErrUnsupported
		}
	}
	var out []Transaction
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if t := all[id]; slices.Contains(names, t.State) {
			out = append(out, Transaction{ID: id, ProducerID: t.ProducerID, State: TransactionState(t.State)})
		}
	}
	if err != nil {
		return out, c.failed(ctx, "list transactions", c.profile.denied(err, "DESCRIBE", "transactional ids"))
	}
	return out, nil
}

// DescribeTransactions tells of transactional ids, sorted by them; ids that nobody knows are left out. Those of which it is not told are joined in the error.
func (c *Cluster) DescribeTransactions(ctx context.Context, ids ...string) ([]Transaction, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	all, err := c.admin.DescribeTransactions(ctx, ids...)
	var out []Transaction
	for _, t := range all.Sorted() {
		switch {
		case errors.Is(t.Err, kerr.TransactionalIDNotFound):
		case t.Err != nil:
			err = errors.Join(err, fmt.Errorf("transactional id %s: %w", t.TxnID, t.Err))
		default:
			out = append(out, Transaction{ID: t.TxnID, ProducerID: t.ProducerID, Epoch: t.ProducerEpoch, State: TransactionState(t.State), Topics: topicsOf(t.Topics)})
		}
	}
	if err != nil {
		return out, c.failed(ctx, "describe transactions", c.profile.denied(err, "DESCRIBE", "transactional ids"))
	}
	return out, nil
}

func topicsOf(s kadm.TopicsSet) []string { return slices.Sorted(maps.Keys(s)) }

// endWithout has no version that gives the producer another epoch (KIP-890): who had the transaction goes on under the one that it has.
type endWithout struct{ *kmsg.EndTxnRequest }

// MaxVersion is the last of those.
func (endWithout) MaxVersion() int16 { return 4 }

// transactionKey is the kind of key by which the coordinator of a transactional id is found.
const transactionKey = 1

// AbortTransaction has a transaction aborted that was described, in the name of its producer, which keeps id and epoch. It is over when its state says so. One that has
// ended meanwhile, or is ending, is no error.
func (c *Cluster) AbortTransaction(ctx context.Context, t Transaction) error {
	what := "abort the transaction of " + t.ID
	id, err := c.Coordinator(ctx, transactionKey, t.ID)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.ID, t.ProducerID, t.Epoch
	resp, err := askOf[*kmsg.EndTxnResponse](ctx, c.client.Broker(int(id)), endWithout{req})
	if err == nil {
		err = codeError(resp.ErrorCode)
	}
	if err == nil || errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, kerr.InvalidTxnState) {
		return nil
	}
	return c.failed(ctx, what, c.profile.denied(err, "WRITE", "transactional id "+t.ID))
}
