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

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/router/quota"
	"github.com/isthmus-project/isthmus/router/users"
	"github.com/isthmus-project/isthmus/topology"
)

// Router is one instance of a virtual cluster.
type Router struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	doors  []*door // bootstrap first
	guests *guests
	front  *front     // nil without TLS
	ids    *producers // nil lets brokers give them
	now    atomic.Pointer[picture]
	open   connections
	news   news
	callers
	follow follow
	apart  *apart // nil where there is one set
	moving
	others *siblings
}

// callers is what is known of clients before they come.
type callers struct {
	quotas *quota.Rules
	users  *users.Users // nil where logins pass through
}

// New binds the listeners of a router and starts nothing. What cannot be served yet is refused, by the field's name.
func New(cfg Config, deps Deps) (_ *Router, err error) {
	if err := cfg.complete(&deps); err != nil {
		return nil, err
	}
	r := &Router{
		cfg: cfg, deps: deps, log: deps.Log, guests: newGuests(cfg.Limits),
		others: &siblings{dial: deps.Dial}, open: newConnections(), callers: callers{quotas: quota.New(cfg.Router.Quotas)},
	}
	r.SetInstances(cfg.Instances)
	if deps.ProducerID != nil {
		r.ids = &producers{id: deps.ProducerID}
	}
	var others func(key, value []byte) bool
	if deps.Generations != nil {
		others = generation.Owns(cfg.Router.Name)
	}
	r.follow = follow{
		store: identityOf(cfg, deps, others),
		homes: newHomes(cfg.Router, deps),
	}
	r.apart = newApart(cfg.Router)
	r.moving = moving{stages: newStages(r.follow.homes), moves: &moves{queue: make(chan *move)}, clusters: newClusters(cfg.Router.Home, deps), asked: make(chan struct{}, 1)}
	for set := range r.follow.homes {
		name := cfg.setName(set)
		r.followers = append(r.followers, &follower{r: r, set: set, name: name, strict: cfg.Router.Isolation(name) == topology.HoldIsolated, wake: make(chan struct{}, 1)})
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.front, err = newFront(cfg, deps); err != nil {
		return nil, fmt.Errorf("new router %q: %w", cfg.Router.Name, err)
	}
	if cfg.Router.Auth == topology.Terminate {
		if r.users, err = users.New(cfg.Router.Credentials, time.Now); err != nil {
			return nil, fmt.Errorf("new router %q: %w", cfg.Router.Name, err)
		}
	}
	host, _, err := net.SplitHostPort(cfg.Router.Listen)
	if err != nil {
		return nil, fmt.Errorf("new router %q: listen: %w", cfg.Router.Name, err)
	}
	if err := r.listen("listen", bootstrap, cfg.Router.Listen); err != nil {
		return nil, err
	}
	for set, h := range r.follow.homes {
		for i := range count(h.way.ports) {
			if err := r.listen(h.about("slots"), numberOf(set, i), net.JoinHostPort(host, strconv.Itoa(int(h.way.ports.First)+i))); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// identityOf is the store of what clients are told for ever: where homes may change it is in all control clusters, since the first home may be lost.
func identityOf(cfg Config, deps Deps, others func(key, value []byte) bool) *identity.Store {
	at := identity.NewStore(deps.Home, cfg.Router.Name, cfg.Router.Node, deps.Unique, others)
	if deps.Generations == nil {
		return at
	}
	return identity.NewShared(claims{deps.Generations}, at)
}

// claims are the notes of an identity.
type claims struct{ store *generation.Store }

// identityLog is the log of notes that they are in.
const identityLog = "@identity"

func (c claims) Read(ctx context.Context) error {
	_, err := c.store.Read(ctx)
	return claimed(err)
}

// claimed says in words of package identity why notes cannot be read or written.
func claimed(err error) error {
	switch {
	case errors.Is(err, generation.ErrBeaten):
		return fmt.Errorf("%w: %w", identity.ErrBeaten, err)
	case errors.Is(err, generation.ErrNoMajority):
		return fmt.Errorf("%w: %w", identity.ErrTooFew, err)
	}
	return err
}

func (c claims) Notes() ([]string, error) { return c.store.Notes(identityLog) }

func (c claims) Note(ctx context.Context, text string) error {
	return claimed(c.store.Note(ctx, identityLog, text))
}

// listen binds the listener of a slot, by what a field says.
func (r *Router) listen(field string, slot int, address string) error {
	l, err := r.deps.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("new router %q: %s: %w", r.cfg.Router.Name, field, err)
	}
	r.doors = append(r.doors, &door{r: r, slot: slot, ear: l})
	return nil
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

// Run serves until ctx ends: then no connection is taken any more, what was asked is answered, and clients are hung up on in order, one by one
// within Config.Drain. It returns nil then. The error of any other end wraps [identity.ErrVersion]: what clients are told cannot be known here.
func (r *Router) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer r.follow.store.Close()
	defer r.clusters.close()
	var all sync.WaitGroup
	for _, d := range r.doors {
		all.Go(func() { d.serve(ctx) })
	}
	err := r.begin(ctx)
	if err == nil {
		err = r.followAll(ctx)
	}
	stop()
	for _, d := range r.doors {
		_ = d.ear.Close()
	}
	all.Wait()
	return err
}

// followAll follows the homes, and what is decided about them, until ctx ends, or one of both cannot go on.
func (r *Router) followAll(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return r.followLoop(ctx) })
	if r.deps.Generations != nil {
		all.Go(func() error { return r.followGenerations(ctx) })
	}
	return all.Wait()
}

// dialTry is how long bootstrap waits for one broker before it tries the next.
const dialTry = 3 * time.Second

// dial connects a client of a slot to its broker, one of bootstrap to any of the router's home, or of another if none can be reached.
//
// Where a slot's broker is not there another one stands in for it, for news of the cluster. A door takes a connection before it knows whether there is a broker behind it, and
// clients take the end of one worse than one that is refused. Nothing else is answered there: a stand-in that says twice in a moment that it does not lead a partition uses up a
// producer's attempts. Behind a slot that a home which was left had, and this one has no broker for, is any broker.
func (r *Router) dial(ctx context.Context, slot int, news bool) (c net.Conn, to upstream, standIn bool, err error) {
	p := r.now.Load()
	if slot < 0 {
		c, to, err = r.dialAny(ctx, p, 0, len(p.sides))
		return c, to, false, err
	}
	set := setOf(slot)
	s, place := p.sides[set], slot-numberOf(set, 0)
	err = fmt.Errorf("slot %d stands for no broker of %s that is there", place, s.cluster.Name())
	b, ok := s.bySlot[place]
	if ok {
		c, err = s.cluster.DialThrough(ctx, b)
		if r.open.dialled(r.label(set, int(b.ID)), err); err == nil {
			return c, s.upstream(set, b), false, nil
		}
	}
	left := !ok && s.claimed[place] && !p.tells(set, place)
	if !left && !(news && s.claimed[place]) {
		return nil, upstream{}, false, err
	}
	c, to, none := r.dialAny(ctx, p, set, set+1)
	if none != nil {
		return nil, upstream{}, false, errors.Join(err, none)
	}
	return c, to, !left, nil
}

// dialAny connects to any broker of the homes of some sets, those of the first before others.
func (r *Router) dialAny(ctx context.Context, p *picture, from, to int) (net.Conn, upstream, error) {
	var errs []error
	first := int(r.open.turn.Add(1))
	for set := from; set < to; set++ {
		s := p.sides[set]
		for i := range s.brokers {
			b := s.brokers[(first+i)%len(s.brokers)]
			try, cancel := context.WithTimeout(ctx, dialTry)
			c, err := s.cluster.DialThrough(try, b)
			cancel()
			r.open.dialled(r.label(set, int(b.ID)), err)
			if err == nil {
				return c, s.upstream(set, b), nil
			}
			if errs = append(errs, err); ctx.Err() != nil {
				return nil, upstream{}, errors.Join(errs...)
			}
		}
	}
	return nil, upstream{}, errors.Join(append(errs, errors.New("no broker of any home can be reached"))...)
}
