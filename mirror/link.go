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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// Config is how a link works. Zero values are replaced by defaults.
type Config struct {
	PumpBytes           int64         // most bytes of one pump between source and target; default 8 MiB
	LinkBytes           int64         // most bytes of fetched frames of one link; default 64 MiB
	FetchBytes          int32         // most bytes of one fetch answer; default 8 MiB
	FetchPartitionBytes int32         // of one partition in it; default 1 MiB
	FetchWait           time.Duration // how long a source broker may wait for records; default 500 ms
	DecodeBytes         int           // most bytes one batch may decompress to; default 128 MiB
	RefreshEvery        time.Duration // metadata of both ends; default 2 s
	CheckpointEvery     time.Duration // default 1 s
	DialTimeout         time.Duration // default 10 s
	Workers             int           // pumps that find their places at a time; default 8
	Rack                string        // of the node: source brokers then name a near replica to read from (KIP-392)
	SeriesPerNode       int           // per-partition metric series; the rest goes to topic "_other"; default 5000
}

func (c Config) withDefaults() Config {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.PumpBytes, 8<<20)
	set(&c.LinkBytes, 64<<20)
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.FetchWait, 500 * time.Millisecond}, {&c.RefreshEvery, 2 * time.Second},
		{&c.CheckpointEvery, time.Second}, {&c.DialTimeout, 10 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 8 << 20
	}
	if c.FetchPartitionBytes == 0 {
		c.FetchPartitionBytes = 1 << 20
	}
	if c.DecodeBytes == 0 {
		c.DecodeBytes = 128 << 20
	}
	if c.Workers == 0 {
		c.Workers = 8
	}
	if c.SeriesPerNode == 0 {
		c.SeriesPerNode = 5000
	}
	return c
}

// Deps are what a link works with. Now and Rand may be nil: the real clock and
// a random seed.
type Deps struct {
	Topology *topology.Topology
	From, To *broker.Cluster
	Log      *slog.Logger
	Metrics  *Metrics
	Writer   string // names this process in durable state: node and a random part
	Now      func() time.Time
	Rand     *rand.Rand
	Memory   *Memory // of the node; nil = the link's own bound only
	shared   *shared // of the set; nil for a link that runs alone
}

// Memory bounds the fetched bytes of all links of a node.
type Memory struct{ budget *budget }

// NewMemory returns a bound of so many bytes for a whole node.
func NewMemory(bytes int64) *Memory { return &Memory{newBudget(bytes, nil)} }

// Used returns the bytes held now.
func (m *Memory) Used() int64 { return m.budget.used() }

// Link mirrors from one cluster to another.
type Link struct {
	name    string
	spec    topology.Link // its name and its ends; what may change while it runs is in terms
	shared  *shared
	from    *broker.Cluster
	to      *broker.Cluster
	cfg     Config
	log     *slog.Logger
	metrics *linkMetrics
	writer  string
	budget  *budget
	agenda  *agenda
	store   *store
	random  *lockedRand
	timing
	live
}

// live is the part of a link that changes while it runs.
type live struct {
	mu       sync.Mutex
	flows    map[string]*flow
	fetchers map[int32]*fetcher
	windows  map[int32]*window
	bothEnds
	troubles     map[troubled]trouble
	expiry       atomic.Int64 // producer.id.expiration.ms of the target, as a time.Duration
	lock         lockState
	leadersUntil atomic.Pointer[time.Time] // no replica is read from until then
	acks
	opened  bool
	retired []*pump // pumps that are gone and have something left to write
	quota   quota
	signals
	vanishing vanishing
}

// bothEnds is what both clusters last said of themselves, and what this link does about what differs.
type bothEnds struct {
	source, target broker.Metadata
	syncer         syncer
	groupsPending  atomic.Pointer[groupsPending] // nil while no groups are kept
}

// signals are what others tell a link.
type signals struct {
	kick     chan struct{} // refresh now
	flush    chan struct{} // write checkpoints now
	clients  atomic.Bool   // with them what is known of routers' clients, all that is new
	stopping atomic.Bool   // no pump starts any more
	audits   *auditQueue   // what is to be read back
	tailless time.Time     // since when nobody tells of tails; under the link's mu
}

// lockState is what was found out about the target.
type lockState struct {
	guarantee Guarantee
	why       string // it is not exactly-once
	can       capabilities
	expiryAt  time.Time // when expiry was last asked for
}

// lockedRand is a random source that goroutines share.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (r *lockedRand) float() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Float64()
}

// NewLink returns the link of that name. It starts nothing.
func NewLink(spec topology.Link, cfg Config, deps Deps) (*Link, error) {
	if deps.Topology == nil || deps.From == nil || deps.To == nil || deps.Log == nil || deps.Writer == "" {
		return nil, errors.New("make a link: topology, both clusters, a log and a writer name are needed")
	}
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rand == nil {
		deps.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics(prometheus.NewRegistry(), cfg.SeriesPerNode)
	}
	l := &Link{
		name: spec.Name, spec: spec, shared: deps.shared, from: deps.From, to: deps.To, cfg: cfg,
		log: deps.Log.With("link", spec.Name), writer: deps.Writer, timing: timing{now: deps.Now},
		agenda: newAgenda(), random: &lockedRand{r: deps.Rand},
	}
	if l.shared == nil {
		l.shared = newShared(deps.Topology, deps.Now)
	}
	var node *budget
	if deps.Memory != nil {
		node = deps.Memory.budget
	}
	l.budget = newBudget(cfg.LinkBytes, node)
	l.store = newStore(l.shared.state(deps.To, deps.Log), spec.From, spec.To)
	l.live = live{flows: make(map[string]*flow), fetchers: make(map[int32]*fetcher), windows: make(map[int32]*window),
		troubles: make(map[troubled]trouble), vanishing: vanishing{said: make(map[string]string)}, lock: lockState{guarantee: GuaranteeUnknown},
		signals: signals{kick: make(chan struct{}, 1), flush: make(chan struct{}, 1), audits: newAuditQueue()}}
	l.expiry.Store(int64(expiryDefault))
	l.metrics = deps.Metrics.link(l)
	return l, nil
}

// Name is the link's name in the topology.
func (l *Link) Name() string { return l.name }

// Run mirrors until ctx ends. Troubles of either cluster are waited out; only a
// fault of our own is returned.
func (l *Link) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.refreshLoop(ctx, g) })
	g.Go(func() error { return l.checkpointLoop(ctx) })
	g.Go(func() error { return l.noteLoop(ctx) })
	g.Go(func() error { return l.auditLoop(ctx) })
	g.Go(func() error { return l.mapLoop(ctx) })
	g.Go(func() error { return l.watchLoop(ctx) })
	g.Go(func() error { return l.pulse.run(ctx, l.now) })
	g.Go(func() error { return l.syncLoop(ctx) })
	g.Go(func() error { return l.groupLoop(ctx) })
	for range l.cfg.Workers {
		g.Go(func() error {
			for {
				p, err := l.agenda.take(ctx)
				if err != nil {
					return nil
				}
				l.look(ctx, p)
			}
		})
	}
	err := g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	l.clients.Store(true)
	if flushErr := l.checkpoint(last); flushErr != nil {
		l.log.Warn("last checkpoint not written", "error", flushErr)
	} else {
		l.lastNotes(last)
	}
	l.store.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// routing is what batches are judged by now. Who judges several that belong together keeps one.
func (l *Link) routing() *routing { return l.shared.routing.Load() }

// terms is the link as the topology has it now, or as it was when it is no longer there.
func (l *Link) terms() topology.Link {
	if now, ok := l.routing().topo.Link(l.name); ok {
		return now
	}
	return l.spec
}

// jitter spreads d over [d/2, 3d/2).
func (l *Link) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(l.random.float()*float64(d))
}

// mayBeForgotten reports whether the target's broker may drop our id although
// we keep writing: it judges by the records' own times, every ten minutes.
func (l *Link) mayBeForgotten(maxTime int64, now time.Time) bool {
	return maxTime < now.Add(-time.Duration(l.expiry.Load())/2).UnixMilli()
}

// fetchBytes is the size of one fetch answer: the fetchers of all source brokers
// wait for answers at the same time, with half of the bytes reserved that their track has for sure, or of the link's if nobody catches up.
func (l *Link) fetchBytes(t track) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := l.cfg.LinkBytes
	for _, f := range l.fetchers {
		if f.on(trackLate).busy.Load() {
			part = l.budget.part(t)
			break
		}
	}
	return int32(min(int64(l.cfg.FetchBytes), max(part/int64(2*max(1, len(l.fetchers))), leastAnswer), l.budget.most(t)))
}

// leastAnswer is the size of a fetch answer where there are many brokers.
const leastAnswer = 256 << 10

func (l *Link) sourceBroker(id int32) (broker.Broker, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return brokerOf(l.source, id, l.spec.From)
}

func (l *Link) targetBroker(id int32) (broker.Broker, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return brokerOf(l.target, id, l.spec.To)
}

func brokerOf(m broker.Metadata, id int32, cluster string) (broker.Broker, error) {
	b, ok := m.Brokers[id]
	if !ok {
		return b, fmt.Errorf("broker %d of %s is not in its metadata", id, cluster)
	}
	return b, nil
}

// poke asks for fresh metadata now.
func (l *Link) poke() {
	nudge(l.kick)
}

func (l *Link) flowList() []*flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*flow, 0, len(l.flows))
	for _, f := range l.flows {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *flow) int { return strings.Compare(a.topic, b.topic) })
	return out
}

func (f *flow) pumpList() []*pump {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pumps)
}

// Ledger returns what this link could not mirror as promised.
func (l *Link) Ledger() []LedgerEntry { return l.store.entries() }
