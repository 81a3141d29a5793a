package relay

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
)

// ask asks the home something of the router's own over the client's connection, and so with the client's rights and behind all that it asked before, and waits for
// the answer, as long as for one of the client's. The client sees nothing of it. It is the requests goroutine's.
func (r *Relay) ask(m kmsg.Request) (kmsg.Response, error) {
	got := make(chan kmsg.Response, 1)
	o := owed{key: m.Key(), version: m.GetVersion(), kind: forward, own: got}
	if err := r.owe(o); err != nil {
		return nil, err
	}
	b := kmsg.NewRequestFormatter(kmsg.FormatterClientID(r.who.ClientID)).AppendRequest(nil, m, o.correlation)
	if err := r.write(r.up, b); err != nil {
		return nil, err
	}
	select {
	case resp := <-got:
		return resp, nil
	case <-r.over:
		return nil, r.cause()
	}
}

// ownAnswer is the answer to ask.
func (r *Relay) ownAnswer(ctx context.Context, h frame.Answer, o owed) error {
	in, head, give, err := r.collectAnswer(ctx, h, o)
	if err != nil {
		return err
	}
	defer give()
	m := kmsg.ResponseForKey(o.key)
	m.SetVersion(o.version)
	if err := m.ReadFrom(in[head:]); err != nil {
		return failed(Upstream, "read an answer", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	o.own <- m
	return nil
}
