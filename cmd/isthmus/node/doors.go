package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/topology"
)

// How often a router that cannot be begun is tried again, at first and at last. The first is soon: the one before it may just be leaving
// its addresses.
const (
	doorFirst = 50 * time.Millisecond
	doorMost  = 2 * time.Second
)

// doorsAfter is how long a node that ends waits for what clients were promised.
const doorsAfter = 10 * time.Second

// doors are the routers of a node. They follow the running configuration: what each of them is made of is compared, and only one that
// changed is started again.
//
//	running ──▶ doorsOf (pure) ──▶ follow ──▶ door.run, one per router: open, listen, serve; again after a failure
type doors struct {
	self    string
	open    func(topology.Cluster) (*broker.Cluster, error)
	running func() *topology.Topology // nil while it is not known
	live    router.Liveness
	listen  func(network, address string) (net.Listener, error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	log     *slog.Logger
	runs    func() arrival.Runs
	care    func(ctx context.Context, topo *topology.Topology, router string, store *generation.Store, cluster func(string) (*broker.Cluster, error)) error
	changed chan struct{} // 1 token: look at what runs
	all     sync.WaitGroup

	mu sync.Mutex
	by map[string]*door // by the router's name
}

// doorSpec is what a router is made of, but for the other instances, which change while it runs.
type doorSpec struct {
	Router topology.Router
	Home   topology.Cluster
	Others []topology.Cluster // homes of sets, each once
	// Controls are the clusters that decide where homes are.
	Controls []topology.Cluster
}

// door is one router of a node.
type door struct {
	spec      doorSpec
	id        func(counter uint32) int64
	cancel    context.CancelFunc
	mu        sync.Mutex
	instances []topology.Router
	serves    *router.Router    // nil while it does not
	trouble   string            // why it does not, or an empty text
	store     *generation.Store // of what serves; nil while nothing does
}

// DoorStatus is a router of a node, whether it runs or not.
type DoorStatus struct {
	Router topology.Router
	// Serves is nil while it cannot be begun; Trouble says why.
	Serves  *router.Router
	Trouble string
}

// doorsOf are the routers that a node runs, by name, and the instances of each that clients there are sent to.
func doorsOf(topo *topology.Topology, self string) (specs map[string]doorSpec, instances map[string][]topology.Router) {
	specs, instances = make(map[string]doorSpec), make(map[string][]topology.Router)
	own, _ := topo.Node(self)
	for _, r := range topo.Routers {
		if r.Node == self {
			specs[r.Name] = specOf(topo, r)
		}
		if at, ok := topo.Node(r.Node); r.Node == self || ok && at.DC == own.DC {
			instances[r.Name] = append(instances[r.Name], r)
		}
	}
	return specs, instances
}

func specOf(topo *topology.Topology, r topology.Router) doorSpec {
	spec := doorSpec{Router: r}
	spec.Home, _ = topo.Cluster(r.Home)
	for _, name := range topo.Controls() {
		c, _ := topo.Cluster(name)
		spec.Controls = append(spec.Controls, c)
	}
	for _, s := range r.Sets {
		known := s.Home == r.Home || slices.ContainsFunc(spec.Others, func(c topology.Cluster) bool { return c.Name == s.Home })
		if c, ok := topo.Cluster(s.Home); ok && !known {
			spec.Others = append(spec.Others, c)
		}
	}
	return spec
}

// look has the running configuration looked at.
func (d *doors) look() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run keeps the routers as the running configuration has them until ctx ends. Then none of them takes a connection any more, and what was
// asked is answered, for a while.
func (d *doors) run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-d.changed:
			if topo := d.running(); topo != nil {
				d.follow(ctx, topo)
			}
		}
	}
	ended := make(chan struct{})
	go func() {
		d.all.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(doorsAfter):
		d.log.Warn("routers end with connections that are still open", "after", doorsAfter.String())
	}
	return nil
}

// follow begins and ends routers.
func (d *doors) follow(ctx context.Context, topo *topology.Topology) {
	wanted, instances := doorsOf(topo, d.self)
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, old := range d.by {
		if spec, ok := wanted[name]; !ok || !reflect.DeepEqual(spec, old.spec) {
			old.cancel()
			delete(d.by, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if old := d.by[name]; old != nil {
			old.tell(instances[name])
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		one := &door{spec: wanted[name], cancel: cancel, instances: instances[name], trouble: "it is just begun",
			id: func(counter uint32) int64 { return topo.RouterClientID(name, counter, 0) }}
		d.by[name] = one
		d.all.Go(func() {
			defer cancel()
			one.run(ctx, d)
		})
	}
}

// list is what all routers of the node do, by name.
func (d *doors) list() (out []DoorStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.by)) {
		out = append(out, d.by[name].status())
	}
	return out
}

// routers are those that serve, by name.
func (d *doors) routers() (out []*router.Router) {
	for _, s := range d.list() {
		if s.Serves != nil {
			out = append(out, s.Serves)
		}
	}
	return out
}

func (o *door) status() DoorStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return DoorStatus{o.spec.Router, o.serves, o.trouble}
}

// tell says which instances there are.
func (o *door) tell(instances []topology.Router) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if reflect.DeepEqual(instances, o.instances) {
		return
	}
	o.instances = instances
	if o.serves != nil {
		o.serves.SetInstances(instances)
	}
}

// run serves until ctx ends. What is wrong is said once; it may be cured while the node runs, so it is tried again.
func (o *door) run(ctx context.Context, d *doors) {
	log := d.log.With("router", o.spec.Router.Name)
	said, again := "", doorFirst
	for first := true; ; first = false {
		err := o.serve(ctx, d)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		o.is(nil, err.Error())
		if !first && err.Error() != said {
			said = err.Error()
			log.Error("router does not serve, tried again", "error", err, "every", doorMost.String())
		}
		if !pause(ctx, again) {
			return
		}
		again = min(2*again, doorMost)
	}
}

// serve begins the router and runs it, once.
func (o *door) serve(ctx context.Context, d *doors) error {
	home, err := d.open(o.spec.Home)
	if err != nil {
		return fmt.Errorf("open the home %s: %w", o.spec.Home.Name, err)
	}
	defer home.Close()
	others := make(map[string]*broker.Cluster)
	for _, spec := range o.spec.Others {
		c, err := d.open(spec)
		if err != nil {
			return fmt.Errorf("open the home %s of a set: %w", spec.Name, err)
		}
		defer c.Close()
		others[spec.Name] = c
	}
	topo := d.running()
	if topo == nil {
		return errors.New("the running configuration is not known yet")
	}
	clusters := newOpened(topo, d.open)
	defer clusters.close()
	store, err := generationsOf(topo, o.spec.Router.Name, d.self, clusters)
	if err != nil {
		return err
	}
	defer store.Close()
	o.mu.Lock()
	instances := o.instances
	o.mu.Unlock()
	r, err := router.New(router.Config{Router: o.spec.Router, Instances: instances, Login: o.spec.Home.SASL != nil},
		router.Deps{Home: home, Others: others, Live: d.live, ProducerID: o.id, Unique: rand.Text, Listen: d.listen, Dial: d.dial, Log: d.log,
			Generations: store, Runs: d.runs, Open: func(name string) (*broker.Cluster, error) {
				c, ok := topo.Cluster(name)
				if !ok {
					return nil, fmt.Errorf("the topology has no cluster %q", name)
				}
				return d.open(c)
			}, Salted: func(id, generation int64) (int64, error) { return gate.Salted(topo, id, generation) }, Clock: clock})
	if err != nil {
		return err
	}
	defer r.Close()
	o.is(r, "")
	o.mu.Lock()
	o.store = store
	r.SetInstances(o.instances)
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.store = nil
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var care sync.WaitGroup
	defer care.Wait()
	care.Go(func() {
		defer stop()
		if err := d.care(ctx, topo, o.spec.Router.Name, store, clusters.get); err != nil {
			d.log.Error("switches that are left open are not ended", "router", o.spec.Router.Name, "error", err)
		}
	})
	err = r.Run(ctx)
	stop()
	return err
}

// is notes what the router does.
func (o *door) is(serves *router.Router, trouble string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serves, o.trouble = serves, trouble
}

// pause waits, and tells whether ctx did not end meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
