package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/transactions"
	"github.com/isthmus-project/isthmus/router/walk"
	"github.com/isthmus-project/isthmus/router/written"
)

// A home that does not know a producer takes any sequence from it, so that behind a change of home nobody but the router keeps order. As long as somebody is remembered
// whom the new home does not know, Produce is decoded, one request at a time: what was written already is answered here, what something is missing before ends the connection, and so does
// whatever comes behind a batch that the home refused. Then it passes as ever, under the ids that this home sees.

// ErrOrder says that a batch would have overtaken another one, which the client is to send again: it connects anew and does so.
var ErrOrder = errors.New("a batch before this one is missing")

// connections numbers connections for gates.
var connections atomic.Uint64

// order is what the requests goroutine knows of producers.
type order struct {
	book    *gate.Book    // of the home that up goes to; nil for the first one
	written *written.Book // of that home
	conn    uint64
	stamp   func(walk.Place, batch.Header) (batch.Stamp, bool) // with the ids of book
}

// produces takes the books of a stage.
func (o *order) produces(b *gate.Book, w *written.Book) {
	if o.book == b && o.written == w {
		return
	}
	if o.conn == 0 {
		o.conn = connections.Add(1)
	}
	o.book, o.written, o.stamp = b, w, nil
	if b == nil && w == nil {
		return
	}
	o.stamp = func(at walk.Place, h batch.Header) (batch.Stamp, bool) {
		if w != nil {
			w.Sent(at.Topic, at.Partition, h.Records)
		}
		if b == nil {
			return batch.Stamp{}, false
		}
		return salted(b, h)
	}
}

// salted is how a home sees a batch; false as it is.
func salted(b *gate.Book, h batch.Header) (batch.Stamp, bool) {
	if h.ProducerID < 0 || h.Transactional() {
		return batch.Stamp{}, false
	}
	id, ok := b.Salted(h.ProducerID)
	return batch.Stamp{ProducerID: id, Epoch: h.ProducerEpoch, Sequence: h.BaseSequence}, ok && id != h.ProducerID
}

// sentBatch is one that was forwarded.
type sentBatch struct {
	topic     string
	partition int32
	gate.Batch
}

// gates reports whether somebody is remembered whom the home does not know.
func (r *Relay) gates() bool { return r.order.book != nil && !r.order.book.Open(time.Now()) }

// looksInto reports whether a Produce is to be decoded: there are gates, or the ids in it are not those of the home.
func (r *Relay) looksInto(h frame.Request) (bool, error) {
	switch {
	case h.Key != int16(kmsg.Produce) || r.generation == 0 && r.order.book == nil:
		return false, nil
	case r.gates():
		return true, nil
	}
	return r.transactional(h)
}

// gated does with a Produce what the gates say of its batches, and gives those of transactions the home's ids.
func (r *Relay) gated(ctx context.Context, h frame.Request, o owed, row apis.Row) error {
	in, body, give, err := r.request(ctx, h, r.cfg.Limits.Request)
	if err != nil {
		return err
	}
	defer give()
	m := kmsg.NewPtrProduceRequest()
	m.SetVersion(h.Version)
	if err := m.ReadFrom(body); err != nil {
		return failed(Client, "read a request", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if r.gates() {
		if err := r.quiet(); err != nil { // what the home says of the batch before decides about this one
			return err
		}
	}
	r.names(h.Key)
	sent, here, err := r.divide(m)
	if err != nil {
		return err
	}
	if len(m.Topics) == 0 && len(here.Topics) > 0 {
		here.SetVersion(h.Version)
		return r.answerHere(h, here)
	}
	view, told := r.cfg.View(), r.order.written
	o.edit = func(resp kmsg.Response) {
		p := resp.(*kmsg.ProduceResponse)
		acked(told, p)
		view.Produced(p)
		r.judged(p, sent)
		p.Topics = append(p.Topics, here.Topics...)
	}
	return r.sendOn(h, o, row, in, m.AppendTo(nil))
}

// divide takes the batches out of a request that were written already, which are answered here, and stamps the others.
func (r *Relay) divide(m *kmsg.ProduceRequest) (sent []sentBatch, here *kmsg.ProduceResponse, early error) {
	here = kmsg.NewPtrProduceResponse()
	topics := m.Topics[:0]
	for _, t := range m.Topics {
		if err := r.note([]byte(t.Topic)); err != nil {
			return nil, nil, failed(Router, "take a request", err)
		}
		told := kmsg.NewProduceResponseTopic()
		told.Topic = t.Topic
		parts := t.Partitions[:0]
		for _, p := range t.Partitions {
			one, answer, err := r.through(t.Topic, p)
			switch {
			case err != nil: // the other batches are looked at all the same: what each waits for counts from now on
				early = cmp.Or(early, err)
			case answer != nil:
				told.Partitions = append(told.Partitions, *answer)
			default:
				if r.order.written != nil {
					r.order.written.Sent([]byte(t.Topic), p.Partition, one.Records)
				}
				parts, sent = append(parts, p), append(sent, sentBatch{t.Topic, p.Partition, one})
			}
		}
		if t.Partitions = parts; len(parts) > 0 {
			topics = append(topics, t)
		}
		if len(told.Partitions) > 0 {
			here.Topics = append(here.Topics, told)
		}
	}
	m.Topics = topics
	return sent, here, early
}

// through lets a batch through its gate, and stamps it; or says what it is answered here.
func (r *Relay) through(topic string, p kmsg.ProduceRequestTopicPartition) (one gate.Batch, answer *kmsg.ProduceResponseTopicPartition, err error) {
	h, err := batch.ParseHeader(p.Records)
	if err != nil {
		return gate.Batch{ID: -1}, nil, nil // the home says what is wrong with it
	}
	one = gate.Of(h)
	if one.Transactional {
		if !r.ofHome(p.Records, h) {
			stale := transactions.Produced(p.Partition)
			answer = &stale
		}
		return one, answer, nil
	}
	if r.order.book == nil {
		return one, nil, nil
	}
	switch d := r.order.book.Batch(topic, p.Partition, r.order.conn, one); d.Outcome {
	case gate.Close:
		return one, nil, failed(Router, "keep the order of a producer", fmt.Errorf("topic %s, partition %d, sequence %d: %v: %w", topic, p.Partition, one.First, d.Reason, ErrOrder))
	case gate.Answer:
		rp := kmsg.NewProduceResponseTopicPartition()
		rp.Partition, rp.BaseOffset = p.Partition, d.Base
		if d.Base < 0 {
			rp.ErrorCode = kerr.DuplicateSequenceNumber.Code // all clients take it for success
		}
		return one, &rp, nil
	}
	if s, differs := salted(r.order.book, h); differs {
		batch.Restamp(p.Records[:batch.HeaderSize], s)
	}
	return one, nil, nil
}

// acked notes how far the home says that its logs go.
func acked(w *written.Book, resp *kmsg.ProduceResponse) {
	if w == nil {
		return
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			w.Acked([]byte(t.Topic), p.Partition, p.BaseOffset)
		}
	}
}

// judged notes what the home said of batches.
func (r *Relay) judged(resp *kmsg.ProduceResponse, sent []sentBatch) {
	if r.order.book == nil {
		return
	}
	codes := make(map[string]map[int32]int16)
	for _, t := range resp.Topics {
		codes[t.Topic] = make(map[int32]int16)
		for _, p := range t.Partitions {
			codes[t.Topic][p.Partition] = p.ErrorCode
		}
	}
	for _, s := range sent {
		code, told := codes[s.topic][s.partition]
		if told && (code == 0 || code == kerr.DuplicateSequenceNumber.Code) {
			r.order.book.Acked(s.topic, s.partition, s.Batch)
		} else {
			r.order.book.Refused(s.topic, s.partition, s.Batch)
		}
	}
}
