package router

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
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
	r.open.mu.Lock()
	now := time.Now()
	quiet := now.Sub(r.open.told[err]) < time.Minute
	if !quiet {
		if r.open.told == nil {
			r.open.told = make(map[error]time.Time)
		}
		r.open.told[err] = now
	}
	r.open.mu.Unlock()
	if !quiet {
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
	if sni := d.r.cfg.Router.SNI; sni != "" {
		slot = slotOf(sni, secure.ConnectionState().ServerName)
	}
	d.relay(ctx, secure, slot)
}

// relay carries one connection to its end.
func (d *door) relay(ctx context.Context, c net.Conn, slot int) {
	r, over := d.r, ctx
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer r.ending(over, ctx, end)()
	own := &connection{end: end}
	r.open.add(own)
	defer r.open.remove(own)
	cfg := relay.Config{
		Client: c, View: func() *rewrite.View { return r.now.Load().view }, Versions: r.now.Load().versions, Memory: r.memory,
		Limits: r.cfg.Relay, Timeouts: r.cfg.Timeouts,
		Dial: func(ctx context.Context) (net.Conn, error) {
			up, b, err := r.dial(ctx, slot)
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
	if err := one.Run(ctx); err != nil {
		r.log.Debug("a connection ended", "slot", slot, "client", c.RemoteAddr().String(), "error", err)
	}
}

// connection is one that is open.
type connection struct {
	end context.CancelFunc
	to  atomic.Pointer[broker.Broker] // nil before it is dialled
}

// connections are those that are open, and when it was last told why others are not.
type connections struct {
	mu   sync.Mutex
	all  map[*connection]struct{}
	told map[error]time.Time
}

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[c] = struct{}{}
}

func (s *connections) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// endGone ends, in order, the connections whose broker is not there any more, and says how many they are.
func (s *connections) endGone(p *picture) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if b := c.to.Load(); b != nil && !p.has(*b) {
			c.end()
			n++
		}
	}
	return n
}
