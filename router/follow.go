package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
)

// follow is what is known of the home. Only followLoop uses it.
type follow struct {
	store    *identity.Store
	read     bool      // the identity was read
	left     []int32   // brokers without a slot
	look     time.Time // when the identity is read again for them
	spoken   spoken
	versions apis.Versions
	last     broker.Metadata
	said     map[string]string // what was logged last, by what it is about
}

// lookAtSlots is how often it is looked for a slot for brokers that have none: another instance may have more.
const lookAtSlots = 30 * time.Second

// homePatience is how long the home may take to say who its brokers are: live instances are looked at between two times.
const homePatience = 5 * time.Second

// followLoop keeps the picture true until ctx ends (nil), or the identity is one that only a newer version knows.
func (r *Router) followLoop(ctx context.Context) error {
	ticker := time.NewTicker(r.cfg.Every)
	defer ticker.Stop()
	for {
		if err := r.step(ctx); errors.Is(err, identity.ErrVersion) && ctx.Err() == nil {
			return fmt.Errorf("router %s: %w", r.cfg.Router.Name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// step asks the home once and draws the picture anew. What fails is tried again in the next one; the error is for tests and for versions.
func (r *Router) step(ctx context.Context) error {
	f := &r.follow
	asked, cancel := context.WithTimeoutCause(ctx, homePatience, fmt.Errorf("no answer within %v: %w", homePatience, context.DeadlineExceeded))
	m, err := r.deps.Home.Brokers(asked)
	cancel()
	if err == nil && len(m.Brokers) == 0 {
		err = fmt.Errorf("ask for metadata of cluster %s: it names no broker", r.deps.Home.Name())
	}
	r.tell(ctx, "home", "the home cannot be asked; clients keep what they know", err)
	if err == nil {
		f.last = m
		err = r.identify(ctx, m)
		r.tell(ctx, "identity", "the identity cannot be read or claimed, tried again", err)
	}
	if errors.Is(err, identity.ErrVersion) {
		return err
	}
	if f.versions == nil { // nobody can be told anything yet; later a broker that is silent must not delay the picture
		r.learn(ctx, f.last)
	}
	err = errors.Join(err, r.redraw(ctx))
	if f.versions != nil && r.learn(ctx, f.last) {
		err = errors.Join(err, r.redraw(ctx))
	}
	return err
}

// identify reads or claims what is not known of the identity.
func (r *Router) identify(ctx context.Context, m broker.Metadata) error {
	f, slots := &r.follow, room(r.cfg.Router)
	missing := without(f.store.State(), m)
	known := len(missing) > 0 && slices.Equal(missing, f.left) && time.Now().Before(f.look) // they have no slot, and others give them none every second
	if !f.read || len(missing) > 0 && !known {
		if err := f.store.Read(ctx); err != nil {
			return err
		}
		left, err := f.store.Claim(ctx, m.ClusterID, without(f.store.State(), m), slots)
		if err != nil {
			return err
		}
		f.read, f.left, f.look = true, left, time.Now().Add(lookAtSlots)
	}
	var full error
	if len(missing) > 0 && len(f.left) > 0 {
		full = fmt.Errorf("slots = %q are all taken, and brokers %v of %s have none; add ports at the end of slots at each instance of router %q", r.cfg.Router.Slots, f.left, r.deps.Home.Name(), r.cfg.Router.Name)
	}
	r.tell(ctx, "slots", "brokers have no slot, so clients cannot reach them", full)
	if r.ids != nil && r.ids.wants() {
		block, err := f.store.Block(ctx)
		if err != nil {
			return err
		}
		r.ids.add(block)
	}
	return nil
}

// learn asks brokers what they speak, and reports whether clients are to be told something else.
func (r *Router) learn(ctx context.Context, m broker.Metadata) bool {
	f := &r.follow
	errs := f.spoken.look(ctx, r.deps.Home, m)
	r.tell(ctx, "versions", "brokers do not say what they speak, asked again", errors.Join(errs...))
	before := f.versions
	now, err := f.spoken.offer(r.deps.Home.Name(), before)
	r.tell(ctx, "offer", "what the brokers speak does not go together; clients are told what they were before", err)
	if err != nil || maps.Equal(now, before) {
		return false
	}
	if before != nil {
		r.log.Warn("clients are told less than before, because of a broker that joined or was changed", "versions", now.String())
	}
	f.versions = now
	return true
}

// redraw draws the picture, and ends the connections whose broker is gone.
func (r *Router) redraw(ctx context.Context) error {
	f := &r.follow
	state := f.store.State()
	if !f.read || f.versions == nil || len(state.Slots) == 0 {
		return errNoPicture
	}
	live := func(node string) bool {
		return node == r.cfg.Router.Node || r.deps.Live == nil || r.deps.Live.Live(node)
	}
	most := 0
	for _, s := range state.Slots {
		most = max(most, s.Index+1)
	}
	p, err := draw(state, f.last, f.versions, spread(*r.instances.Load(), live, most))
	r.tell(ctx, "picture", "the virtual cluster cannot be told to clients", err)
	if err != nil {
		return err
	}
	before := r.now.Load()
	if before != nil && reflect.DeepEqual(p, before) {
		return nil
	}
	r.now.Store(p)
	ended := r.open.endGone(p)
	switch {
	case before == nil:
		r.log.Info("router serves", "cluster_id", state.Cluster, "brokers", len(p.brokers), "versions", p.versions.String())
	case ended > 0 || len(before.brokers) != len(p.brokers):
		r.log.Info("brokers changed", "brokers", len(p.brokers), "connections_ended", ended)
	}
	return nil
}

// errNoPicture says that clients cannot be told anything yet.
var errNoPicture = errors.New("the home, its versions or its identity are not known yet")

// tell logs what is wrong, once until it is something else, and that it is over.
func (r *Router) tell(ctx context.Context, about, msg string, err error) {
	said := r.follow.said
	switch {
	case ctx.Err() != nil:
	case err == nil && said[about] != "":
		delete(said, about)
		r.log.Info("over: " + msg)
	case err != nil && said[about] != err.Error():
		said[about] = err.Error()
		r.log.Error(msg, "error", err)
	}
}

// sleep waits, at most until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
