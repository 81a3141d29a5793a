package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/topology"
)

// follow is what is known of the homes. Only followLoop uses it.
type follow struct {
	store    *identity.Store // at the router's home, for all sets
	read     bool            // the identity was read
	began    time.Time       // of followLoop
	homes    []*home         // by set
	versions apis.Versions
}

// home is what is known of the home of a set.
type home struct {
	known
	way    way // of this instance
	spoken spoken
	left   []int32   // brokers without a slot
	look   time.Time // when the identity is read again for them
}

// newHome is a home of which nothing is known yet.
func newHome(k known, w way) *home {
	return &home{known: k, way: w, spoken: spoken{known: make(map[int32]apis.Versions), ask: make(map[int32]time.Time)}}
}

const (
	// lookAtSlots is how often it is looked for a slot for brokers that have none: another instance may have more.
	lookAtSlots = 30 * time.Second
	// homePatience is how long a home may take to say who its brokers are: live instances are looked at between two times.
	homePatience = 5 * time.Second
	// homesPatience is how long clients wait, at the start, for what all homes speak.
	homesPatience = 30 * time.Second
)

// newHomes are the homes of all sets of a router, by set.
func newHomes(r topology.Router, deps Deps) (homes []*home) {
	add := func(set, name string) {
		c := deps.Home
		if name != r.Home {
			c = deps.Others[name]
		}
		homes = append(homes, newHome(known{set: set, cluster: c}, wayOf(r, len(homes))))
	}
	add("", r.Home)
	for _, s := range r.Sets {
		add(s.Name, s.Home)
	}
	return homes
}

// brokers asks a home who its brokers are.
func (h *home) brokers(ctx context.Context) (broker.Metadata, error) {
	m, err := h.cluster.Brokers(ctx)
	if err == nil && len(m.Brokers) == 0 {
		err = fmt.Errorf("ask for metadata of cluster %s: it names no broker", h.cluster.Name())
	}
	return m, err
}

// about names what is wrong with a home of several.
func (h *home) about(what string) string {
	if h.set == "" {
		return what
	}
	return what + " of set " + h.set
}

// followLoop keeps the picture true until ctx ends (nil), or the identity is one that only a newer version knows.
func (r *Router) followLoop(ctx context.Context) error {
	r.follow.began = time.Now()
	var looks sync.WaitGroup
	defer looks.Wait()
	ticker := time.NewTicker(r.cfg.Every)
	defer ticker.Stop()
	for {
		if err := r.moves.while(ctx, r.step); errors.Is(err, identity.ErrVersion) && ctx.Err() == nil {
			return fmt.Errorf("router %s: %w", r.cfg.Router.Name, err)
		}
		if !r.rest(ctx, ticker.C, &looks) {
			return nil
		}
	}
}

// livesEvery is how often it is looked who of several instances lives: clients of one that is gone wait for that.
const livesEvery = 100 * time.Millisecond

// rest waits for the time of the next step, and draws the picture anew when an instance comes or goes meanwhile. False means that ctx ended.
func (r *Router) rest(ctx context.Context, until <-chan time.Time, looks *sync.WaitGroup) bool {
	var look <-chan time.Time
	if len(*r.others.list.Load()) > 1 {
		ticker := time.NewTicker(livesEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	alive := r.alive()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-until:
			return true
		case m := <-r.moves.queue:
			m.done <- r.take(ctx, m)
			alive = r.alive()
		case <-look:
			if r.others.due(time.Now(), r.open.keys.Requests[kmsg.Metadata].Load()) {
				looks.Go(func() { r.others.look(ctx, r.cfg.Router.Node) })
			}
		}
		if now := r.alive(); !slices.Equal(now, alive) {
			alive = now
			_ = r.redraw(ctx) // who cannot be told anything yet is told by the next step
		}
	}
}

// alive says of each instance whether it lives.
func (r *Router) alive() (out []bool) {
	for _, i := range *r.others.list.Load() {
		out = append(out, r.lives(i.Node))
	}
	return out
}

// step asks the homes once and draws the picture anew. What fails is tried again in the next one; the error is for tests and for versions.
func (r *Router) step(ctx context.Context) error {
	f := &r.follow
	r.lookAtUsers(ctx)
	errs := r.ask(ctx)
	for i, h := range f.homes {
		r.tell(ctx, h.about("home"), "a home cannot be asked; clients keep what they know", errs[i])
	}
	err := errs[0]
	if err == nil { // all that must stay is kept there
		r.news.hear(time.Now())
		err = r.identify(ctx)
		r.tell(ctx, "identity", "the identity cannot be read or claimed, tried again", err)
	}
	if errors.Is(err, identity.ErrVersion) {
		return err
	}
	if f.versions == nil { // nobody can be told anything yet; later a broker that is silent must not delay the picture
		r.learn(ctx)
	}
	err = errors.Join(err, r.redraw(ctx))
	if f.versions != nil && r.learn(ctx) {
		err = errors.Join(err, r.redraw(ctx))
	}
	return err
}

// lookAtUsers reads the users of the door again if it is time, also where nobody comes.
func (r *Router) lookAtUsers(ctx context.Context) {
	if r.users != nil {
		r.users.Now()
		r.tell(ctx, "credentials", "the router's credentials cannot be read again; what they were last counts", r.users.Trouble())
	}
}

// ask asks all homes who their brokers are.
func (r *Router) ask(ctx context.Context) []error {
	ctx, cancel := context.WithTimeoutCause(ctx, homePatience, fmt.Errorf("no answer within %v: %w", homePatience, context.DeadlineExceeded))
	defer cancel()
	errs := make([]error, len(r.follow.homes))
	var all sync.WaitGroup
	for i, h := range r.follow.homes {
		all.Go(func() {
			m, err := h.brokers(ctx)
			if errs[i] = err; err == nil {
				h.last = m
			}
		})
	}
	all.Wait()
	return errs
}

// identify reads or claims what is not known of the identity.
func (r *Router) identify(ctx context.Context) error {
	f := &r.follow
	read := !f.read
	for _, h := range f.homes {
		missing := without(f.store.State(), h.known)
		known := slices.Equal(missing, h.left) && time.Now().Before(h.look) // they have no slot, and others give them none every second
		read = read || len(missing) > 0 && !known
	}
	if read {
		err := r.claim(ctx)
		r.news.claimed(err)
		if err != nil {
			return err
		}
		f.read = true
	}
	for _, h := range f.homes {
		var full error
		if len(without(f.store.State(), h.known)) > 0 {
			full = fmt.Errorf("slots = %q are all taken, and brokers %v of %s have none; add ports at the end of slots at each instance of router %q", h.way, h.left, h.cluster.Name(), r.cfg.Router.Name)
		}
		r.tell(ctx, h.about("slots"), "brokers have no slot, so clients cannot reach them", full)
	}
	if r.ids != nil && r.ids.wants() {
		block, err := f.store.Block(ctx)
		r.news.claimed(err)
		if err != nil {
			return err
		}
		r.ids.add(block)
	}
	return nil
}

// claim reads the identity, and claims slots for brokers that have none.
func (r *Router) claim(ctx context.Context) error {
	f := &r.follow
	if err := f.store.Read(ctx); err != nil {
		return err
	}
	if err := f.store.Cluster(ctx, f.homes[0].last.ClusterID); err != nil {
		return err
	}
	for _, h := range f.homes {
		left, err := f.store.Claim(ctx, h.set, h.generation, without(f.store.State(), h.known), h.way.room())
		if err != nil {
			return err
		}
		h.left, h.look = left, time.Now().Add(lookAtSlots)
	}
	return nil
}

// learn asks brokers what they speak, and reports whether clients are to be told something else. For the first time all homes are to have said it, unless
// one takes too long: what clients are told should not shrink later.
func (r *Router) learn(ctx context.Context) bool {
	f := &r.follow
	var all sync.WaitGroup
	errs := make([]error, len(f.homes))
	for i, h := range f.homes {
		all.Go(func() { errs[i] = errors.Join(h.spoken.look(ctx, h.cluster, h.last)...) })
	}
	all.Wait()
	r.tell(ctx, "versions", "brokers do not say what they speak, asked again", errors.Join(errs...))
	before := f.versions
	silent := func(h *home) bool { return len(h.spoken.known) == 0 }
	if before == nil && slices.ContainsFunc(f.homes, silent) && time.Since(f.began) < homesPatience {
		return false
	}
	now, err := offer(f.homes, before)
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
	most := 0
	for _, s := range state.Slots {
		most = max(most, s.Index+1)
	}
	var homes []known
	var at []func(slot int) (topology.Router, bool)
	for set, h := range f.homes {
		homes = append(homes, h.known)
		at = append(at, spread(*r.others.list.Load(), r.lives, func(i topology.Router) way { return wayOf(i, set) }, most))
	}
	p, err := draw(state, homes, f.versions, func(set, slot int) (topology.Router, bool) { return at[set](slot) })
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
		r.log.Info("router serves", "cluster_id", state.Cluster, "brokers", p.count(), "versions", p.versions.String())
	case ended > 0 || before.count() != p.count():
		r.log.Info("brokers changed", "brokers", p.count(), "connections_ended", ended)
	}
	return nil
}

// errNoPicture says that clients cannot be told anything yet.
var errNoPicture = errors.New("the home, its versions or its identity are not known yet")

// tell logs what is wrong, once until it is something else, and that it is over. Any goroutine may call it, one for each of what it is about.
func (r *Router) tell(ctx context.Context, about, msg string, err error) {
	switch {
	case ctx.Err() != nil || !r.news.trouble(about, err):
	case err == nil:
		r.log.Info("over: " + msg)
	default:
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
