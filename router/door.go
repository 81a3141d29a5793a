package router

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// door is one listener.
type door struct {
	r    *Router
	slot int // -1 is bootstrap
	ear  net.Listener
}

// How long a listener rests after an error, at first and at most. What it runs out of are file descriptors, which others need too.
const (
	restFirst = 5 * time.Millisecond
	restMost  = time.Second
)

// serve takes connections until ctx ends, and returns when all of them have.
func (d *door) serve(ctx context.Context) {
	var relays sync.WaitGroup
	defer relays.Wait()
	stop := context.AfterFunc(ctx, func() { _ = d.ear.Close() })
	defer stop()
	for rest := restFirst; ; {
		c, err := d.ear.Accept()
		switch {
		case err == nil:
			rest = restFirst
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			if rest == restFirst {
				d.r.log.Error("connections cannot be taken, tried again", "listen", d.ear.Addr().String(), "error", err)
			}
			if sleep(ctx, rest) != nil {
				return
			}
			rest = min(2*rest, restMost)
			continue
		}
		address := addressOf(c)
		if err := d.admit(address); err != nil {
			d.r.refused(err)
			reset(c)
			continue
		}
		relays.Go(func() {
			defer d.r.guests.leave(address)
			d.relay(ctx, c)
		})
	}
}

// admit says why a connection is not taken; nil takes it.
func (d *door) admit(address string) error {
	if d.r.now.Load() == nil {
		return ErrNotReady
	}
	return d.r.guests.enter(address)
}

// refused logs that connections are not taken, once a minute for each reason.
func (r *Router) refused(err error) {
	if r.open.refuse(err, time.Now()) {
		r.log.Warn("connections are refused", "reason", err.Error())
	}
}

// reset ends a connection as one to a broker that is not there: clients take a FIN before the first answer for a refused login.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// relay carries one connection to its end.
func (d *door) relay(ctx context.Context, c net.Conn) {
	r := d.r
	ctx, end := context.WithCancel(ctx)
	defer end()
	own := &connection{end: end, slot: d.slot, address: remote(c), since: time.Now()}
	cfg := relay.Config{
		Client: c, View: func() *rewrite.View { return r.now.Load().view }, Versions: r.now.Load().versions, Memory: r.memory,
		Keys: &r.open.keys, Quotas: r.quotas, Limits: r.cfg.Relay, Timeouts: r.cfg.Timeouts,
		Dial: func(ctx context.Context) (net.Conn, error) {
			up, b, err := r.dial(ctx, d.slot)
			if err != nil {
				return nil, err
			}
			own.to.Store(&b)
			if !r.now.Load().has(b) { // it went while it was dialled, and whoever ends its connections may not have seen this one
				end()
			}
			return up, nil
		},
	}
	if r.ids != nil {
		cfg.ProducerID = r.ids.next
	}
	one, err := relay.New(cfg)
	if err != nil {
		_ = c.Close()
		r.log.Error("a connection cannot be served", "error", err)
		return
	}
	own.seen, own.subject = one.Seen(), cfg.Subject
	r.open.add(own)
	err = one.Run(ctx)
	r.open.remove(own, err)
	if err != nil {
		r.log.Debug("a connection ended", "slot", d.slot, "client", c.RemoteAddr().String(), "error", err)
	}
}
