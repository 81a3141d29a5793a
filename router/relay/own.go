package relay

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
)

// reply is the answer to a request of our own. The answers goroutine reads no further before it was looked at: a home that refuses a login hangs up at once, and that must not be
// what ends the connection.
type reply struct {
	body   chan []byte   // of the answer, without its header
	looked chan struct{} // closed when the next one may be read
}

// send sends a request of our own over the client's connection, and says where its answer will be.
func (r *Relay) send(m kmsg.Request) (*reply, error) {
	got := &reply{make(chan []byte, 1), make(chan struct{})}
	o := owed{key: m.Key(), version: m.GetVersion(), kind: forward, reply: got} // answers come in order, so any correlation id will do
	if err := r.owe(o); err != nil {
		return nil, err
	}
	if err := r.write(r.up, kmsg.NewRequestFormatter(kmsg.FormatterClientID(r.who.ClientID)).AppendRequest(nil, m, o.correlation)); err != nil {
		return nil, err
	}
	return got, nil
}

// ask asks the home something of the router's own over the client's connection, and so with the client's rights and behind all that it asked before, and waits for
// the answer, as long as for one of the client's. The client sees nothing of it. It is the requests goroutine's.
func (r *Relay) ask(m kmsg.Request) (kmsg.Response, error) {
	got, err := r.send(m)
	if err != nil {
		return nil, err
	}
	defer close(got.looked)
	select {
	case body := <-got.body:
		resp := m.ResponseKind()
		if err := resp.ReadFrom(body); err != nil {
			return nil, failed(Upstream, "read an answer", fmt.Errorf("%w: %w", ErrMalformed, err))
		}
		return resp, nil
	case <-r.over:
		return nil, r.cause()
	}
}

// reply hands the answer to a request of our own over.
func (r *Relay) reply(ctx context.Context, h frame.Answer, o owed) error {
	in, head, give, err := r.collectAnswer(ctx, h, o)
	if err != nil {
		return err
	}
	body := append([]byte(nil), in[head:]...)
	give()
	r.done()
	o.reply.body <- body
	select {
	case <-o.reply.looked:
		return nil
	case <-r.over:
		return r.cause()
	}
}
