package relay

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/sets"
	"github.com/isthmus-project/isthmus/router/transactions"
)

// ofTransaction does with a request of a transaction what is to be done behind a change of home: the home's ids for the client's, and an answer for who comes from a home that was left.
func (r *Relay) ofTransaction(ctx context.Context, h frame.Request, o owed, row apis.Row) error {
	in, body, give, err := r.request(ctx, h, r.cfg.Limits.Collected)
	if err != nil {
		return err
	}
	defer give()
	return r.transact(ctx, h, o, row, in, body)
}

// transact is ofTransaction of a request that was collected.
func (r *Relay) transact(ctx context.Context, h frame.Request, o owed, row apis.Row, in, body []byte) error {
	m := kmsg.RequestForKey(h.Key)
	m.SetVersion(h.Version)
	if err := m.ReadFrom(body); err != nil {
		return failed(Client, "read a request", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if r.sets != nil {
		if refused := sets.Refuse(m, r.sets); refused != nil {
			return r.answerHere(h, refused)
		}
	}
	generation := r.generation
	end, ends := m.(*kmsg.EndTxnRequest)
	if ends {
		_, ends = transactions.Real(end.ProducerID, generation-1)
	}
	if stale := transactions.Request(m, generation); stale != nil {
		if ends && r.committed(ctx, end) {
			stale = end.ResponseKind()
		}
		return r.answerHere(h, stale)
	}
	if h.Key == int16(kmsg.InitProducerID) {
		o.edit = func(resp kmsg.Response) { transactions.Answer(resp, generation) }
	}
	return r.sendOn(h, o, row, in, m.AppendTo(nil))
}

// committed reports whether what a client wants to be committed is: then the answer was lost, with its connection, while the home changed. Who ends a transaction has begun it at a home that took
// his id, so that its newest one there is his.
func (r *Relay) committed(ctx context.Context, m *kmsg.EndTxnRequest) bool {
	if !m.Commit || r.cfg.Committed == nil {
		return false
	}
	ctx, cancel := r.whileOn(ctx, r.cfg.Timeouts.Dial)
	defer cancel()
	return r.cfg.Committed(ctx, r.generation, m.TransactionalID, m.ProducerID, m.ProducerEpoch)
}

// transactional reports whether a Produce has a transactional id, which is the first thing in it. Records of others have no ids that are the home's.
func (r *Relay) transactional(h frame.Request) (bool, error) {
	const longest = 2 // bytes that say so
	if h.Header+longest > frame.MaxHeader {
		return true, nil // it is looked at as a whole
	}
	b, err := r.client.peek(h.Header + min(longest, h.Body()))
	if err != nil {
		return false, failed(Client, "read a request", r.told(cutShort(err)))
	}
	b = b[h.Header:]
	switch {
	case h.Version < 3 || len(b) < longest:
		return false, nil
	case apis.Flexible(h.Key, h.Version):
		return b[0] != 0, nil
	}
	return int16(binary.BigEndian.Uint16(b)) >= 0, nil
}

// ofHome puts the home's id in the place of the client's in a batch of a transaction; false says that it is of another generation.
func (r *Relay) ofHome(records []byte, h batch.Header) bool {
	id, current := transactions.Real(h.ProducerID, r.generation)
	if current && id != h.ProducerID {
		batch.Restamp(records[:batch.HeaderSize], batch.Stamp{ProducerID: id, Epoch: h.ProducerEpoch, Sequence: h.BaseSequence})
	}
	return current
}
