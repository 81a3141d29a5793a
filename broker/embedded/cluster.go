package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrListen is returned by New when the address cannot be listened on, as when
// another process has the port.
var ErrListen = errors.New("address cannot be listened on")

// reopenInterval is how often a cluster that lost a write looks whether the
// disk has room again.
const reopenInterval = time.Second

// Cluster is one embedded Kafka cluster.
type Cluster struct {
	cfg   Config
	log   *slog.Logger
	guard *guard
	dir   *dataDir // nil in memory
	ln    net.Listener

	tidyEvery time.Duration // tidyInterval; tests do not wait that long

	once   sync.Once
	closed chan struct{}
	runs   sync.Mutex // held while Run runs
}

// New checks cfg, takes the data directory and binds the listener; it starts
// nothing. Clients may connect from then on and are served once Run runs. The
// errors that can be cured from outside are ErrReadOnly, ErrNewerFormat,
// ErrInUse, ErrForeign and ErrListen.
func New(cfg Config, log *slog.Logger) (*Cluster, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure embedded cluster %q: %w", cfg.Name, err)
	}
	cfg = cfg.withDefaults()
	log = log.With("cluster", cfg.Name)
	c := &Cluster{cfg: cfg, log: log, guard: newGuard(cfg, log), tidyEvery: tidyInterval, closed: make(chan struct{})}
	var err error
	if !cfg.InMemory {
		if c.dir, err = openDir(cfg.Dir); err != nil {
			return nil, fmt.Errorf("embedded cluster %s: %w", cfg.Name, err)
		}
	}
	if c.ln, err = cfg.NewListener("tcp", cfg.Listen); err != nil {
		c.release()
		return nil, fmt.Errorf("embedded cluster %s: listen on %s: %w: %w", cfg.Name, cfg.Listen, ErrListen, err)
	}
	return c, nil
}

// Addr is the host:port that clients connect to.
func (c *Cluster) Addr() string { return c.ln.Addr().String() }

// Stats is a snapshot of the counters.
func (c *Cluster) Stats() Stats {
	s := c.guard.count.snapshot()
	s.DiskFreeBytes = -1
	if !c.cfg.InMemory {
		if free, ok := c.guard.storage.freeBytes(); ok {
			s.DiskFreeBytes = free
		}
	}
	return s
}

// Run serves clients until ctx ends or Close is called, then stores what kfake
// keeps in memory and releases the port and the directory. It returns nil then,
// and an error if the data cannot be opened. It may be called once.
func (c *Cluster) Run(ctx context.Context) error {
	c.runs.Lock()
	defer c.runs.Unlock()
	select {
	case <-c.closed:
		return nil
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer c.release()
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer c.ln.Close()
	defer cancel()
	accepting.Go(func() {
		select {
		case <-c.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	accepting.Go(func() { c.guard.acceptLoop(ctx, c.ln) })
	for ctx.Err() == nil {
		if err := c.serve(ctx); err != nil {
			return fmt.Errorf("embedded cluster %s: %w", c.cfg.Name, err)
		}
	}
	return nil
}

// serve runs one kfake until ctx ends or until a lost write was cured, after
// which the caller serves again, from what the disk holds.
func (c *Cluster) serve(ctx context.Context) error {
	if c.dir != nil {
		if err := c.dir.prepare(c.log); err != nil {
			return err
		}
	}
	c.guard.storage.reset()
	gate := newGate(c.ln.Addr(), c.guard.taken)
	kf, err := kfake.NewCluster(c.options(gate)...)
	if err != nil {
		return fmt.Errorf("open %s: %w", c.cfg.Dir, err)
	}
	defer c.stop(kf, gate)
	if c.guard.versions == nil {
		if c.guard.versions, err = askVersions(gate); err != nil {
			return err
		}
	}
	gate.open()
	c.log.Info("embedded cluster serves", "address", c.Addr(), "dir", c.cfg.Dir)
	if c.attend(ctx, kf, gate) {
		c.guard.count.reopened.Add(1)
		c.log.Warn("embedded cluster reopens from disk after a lost write")
	}
	return nil
}

// attend tidies now and then, until ctx ends or until a lost write can be
// cured, which it reports.
func (c *Cluster) attend(ctx context.Context, kf *kfake.Cluster, gate *gate) (cured bool) {
	tick := time.NewTicker(c.tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-c.guard.storage.failures:
			return c.awaitRoom(ctx)
		case <-tick.C:
			if err := c.tidy(kf, gate); err != nil {
				c.log.Warn("embedded cluster cannot compact its topics", "error", err)
			}
		}
	}
}

// options are what kfake is told.
func (c *Cluster) options(gate *gate) []kfake.Opt {
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID(c.cfg.Name),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return gate, nil }),
		kfake.WithLogger(&kfakeLog{log: c.log, storage: &c.guard.storage, count: &c.guard.count}),
		kfake.BrokerConfigs(c.cfg.BrokerConfigs),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": never}),
	}
	for _, t := range c.cfg.Topics {
		opts = append(opts, kfake.SeedTopics(t.Partitions, t.Name))
	}
	if !c.cfg.InMemory {
		opts = append(opts, kfake.DataDir(c.cfg.Dir))
	}
	if c.cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	return opts
}

// awaitRoom waits until the disk is above the low-water mark again.
func (c *Cluster) awaitRoom(ctx context.Context) bool {
	for {
		if !pause(ctx, reopenInterval) {
			return false
		}
		if free, ok := c.guard.storage.freeBytes(); ok && free >= c.cfg.MinFreeBytes {
			return true
		}
	}
}

// stop ends clients first, so that nothing is acknowledged after kfake stored
// its state.
func (c *Cluster) stop(kf *kfake.Cluster, gate *gate) {
	gate.Close()
	c.guard.closeConns()
	var windowsBefore []byte
	if c.dir != nil {
		windowsBefore, _ = os.ReadFile(c.dir.file(windowsFile)) // none is nil
	}
	kf.Close()
	c.settle(windowsBefore)
}

// settle marks an orderly stop. After a lost write the stop is not one: kfake
// then stored sequence numbers of batches that the disk did not take.
func (c *Cluster) settle(windowsBefore []byte) {
	if c.dir == nil {
		return
	}
	var err error
	switch {
	case !c.guard.storage.failed.Load():
		err = writeFileSync(c.dir.file(cleanFile), nil)
	case windowsBefore == nil:
		err = os.RemoveAll(c.dir.file(windowsFile))
	default:
		err = writeFileSync(c.dir.file(windowsFile), windowsBefore)
	}
	if err != nil {
		c.log.Warn("embedded cluster cannot store how it stopped", "error", err)
	}
}

// Close ends Run and waits for it, or releases what New took if Run never ran.
func (c *Cluster) Close() {
	c.once.Do(func() { close(c.closed) })
	c.runs.Lock()
	defer c.runs.Unlock()
	c.release()
}

// release gives up the port and the directory; more than once is fine.
func (c *Cluster) release() {
	if c.ln != nil {
		c.ln.Close()
	}
	if c.dir != nil {
		c.dir.close()
	}
}
