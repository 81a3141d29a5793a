package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// SetDeps are what the links of a node work with. What may be nil is said where it is.
type SetDeps struct {
	Topology *topology.Topology
	// Open opens a cluster. The set closes what it got: when no link needs it any more, when the cluster changes, and at the end.
	Open    func(topology.Cluster) (*broker.Cluster, error)
	Log     *slog.Logger
	Metrics *Metrics // nil = none are seen
	Writer  string   // names this process in durable state: node and a random part
	Now     func() time.Time
	Rand    *rand.Rand
	Memory  *Memory
	// Owners and Peers are nil for a node alone: then everything is its own.
	Owners Owners
	Peers  Peers
	// Runs says which links the node has; nil = all.
	Runs func(topology.Link) bool
}

// Set is all links of one node. It runs them, changes them while they run, and answers questions that concern more than one.
type Set struct {
	cfg    Config
	deps   SetDeps
	shared *shared
	jobs   chan func(context.Context) // done by Run, between other things
	turn   chan struct{}              // of who changes the set

	mu       sync.Mutex
	links    []*running // by name
	clusters map[string]*openCluster
	ended    error // of a link that ended by itself
	active   bool  // Run is there to do jobs
	over     chan struct{}
}

// running is a link and its life.
type running struct {
	*Link
	cancel context.CancelFunc // nil while it does not run
	done   chan struct{}
}

// openCluster is a cluster and what it was opened with.
type openCluster struct {
	*broker.Cluster
	spec topology.Cluster
}

// NewSet makes the links of one node and opens their clusters. Nothing is started, and nothing is dialled. A set that is
// not run has to be closed.
func NewSet(cfg Config, deps SetDeps) (*Set, error) {
	if deps.Topology == nil || deps.Open == nil || deps.Log == nil || deps.Writer == "" {
		return nil, errors.New("make a set of links: a topology, a way to open clusters, a log and a writer name are needed")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rand == nil {
		deps.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics(prometheus.NewRegistry(), cfg.withDefaults().SeriesPerNode)
	}
	s := &Set{cfg: cfg, deps: deps, shared: newShared(deps.Topology, deps.Now), jobs: make(chan func(context.Context)),
		turn: make(chan struct{}, 1), clusters: make(map[string]*openCluster), over: make(chan struct{})}
	s.shared.owners, s.shared.view, s.shared.find, s.shared.cluster = deps.Owners, s.view, s.pump, s.cluster
	if deps.Peers != nil && deps.Owners != nil {
		s.shared.hand = newHandover(deps.Peers, s.pump, deps.Log, deps.Now, deps.Rand.Uint64()>>1)
	}
	next, err := s.plan(deps.Topology)
	if err != nil {
		return nil, err
	}
	s.links, s.clusters = next.links, next.clusters
	return s, nil
}

// Run runs all links until ctx ends: then what is in flight is finished and noted. A link that ends by itself takes no other
// with it; see [Set.Ended].
func (s *Set) Run(ctx context.Context) error {
	s.turn <- struct{}{}
	s.mu.Lock()
	links := slices.Clone(s.links)
	s.active = true
	s.mu.Unlock()
	for _, l := range links {
		s.start(ctx, l)
	}
	<-s.turn
	speaks := make(chan struct{})
	go func() {
		defer close(speaks)
		if s.shared.hand != nil {
			_ = s.shared.hand.run(ctx) // returns no error
		}
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case job := <-s.jobs:
			job(ctx)
		}
	}
	close(s.over)
	stop(s.list())
	<-speaks
	s.Close()
	return nil
}

// Close closes the clusters of a set that was never run. Run does it by itself.
func (s *Set) Close() {
	s.mu.Lock()
	clusters := s.clusters
	s.clusters = nil
	s.mu.Unlock()
	for _, c := range clusters {
		c.Close()
	}
}

// start runs a link until it is cancelled, which outlives ctx: see stop.
func (s *Set) start(ctx context.Context, l *running) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		defer cancel()
		err := l.Run(ctx)
		if err == nil && ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended without being told to")
		}
		s.deps.Log.Error("link ended", "link", l.name, "error", err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = fmt.Errorf("link %s ended: %w", l.name, err)
	}()
}

// Ended tells of a link that ended by itself, which none should.
func (s *Set) Ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// list is all links now, by name.
func (s *Set) list() []*running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

// Topology is what the set runs now.
func (s *Set) Topology() *topology.Topology { return s.shared.routing.Load().topo }

// Links is how many links the set has now.
func (s *Set) Links() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.links)
}

// Status returns what every link does now, by name.
func (s *Set) Status() []LinkStatus {
	list := s.list()
	out := make([]LinkStatus, 0, len(list))
	for _, l := range list {
		out = append(out, l.Status())
	}
	return out
}

// Ledger returns the ledger of one link, or of all if link is empty. It returns
// [ErrNoLink] for a link this node does not run.
func (s *Set) Ledger(link string) ([]LedgerEntry, error) {
	var out []LedgerEntry
	found := link == ""
	for _, l := range s.list() {
		if link == "" || l.name == link {
			found = true
			out = append(out, l.Ledger()...)
		}
	}
	if !found {
		return nil, fmt.Errorf("link %q: %w", link, ErrNoLink)
	}
	return out, nil
}

func byName(a, b *running) int { return strings.Compare(a.name, b.name) }

// SetPauses has the set ask for pauses from now on. The caller has [Set.Reconsider] called after it, and after each
// change of the answers.
func (s *Set) SetPauses(f Pauses) { s.shared.pauses.Store(&f) }

// Reconsider looks at once at who owns what and at what is paused. It waits for nothing, and may be called at any time.
func (s *Set) Reconsider() {
	for _, l := range s.list() {
		take := false
		for _, f := range l.flowList() {
			take = l.directAll(f) || take
		}
		if take {
			l.poke()
		}
	}
	if s.shared.hand != nil {
		s.shared.hand.signal() // others may have asked for what has just become theirs
	}
}

// Receive takes what another node sent through its [Peers]. It waits for nothing. What cannot be read is dropped.
func (s *Set) Receive(from string, payload []byte) {
	if s.shared.hand != nil {
		s.shared.hand.receive(from, payload)
	}
}

// cluster is one that a link of the node goes from or to.
func (s *Set) cluster(name string) (*broker.Cluster, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clusters[name]
	if !ok {
		return nil, false
	}
	return c.Cluster, true
}

// pump finds what stands for a partition on this node; nil: nothing.
func (s *Set) pump(id PumpID) *pump {
	for _, l := range s.list() {
		if l.spec.From != id.From || l.spec.To != id.To {
			continue
		}
		if p := l.pump(id.Topic, id.Partition); p != nil && p.id == id {
			return p
		}
	}
	return nil
}

// pump finds what stands for a partition of the source; nil: nothing.
func (l *Link) pump(topic string, partition int32) *pump {
	l.mu.Lock()
	f := l.flows[topic]
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	if pumps := f.pumpList(); partition >= 0 && int(partition) < len(pumps) {
		return pumps[partition]
	}
	return nil
}

const (
	// drainFor bounds the wait of [Set.Drain].
	drainFor = 10 * time.Second
	// unwantedFor is how long a node that drains waits for others to want what is its own by its view.
	unwantedFor = 2 * time.Second
)

// Drain waits until the other nodes have taken over what this one copies, for ten seconds at most, or until ctx ends. The node
// has to have said before that it is draining. What is this node's own all the same, after two seconds, nobody else wants.
func (s *Set) Drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	for began := s.deps.Now(); ; {
		wanted, own := 0, 0
		for _, l := range s.list() {
			for _, f := range l.flowList() {
				for _, p := range f.pumpList() {
					switch works, owner := p.copying(); {
					case works && owner != "":
						wanted++
					case works:
						own++
					}
				}
			}
		}
		if wanted == 0 && (own == 0 || s.deps.Now().Sub(began) > unwantedFor) || sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// HangUp ends all connections of the links to one cluster: the path to it was found dead, and what waits for answers over it would
// do so for long after the path is back.
func (s *Set) HangUp(cluster string) {
	s.mu.Lock()
	c := s.clusters[cluster]
	s.mu.Unlock()
	if c != nil {
		c.HangUp()
	}
}
