package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is one Kafka cluster. Its methods may be called by any goroutine.
type Cluster struct {
	profile Profile
	log     *slog.Logger
	client  *kgo.Client
	admin   *kadm.Client
	pool    framePool
	spare   spareReaders
	pace    pace

	coordinators coordinators
}

// Open makes a cluster of a profile. Nothing is dialled: a cluster that cannot be reached says so in its first answer. The
// errors are those of a profile that cannot work. log may be nil.
func Open(p Profile, log *slog.Logger) (*Cluster, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("cluster", p.Name)
	p = p.ready(log)
	client, err := kgo.NewClient(clientOptions(p, log)...)
	if err != nil {
		return nil, fmt.Errorf("open cluster %q: %w", p.Name, err)
	}
	return &Cluster{
		profile: p, log: log, client: client, admin: kadm.NewClient(client),
		spare: spareReaders{idle: map[int32][]*FetchSession{}, leaders: map[string]spareTopic{}},
	}, nil
}

// clientOptions are those of every kgo client of a cluster.
func clientOptions(p Profile, log *slog.Logger) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(p.Bootstrap...),
		kgo.ClientID(p.clientID()),
		kgo.Dialer(p.dialChecked),
		kgo.BrokerMaxReadBytes(MaxFrameBytes),
		kgo.MetadataMinAge(250 * time.Millisecond), // new topics and leaders are found within that
		kgo.RequestRetries(5),                      // then the caller hears of it, and retries by its own rule
		kgo.RetryTimeout(20 * time.Second),
		kgo.WithLogger(clientLog{log}),
		kgo.DisableClientMetrics(),
	}
	if p.SASL != nil {
		opts = append(opts, kgo.SASL(p.SASL))
	}
	return opts
}

// Name is the cluster's name in the topology.
func (c *Cluster) Name() string { return c.profile.Name }

// ClientID is what the brokers see us as, beside the principal of our login.
func (c *Cluster) ClientID() string { return c.profile.clientID() }

// Close ends the cluster's own connections. Sessions, connections and producers made from it have their own Close.
func (c *Cluster) Close() {
	c.spare.close()
	c.client.Close()
}

// dialWire opens a connection of our own to b.
func (c *Cluster) dialWire(ctx context.Context, b Broker) (*wire, error) {
	if c.spare.closed() {
		return nil, fmt.Errorf("connect to broker %d of %s: %w", b.ID, c.profile.Name, ErrClosed)
	}
	return dialWire(ctx, c.profile, b)
}

// clientLog passes kgo's log on for those who debug; what matters of it is in the errors.
type clientLog struct{ log *slog.Logger }

// Level is the level from which kgo speaks.
func (l clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log writes one line.
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("kafka client: "+msg, keyvals...)
}

// spareReaders are the idle connections of FetchOnce, and the leaders it knows.
type spareReaders struct {
	mu      sync.Mutex // never held across I/O
	shut    bool
	idle    map[int32][]*FetchSession // by broker
	leaders map[string]spareTopic     // by topic
}

func (s *spareReaders) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut
}

func (s *spareReaders) close() {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.shut = nil, true
	s.mu.Unlock()
	for _, sessions := range idle {
		for _, r := range sessions {
			_ = r.Close()
		}
	}
}
