package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/checker"
)

// How the producers work.
const (
	tick         = 50 * time.Millisecond  // between bursts of a producer
	linger       = 200 * time.Millisecond // so that a batch holds more than a few records
	drainTimeout = 20 * time.Second       // for acknowledgements after the producers were told to stop
	abortEvery   = 6                      // transactions
	retryAfter   = 500 * time.Millisecond // a transaction that failed
	maxRecords   = 4_000_000              // of all producers; the judge keeps some 200 bytes of each
)

// Config is how much the producers write. Zero values are replaced by defaults.
type Config struct {
	Rate     float64       // records a second at each cluster; default 1600
	FullFor  time.Duration // after so long they slow down, so that a demo can be left running; default 2 minutes
	SlowRate float64       // records a second at each cluster from then on; default 50
}

func (c Config) withDefaults() Config {
	if c.Rate == 0 {
		c.Rate = 1600
	}
	if c.FullFor == 0 {
		c.FullFor = 2 * time.Minute
	}
	if c.SlowRate == 0 {
		c.SlowRate = min(50, c.Rate)
	}
	return c
}

// due is how many records a cluster's producers should have sent by then.
func (c Config) due(after time.Duration) float64 {
	return c.Rate*min(after, c.FullFor).Seconds() + c.SlowRate*max(0, after-c.FullFor).Seconds()
}

// Demo writes to the clusters and judges them.
type Demo struct {
	clusters []*broker.Cluster
	cfg      Config
	log      *slog.Logger
	journal  *Journal
}

// New makes a demo of clusters that mirror each other. It starts nothing.
func New(clusters []*broker.Cluster, cfg Config, log *slog.Logger) *Demo {
	run := fmt.Sprintf("%x", time.Now().UnixMilli())
	return &Demo{clusters: clusters, cfg: cfg.withDefaults(), log: log, journal: newJournal(run)}
}

// Counts returns what was produced so far.
func (d *Demo) Counts() Counts { return d.journal.Counts() }

// Prepare creates the topics at each cluster, and waits until they are there.
func (d *Demo) Prepare(ctx context.Context) error {
	var g errgroup.Group
	for _, c := range d.clusters {
		g.Go(func() error {
			for _, topic := range topics {
				if err := create(ctx, c, topic); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// create tries until ctx ends: clusters that were just started may not answer yet.
func create(ctx context.Context, c *broker.Cluster, topic string) error {
	for {
		err := c.CreateTopic(ctx, topic, partitions, 1, nil)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("create topic %s at %s: %w", topic, c.Name(), err)
		case <-time.After(retryAfter):
		}
	}
}

// flow is one producer: its share of the cluster's rate, and how it writes.
type flow struct {
	topic       string
	compression string
	share       float64
	run         func(*Demo, context.Context, *broker.Cluster, flow) error
}

var flows = []flow{
	{orders, "lz4", 0.35, (*Demo).stream},
	{payments, "zstd", 0.30, (*Demo).stream},
	{audit, "snappy", 0.07, (*Demo).stream},
	{audit, "gzip", 0.07, (*Demo).stream},
	{audit, "none", 0.06, (*Demo).stream},
	{transfers, "snappy", 0.15, (*Demo).transact},
}

// Produce writes at every cluster until ctx ends, and returns when the fate of every record is known or drainTimeout has
// passed. Trouble of a cluster is logged and waited out.
func (d *Demo) Produce(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range d.clusters {
		for _, f := range flows {
			g.Go(func() error { return f.run(d, ctx, c, f) })
		}
	}
	return g.Wait()
}

// pace calls burst every tick with the number of records that are due, until ctx ends or burst fails.
func (d *Demo) pace(ctx context.Context, share float64, burst func(n int) error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begun, sent := time.Now(), 0.0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if c := d.Counts(); c.Acked+c.Aborted+c.InDoubt > maxRecords {
			continue // enough for the judge; everything else goes on
		}
		due := d.cfg.due(time.Since(begun)) * share
		sent = max(sent, due-d.cfg.Rate*share) // a debt of more than a second is forgiven
		n := int(due - sent)
		if n == 0 {
			continue
		}
		if err := burst(n); err != nil {
			return err
		}
		sent += float64(n)
	}
}

// patience is a context that outlives ctx by drainTimeout: what was begun may end.
func patience(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })
	return longer, func() { stop(); cancel() }
}

// stream writes records one after the other, many in flight.
func (d *Demo) stream(ctx context.Context, c *broker.Cluster, f flow) error {
	p, err := c.Producer(broker.ProducerOptions{Compression: f.compression, Linger: linger})
	if err != nil {
		return err
	}
	defer p.Close() // tells the fate of what is left: in doubt
	s := stream{c.Name(), f.topic}
	longer, cancel := patience(ctx)
	defer cancel()
	err = d.pace(ctx, f.share, func(n int) error {
		for range n {
			number := d.journal.next(s)
			p.ProduceAsync(longer, record(s, d.journal.uid(s, number), number), func(r broker.Record, err error) {
				if err != nil {
					d.journal.ended(s, checker.InDoubt, number)
					return
				}
				d.journal.placed(s, number, r.Partition, r.Offset)
				d.journal.ended(s, checker.Acked, number)
			})
		}
		return nil
	})
	if flushErr := p.Flush(longer); flushErr != nil {
		d.log.Warn("records without an answer", "cluster", c.Name(), "topic", f.topic, "error", flushErr)
	}
	return err
}

// transact writes transactions, and aborts some.
func (d *Demo) transact(ctx context.Context, c *broker.Cluster, f flow) error {
	s := stream{c.Name(), f.topic}
	longer, cancel := patience(ctx)
	defer cancel()
	var p *broker.Producer
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	count, pending := 0, 0
	return d.pace(ctx, f.share, func(n int) error {
		size := 10 + count*7%30
		if pending += n; pending < size {
			return nil
		}
		pending -= size
		if p == nil {
			var err error
			p, err = c.Producer(broker.ProducerOptions{Compression: f.compression, TransactionalID: "demo-" + c.Name(), Linger: linger / 10})
			if err != nil {
				return err
			}
		}
		count++
		if err := d.transaction(longer, p, s, size, count%abortEvery == 0); err != nil {
			d.log.Warn("transaction failed", "cluster", c.Name(), "error", err)
			p.Close() // the next producer of this id ends what is open
			p = nil
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
		return nil
	})
}

// transaction writes one. Its records are acknowledged with the commit.
func (d *Demo) transaction(ctx context.Context, p *broker.Producer, s stream, size int, abort bool) error {
	if err := p.Begin(); err != nil {
		return err
	}
	numbers := make([]int, 0, size)
	var mu sync.Mutex
	var failed error
	for range size {
		number := d.journal.next(s)
		numbers = append(numbers, number)
		p.ProduceAsync(ctx, record(s, d.journal.uid(s, number), number), func(r broker.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				return
			}
			d.journal.placed(s, number, r.Partition, r.Offset)
		})
	}
	err := p.Flush(ctx) // also before an abort: what is aborted has to be in the log, or nobody is tested
	mu.Lock()
	err = errors.Join(err, failed)
	mu.Unlock()
	outcome := checker.Acked
	if abort || err != nil {
		outcome = checker.Aborted
		err = errors.Join(err, p.Abort(ctx))
	} else {
		err = p.Commit(ctx)
	}
	if err != nil {
		outcome = checker.InDoubt
	}
	d.journal.ended(s, outcome, numbers...)
	return err
}
