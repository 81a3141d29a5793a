package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// versions answers ApiVersions. The body only says who asks, and one that cannot be read says nothing.
func (r *Relay) versions(ctx context.Context, h frame.Request) error {
	whole, give, err := r.collect(ctx, r.client, h.Header+h.Body(), chunkSize)
	if err != nil {
		return err
	}
	r.introduced(h, whole[h.Header:])
	give()
	return r.answerHere(h, r.cfg.Versions.AnswerVersions(h.Version))
}

// softwareName is what brokers take for a name or a version (KIP-511).
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// introduced remembers what a client says it is.
func (r *Relay) introduced(h frame.Request, body []byte) {
	if row, known := apis.Of(h.Key, h.Version); !known || h.Version < 3 || row.Does == apis.Hide {
		return
	}
	if _, err := rewrite.Elements(h.Key, h.Version, false, body); err != nil {
		return
	}
	m := kmsg.NewApiVersionsRequest()
	m.SetVersion(h.Version)
	if m.ReadFrom(body) != nil || m.ClientSoftwareName == r.who.Software && m.ClientSoftwareVersion == r.who.Version {
		return
	}
	for _, text := range []string{m.ClientSoftwareName, m.ClientSoftwareVersion} {
		if len(text) > maxShown || !softwareName.MatchString(text) {
			return
		}
	}
	r.who.Software, r.who.Version = m.ClientSoftwareName, m.ClientSoftwareVersion
	r.show()
}

// producer answers InitProducerId, or forwards it for a transactional producer.
func (r *Relay) producer(ctx context.Context, h frame.Request, row apis.Row) error {
	whole, body, give, err := r.request(ctx, h, r.cfg.Limits.Collected)
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
	if _, err := r.staged(ctx, h); err != nil { // never answered here
		return err
	}
	if err := r.connect(ctx, h.Key); err != nil {
		return err
	}
	o := owed{key: h.Key, version: h.Version, correlation: h.Correlation, kind: forward}
	switch {
	case r.generation > 0:
		return r.transact(ctx, h, o, row, whole, body)
	case r.sets != nil:
		return r.consider(ctx, h, o, row, whole, body)
	}
	if err := r.owe(o); err != nil {
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
	r.seen.Pending.Store(int32(len(r.state.owe.queue)))
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
		count(&r.cfg.Keys.Answers, o.key)
		count(&r.cfg.Keys.Local, o.key)
		r.done()
	}
}

// done ends the passing of an answer.
func (r *Relay) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.state.owe.queue) > 0 {
		r.seen.Writes.Add(-r.state.owe.queue[0].counted())
	}
	r.state.owe.done()
	r.seen.Pending.Store(int32(len(r.state.owe.queue)))
	select {
	case r.changed <- struct{}{}:
	default:
	}
	r.watchLocked()
}
