package relay

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// versions answers ApiVersions. The body only says who asks, and is not needed.
func (r *Relay) versions(ctx context.Context, h frame.Request) error {
	_, give, err := r.collect(ctx, r.client, h.Header+h.Body(), chunkSize)
	if err != nil {
		return err
	}
	give()
	return r.answerHere(h, r.cfg.Versions.AnswerVersions(h.Version))
}

// producer answers InitProducerId, or forwards it for a transactional producer.
func (r *Relay) producer(ctx context.Context, h frame.Request) error {
	whole, body, give, err := r.request(ctx, h)
	if err != nil {
		return err
	}
	defer give()
	idempotent, err := rewrite.Idempotent(h.Version, body)
	if err != nil {
		return failed(Client, "read a request", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if idempotent {
		id, err := r.cfg.ProducerID()
		if err != nil {
			return failed(Router, "give a producer its id", err)
		}
		return r.answerHere(h, rewrite.NewProducer(h.Version, id))
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	if err := r.owe(owed{key: h.Key, version: h.Version, correlation: h.Correlation, kind: forward}); err != nil {
		return err
	}
	return r.write(r.up, whole)
}

// answerHere makes an answer due that is there already.
func (r *Relay) answerHere(h frame.Request, m kmsg.Response) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 4, 512), uint32(h.Correlation))
	if apis.AnswerTags(h.Key, h.Version) {
		b = append(b, 0) // none
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	r.mu.Lock()
	_, err := r.state.owe.push(owed{key: h.Key, version: h.Version, correlation: h.Correlation, kind: local, answer: b})
	r.mu.Unlock()
	if err != nil {
		return failed(Router, "note a request", err)
	}
	return r.flush()
}

// flush writes the answers made here that are at the head. Either goroutine may call it; only one gets each.
func (r *Relay) flush() error {
	for {
		r.mu.Lock()
		o, ok := r.state.owe.take()
		r.mu.Unlock()
		if !ok {
			return nil
		}
		if err := r.write(r.client, o.answer); err != nil {
			return err
		}
		r.done()
	}
}

// done ends the passing of an answer.
func (r *Relay) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.owe.done()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	r.watchLocked()
}
