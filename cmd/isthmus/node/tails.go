package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/topology"
)

// tailsEvery is how often a node looks by itself whether a home was lost.
const tailsEvery = 3 * time.Second

// tails tells the mirror which homes were lost, and what they had. It reads the generations of all routers of the fabric, also of those that this node has no instance of.
type tails struct {
	self    string
	open    func(topology.Cluster) (*broker.Cluster, error)
	running func() *topology.Topology
	heed    func()
	log     *slog.Logger
	turn    chan struct{} // of who reads; guards logs

	logs struct {
		topo     *topology.Topology
		clusters *opened
		stores   map[string]*generation.Store // by router
	}

	mu    sync.Mutex
	began int64 // counts readings
	fresh int64 // the last one that ended well
	by    map[tailPlace][]mirror.Tail
}

// tailPlace is a partition of a cluster.
type tailPlace struct {
	cluster, topic string
	partition      int32
}

func newTails(self string, open func(topology.Cluster) (*broker.Cluster, error), running func() *topology.Topology, heed func(), log *slog.Logger) *tails {
	return &tails{self: self, open: open, running: running, heed: heed, log: log, turn: make(chan struct{}, 1)}
}

// Of implements [mirror.Tails].
func (t *tails) Of(cluster, topic string, partition int32) []mirror.Tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.by) == 0 {
		return nil
	}
	return t.by[tailPlace{cluster, topic, partition}]
}

// Refresh implements [mirror.Tails]. Who waits for his turn meanwhile may find it done.
func (t *tails) Refresh(ctx context.Context) error {
	topo := t.running()
	if len(topo.Routers) == 0 {
		return nil
	}
	t.mu.Lock()
	asked := t.began
	t.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case t.turn <- struct{}{}:
	}
	defer func() { <-t.turn }()
	t.mu.Lock()
	done := t.fresh > asked
	if !done {
		t.began++
	}
	look := t.began
	t.mu.Unlock()
	if done {
		return nil
	}
	if err := t.follow(topo); err != nil {
		return err
	}
	by, err := t.read(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.by, t.fresh = by, look
		return nil
	}
	for place, list := range t.by { // what was decided stays so
		if _, again := by[place]; !again {
			by[place] = list
		}
	}
	t.by = by
	return err
}

// follow has a store for each router of the topology. The caller has the turn.
func (t *tails) follow(topo *topology.Topology) error {
	if t.logs.topo == topo {
		return nil
	}
	t.close()
	t.logs.clusters, t.logs.stores = newOpened(topo, t.open), make(map[string]*generation.Store)
	for _, r := range topo.Routers {
		if t.logs.stores[r.Name] != nil {
			continue
		}
		controls, err := t.logs.clusters.list(topo.Controls())
		if err != nil {
			return err
		}
		t.logs.stores[r.Name] = generation.NewStore(controls, generation.Config{Router: r.Name, Node: t.self, Unique: rand.Text, Now: clock})
	}
	t.logs.topo = topo
	return nil
}

// close ends what was opened. The caller has the turn.
func (t *tails) close() {
	for _, s := range t.logs.stores {
		s.Close()
	}
	if t.logs.clusters != nil {
		t.logs.clusters.close()
	}
	t.logs.topo, t.logs.clusters, t.logs.stores = nil, nil, nil
}

// read reads what was decided; with an error it is what could be read.
func (t *tails) read(ctx context.Context) (map[tailPlace][]mirror.Tail, error) {
	by := make(map[tailPlace][]mirror.Tail)
	var failed []error
	seen := make(map[string]bool)
	for _, r := range t.logs.topo.Routers {
		if seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		store := t.logs.stores[r.Name]
		if _, err := store.Read(ctx); err != nil {
			failed = append(failed, err)
		}
		for _, set := range slices.Concat([]topology.Set{{Home: r.Home}}, r.Sets) {
			all, err := tailsOf(store, r, set)
			if err != nil {
				failed = append(failed, fmt.Errorf("tails of router %s, set %q: %w", r.Name, set.Name, err))
			}
			for place, list := range all {
				by[place] = append(by[place], list...)
			}
		}
	}
	return by, errors.Join(failed...)
}

// tailsOf are those of a set of a router, as the mirror has them.
func tailsOf(store *generation.Store, r topology.Router, set topology.Set) (map[tailPlace][]mirror.Tail, error) {
	st, err := store.State(set.Name)
	if err != nil || !slices.ContainsFunc(st.History, func(v generation.Value) bool { return v.Kind == generation.Unplanned }) {
		return nil, err
	}
	all, err := arrival.Tails(cmp.Or(set.Home, r.Home), st.History, store.Cut)
	if err != nil {
		return nil, err
	}
	by := make(map[tailPlace][]mirror.Tail)
	for _, one := range all {
		place := tailPlace{one.Lost, one.Topic, one.Partition}
		by[place] = append(by[place], mirrorTail(one, r, set))
	}
	return by, nil
}

func mirrorTail(one arrival.Tail, r topology.Router, set topology.Set) mirror.Tail {
	out := mirror.Tail{Router: r.Name, Set: set.Name, Generation: one.Generation, At: time.UnixMilli(one.At), Policy: r.TailPolicy(set.Name), First: one.First, End: one.End}
	for _, h := range one.Homes {
		out.Homes = append(out.Homes, mirror.TailLog{Cluster: h.Home, From: h.From, End: h.End})
	}
	return out
}

// run looks again and again, and tells the links when something is new, until ctx ends.
func (t *tails) run(ctx context.Context) error {
	tick := time.NewTicker(tailsEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			t.mu.Lock()
			before := t.by
			t.mu.Unlock()
			call, cancel := context.WithTimeout(ctx, tailsEvery)
			err := t.Refresh(call)
			cancel()
			if err != nil && ctx.Err() == nil {
				t.log.Debug("look for homes that were lost", "error", err)
			}
			t.mu.Lock()
			same := reflect.DeepEqual(before, t.by)
			t.mu.Unlock()
			if !same {
				t.heed()
			}
		}
	}
	t.turn <- struct{}{}
	t.close()
	return nil
}
