package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/router/quota"
)

// Router is one instance of a virtual cluster.
type Router struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	doors  []*door // bootstrap first
	guests *guests
	memory *semaphore.Weighted
	ids    *producers // nil lets brokers give them
	now    atomic.Pointer[picture]
	turn   atomic.Uint32 // which broker bootstrap tries first
	open   connections
	news   news
	quotas *quota.Rules
	follow follow
}

// New binds the listeners of a router and starts nothing. What cannot be served yet is refused, by the field's name.
func New(cfg Config, deps Deps) (_ *Router, err error) {
	if err := cfg.complete(&deps); err != nil {
		return nil, err
	}
	r := &Router{
		cfg: cfg, deps: deps, log: deps.Log, guests: &guests{limits: cfg.Limits, of: make(map[string]int)},
		memory: semaphore.NewWeighted(cfg.Limits.Memory), open: newConnections(), quotas: quota.New(cfg.Router.Quotas),
	}
	if deps.ProducerID != nil {
		r.ids = &producers{id: deps.ProducerID}
	}
	r.follow = follow{
		store:  identity.NewStore(deps.Home, cfg.Router.Name, cfg.Router.Node, deps.Unique),
		spoken: spoken{known: make(map[int32]apis.Versions), ask: make(map[int32]time.Time)},
		said:   make(map[string]string),
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	host, _, err := net.SplitHostPort(cfg.Router.Listen)
	if err != nil {
		return nil, fmt.Errorf("new router %q: listen: %w", cfg.Router.Name, err)
	}
	addresses := []string{cfg.Router.Listen}
	for i := range count(cfg.Router.Slots) {
		addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(int(cfg.Router.Slots.First)+i)))
	}
	for i, address := range addresses {
		l, err := deps.Listen("tcp", address)
		if err != nil {
			field := "slots"
			if i == 0 {
				field = "listen"
			}
			return nil, fmt.Errorf("new router %q: %s: %w", cfg.Router.Name, field, err)
		}
		r.doors = append(r.doors, &door{r: r, slot: i - 1, ear: l})
	}
	return r, nil
}

// Name is the virtual cluster's.
func (r *Router) Name() string { return r.cfg.Router.Name }

// Close ends the listeners of a router, also of one that never ran. What runs ends with the context of Run.
func (r *Router) Close() {
	for _, d := range r.doors {
		_ = d.ear.Close()
	}
	r.follow.store.Close()
}

// Run serves until ctx ends: then no connection is taken any more, what was asked is answered, and clients are hung up on in order. It
// returns nil then. The error of any other end wraps [identity.ErrVersion]: what clients are told cannot be known here.
func (r *Router) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer r.follow.store.Close()
	var all sync.WaitGroup
	for _, d := range r.doors {
		all.Go(func() { d.serve(ctx) })
	}
	err := r.followLoop(ctx)
	stop()
	for _, d := range r.doors {
		_ = d.ear.Close()
	}
	all.Wait()
	return err
}

// dialTry is how long bootstrap waits for one broker before it tries the next.
const dialTry = 3 * time.Second

// dial connects a client of a slot to its broker, one of bootstrap (-1) to any.
func (r *Router) dial(ctx context.Context, slot int) (net.Conn, broker.Broker, error) {
	p := r.now.Load()
	if slot >= 0 {
		b, ok := p.bySlot[slot]
		if !ok {
			return nil, b, fmt.Errorf("slot %d stands for no broker of %s that is there", slot, r.deps.Home.Name())
		}
		c, err := r.deps.Home.DialThrough(ctx, b)
		r.open.dialled(b.ID, err)
		return c, b, err
	}
	var errs []error
	first := int(r.turn.Add(1))
	for i := range p.brokers {
		b := p.brokers[(first+i)%len(p.brokers)]
		try, cancel := context.WithTimeout(ctx, dialTry)
		c, err := r.deps.Home.DialThrough(try, b)
		cancel()
		r.open.dialled(b.ID, err)
		if err == nil {
			return c, b, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, broker.Broker{}, errors.Join(append(errs, fmt.Errorf("no broker of %s can be reached", r.deps.Home.Name()))...)
}
