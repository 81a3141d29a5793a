package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// OpenTransaction is a transaction that has written to a partition and has not ended there. What is not known is zero.
type OpenTransaction struct {
	Topic           string
	Partition       int32
	ProducerID      int64
	Epoch           int16
	FirstOffset     int64     // of the transaction, in the partition
	LastWrite       time.Time // when the producer last wrote to it, by its records
	TransactionalID string    // where we are allowed to see it, and its coordinator knows it
	Began           time.Time // by its coordinator
}

// OpenTransactions returns the transactions that are open in some partitions, one request a leader, and whose they are (DescribeProducers,
// ListTransactions and DescribeTransactions, KIP-664). Partitions whose leaders do not tell are left out, unless none does: that is an
// error, [ErrUnsupported] where the brokers are too old to tell.
func (c *Cluster) OpenTransactions(ctx context.Context, partitions map[string][]int32) ([]OpenTransaction, error) {
	set := make(kadm.TopicsSet)
	for topic, ps := range partitions {
		set.Add(topic, ps...)
	}
	all, err := c.admin.DescribeProducers(ctx, set)
	if err != nil && len(all) == 0 {
		if ok, verr := c.supports(ctx, describeProducersKey); verr == nil && !ok {
			err = ErrUnsupported
		}
		return nil, c.failed(ctx, "describe producers", c.profile.denied(err, "READ", "topics"))
	}
	var open []OpenTransaction
	var refused error
	heard := false
	for _, p := range all.SortedPartitions() {
		if p.Err != nil {
			refused = errors.Join(refused, fmt.Errorf("%s:%d: %w", p.Topic, p.Partition, p.Err))
			continue
		}
		heard = true
		for _, a := range p.ActiveProducers.Sorted() {
			if a.CurrentTxnStartOffset < 0 {
				continue
			}
			open = append(open, OpenTransaction{Topic: p.Topic, Partition: p.Partition, ProducerID: a.ProducerID, Epoch: a.ProducerEpoch,
				FirstOffset: a.CurrentTxnStartOffset, LastWrite: time.UnixMilli(a.LastTimestamp)})
		}
	}
	if !heard && refused != nil {
		return nil, c.failed(ctx, "describe producers", c.profile.denied(refused, "READ", "topics"))
	}
	c.nameTransactions(ctx, open)
	return open, nil
}

// describeProducersKey is the request's.
const describeProducersKey = 61

// nameTransactions fills in whose transactions they are, as far as we may know.
func (c *Cluster) nameTransactions(ctx context.Context, open []OpenTransaction) {
	var ids []int64
	for _, t := range open {
		ids = append(ids, t.ProducerID)
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	listed, _ := c.admin.ListTransactions(ctx, slices.Compact(ids), nil) // what is refused stays unknown
	named := make(map[int64]string)
	for _, t := range listed {
		named[t.ProducerID] = t.TxnID
	}
	var names []string
	for _, name := range named {
		names = append(names, name)
	}
	described := make(kadm.DescribedTransactions)
	if len(names) > 0 {
		slices.SortFunc(names, strings.Compare)
		described, _ = c.admin.DescribeTransactions(ctx, names...)
	}
	for i := range open {
		t := &open[i]
		t.TransactionalID = named[t.ProducerID]
		if d, ok := described[t.TransactionalID]; ok && d.Err == nil && d.ProducerID == t.ProducerID && d.StartTimestamp > 0 {
			t.Began = time.UnixMilli(d.StartTimestamp)
		}
	}
}
