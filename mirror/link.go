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
	Workers             int           // pumps that find their places at a time; default 4
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
		c.Workers = 4
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
	spec    topology.Link
	topo    *topology.Topology
	from    *broker.Cluster
	to      *broker.Cluster
	cfg     Config
	log     *slog.Logger
	metrics *linkMetrics
	writer  string
	now     func() time.Time
	budget  *budget
	agenda  *agenda
	store   *store
	random  *lockedRand
	live
}

// live is the part of a link that changes while it runs.
type live struct {
	mu       sync.Mutex
	flows    map[string]*flow
	fetchers map[int32]*fetcher
	windows  map[int32]*window
	source   broker.Metadata
	target   broker.Metadata
	troubles map[string]trouble // by cluster name
	expiry   time.Duration      // producer.id.expiration.ms of the target
	opened   bool
	kick     chan struct{}
	ids      map[string]int64 // producer id per origin; built once
	origins  map[int64]string // the reverse; built once
}

type trouble struct {
	what  string
	since time.Time
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
		name: spec.Name, spec: spec, topo: deps.Topology, from: deps.From, to: deps.To, cfg: cfg,
		log: deps.Log.With("link", spec.Name), writer: deps.Writer, now: deps.Now,
		agenda: newAgenda(), random: &lockedRand{r: deps.Rand},
	}
	var node *budget
	if deps.Memory != nil {
		node = deps.Memory.budget
	}
	l.budget = newBudget(cfg.LinkBytes, node)
	l.store = newStore(deps.To, spec.From, spec.To, l.log)
	l.live = live{flows: make(map[string]*flow), fetchers: make(map[int32]*fetcher), windows: make(map[int32]*window),
		troubles: make(map[string]trouble), kick: make(chan struct{}, 1), expiry: 24 * time.Hour,
		ids: make(map[string]int64), origins: make(map[int64]string)}
	for _, c := range deps.Topology.Clusters {
		id := deps.Topology.MirrorID(c.Name, spec.From)
		l.ids[c.Name], l.origins[id] = id, c.Name
	}
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
	if flushErr := l.checkpoint(last); flushErr != nil {
		l.log.Warn("last checkpoint not written", "error", flushErr)
	}
	l.store.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// carries reports whether this link copies batches of the origin.
func (l *Link) carries(origin, topic string) bool { return l.topo.Carries(l.spec, origin, topic) }

func (l *Link) producerID(origin string) int64 { return l.ids[origin] }

// wroteThis reports whether a batch on the target is this link's, and its origin.
func (l *Link) wroteThis(producerID int64) (origin string, ok bool) {
	origin, ok = l.origins[producerID]
	return origin, ok
}

// jitter spreads d over [d/2, 3d/2).
func (l *Link) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(l.random.float()*float64(d))
}

// mayBeForgotten reports whether the target's broker may drop our id although
// we keep writing: it judges by the records' own times, every ten minutes.
func (l *Link) mayBeForgotten(maxTime int64, now time.Time) bool {
	return maxTime < now.Add(-l.expiry/2).UnixMilli()
}

// fetchBytes is the size of one fetch answer: the fetchers of all source brokers
// wait for answers at the same time, with half of the link's bytes reserved.
func (l *Link) fetchBytes() int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	share := l.cfg.LinkBytes / int64(2*max(1, len(l.fetchers)))
	return int32(min(int64(l.cfg.FetchBytes), max(share, 1<<20)))
}

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

// trouble notes that a cluster could not be reached; the log hears of changes only.
func (l *Link) trouble(cluster string, err error) {
	l.mu.Lock()
	t, known := l.troubles[cluster]
	if !known {
		t.since = l.now()
	}
	changed := t.what != err.Error()
	t.what = err.Error()
	l.troubles[cluster] = t
	l.mu.Unlock()
	l.metrics.failed(nil, err)
	l.poke()
	if !known {
		l.log.Warn("cluster trouble", "cluster", cluster, "error", err)
	} else if changed {
		l.log.Debug("cluster trouble", "cluster", cluster, "error", err)
	}
}

// reached notes that a cluster answered.
func (l *Link) reached(cluster string) {
	l.mu.Lock()
	t, known := l.troubles[cluster]
	delete(l.troubles, cluster)
	l.mu.Unlock()
	if known {
		l.log.Info("cluster answers again", "cluster", cluster, "after", l.now().Sub(t.since).Round(time.Millisecond).String())
	}
}

func (l *Link) health() (up bool, what string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said []string
	for cluster, t := range l.troubles {
		said = append(said, cluster+": "+t.what)
		if since.IsZero() || t.since.Before(since) {
			since = t.since
		}
	}
	slices.Sort(said)
	return len(said) == 0, strings.Join(said, "; "), since
}

// poke asks for fresh metadata now.
func (l *Link) poke() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
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
