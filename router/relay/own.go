package relay

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ask asks the home something of the router's own over the client's connection, and so with the client's rights and behind all that it asked before, and waits for
// the answer, as long as for one of the client's. The client sees nothing of it. It is the requests goroutine's.
func (r *Relay) ask(m kmsg.Request) (kmsg.Response, error) {
	got := &reply{make(chan []byte, 1), make(chan struct{})}
	defer close(got.looked)
	o := owed{key: m.Key(), version: m.GetVersion(), kind: forward, reply: got}
	if err := r.owe(o); err != nil {
		return nil, err
	}
	if err := r.write(r.up, kmsg.NewRequestFormatter(kmsg.FormatterClientID(r.who.ClientID)).AppendRequest(nil, m, o.correlation)); err != nil {
		return nil, err
	}
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
