package router

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// door is one listener.
type door struct {
	r    *Router
	slot int // of those who do not say another in their TLS handshake
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
			d.receive(ctx, c, address)
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

// receive carries one connection to its end, through TLS if the router has it.
func (d *door) receive(ctx context.Context, c net.Conn, address string) {
	if d.r.front == nil {
		d.relay(ctx, c, d.slot)
		return
	}
	secure, err := d.r.front.welcome(ctx, c, address)
	if err != nil {
		_ = c.Close()
		if errors.Is(err, io.EOF) {
			return // it hung up, as who only looks whether the door is there
		}
		reason := ErrTLS
		if errors.Is(err, ErrHandshake) {
			reason = ErrHandshake
		}
		if ctx.Err() == nil {
			d.r.refused(reason)
			d.r.log.Debug("a connection was not let in", "client", address, "error", err)
		}
		return
	}
	slot := d.slot
	if named := slotNamed(d.r.cfg.Router, secure.ConnectionState().ServerName); named != bootstrap {
		slot = named
	}
	d.relay(ctx, secure, slot)
}

// relay carries one connection to its end.
func (d *door) relay(ctx context.Context, c net.Conn, slot int) {
	r, over := d.r, ctx
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer r.ending(over, ctx, end)()
	own := &connection{end: end, slot: slot, address: remote(c), since: time.Now()}
	cfg := relay.Config{
		Client: c, View: func() *rewrite.View { return own.viewOf(r.now.Load()) }, Versions: r.now.Load().versions, Memory: r.guests.memory, Pieces: r.guests.pieces,
		Subject: subjectOf(c), Keys: &r.open.keys, Quotas: r.quotas, Limits: r.cfg.Relay, Timeouts: r.cfg.Timeouts,
		Dial: func(ctx context.Context, news bool) (net.Conn, bool, error) {
			up, to, standIn, err := r.dial(ctx, slot, news)
			if err != nil {
				return nil, false, err
			}
			own.to.Store(&to)
			own.viewOf(r.now.Load())
			if r.now.Load().sides[to.set].gone(to) { // it went while it was dialled, and whoever ends its connections may not have seen this one
				end()
			}
			return up, standIn, nil
		},
	}
	cfg.Moving = r.relayed(own)
	if r.users != nil {
		cfg.Terminate = &relay.Terminate{Users: r.users.Now, Private: private(c, r.cfg.Router.Listen), Home: func() string { return own.to.Load().home }}
	}
	if r.apart != nil {
		cfg.Sets = func() relay.Sets { return r.apart.of(own.set(), r.now.Load) }
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
	own.relay, own.seen, own.subject = one, one.Seen(), cfg.Subject
	r.open.add(own)
	err = one.Run(ctx)
	r.open.remove(own, err)
	for _, reason := range []error{relay.ErrLogin, relay.ErrHomeLogin} {
		if errors.Is(err, reason) {
			r.refused(reason)
		}
	}
	if err != nil {
		r.log.Debug("a connection ended", "slot", slot, "client", c.RemoteAddr().String(), "error", err)
	}
}
