package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// config is what the node runs: its topology file, and over it what was set while the fabric runs.
type config struct {
	source   topology.Source
	fileHash uint64
	level    *slog.LevelVar
	usual    slog.Level // where no setting names one
	looked   time.Time  // when pauses were last looked at; of configure
	changed  func()     // what runs is known, or is something else
	now      atomic.Pointer[configured]
}

// configured is the configuration by some state of the settings.
type configured struct {
	settings uint64 // the hash of those that the links are by
	read     uint64 // and of those that pauses and drains are by
	topo     *topology.Topology
	hash     uint64
	pauses   topology.Pauses
	drains   map[string]bool
	troubles map[string]string // why a setting does not count, by key
}

func newConfig(cfg Config) *config {
	c := &config{source: cfg.Source, fileHash: hashOf(cfg.Source.Text), level: cfg.Level}
	if c.level == nil {
		c.level = new(slog.LevelVar)
	}
	c.usual = c.level.Level()
	c.now.Store(&configured{topo: cfg.Topology, hash: cfg.Topology.RunningHash()})
	return c
}

// running is the topology that runs. It may be ahead of the links for a moment.
func (c *config) running() *topology.Topology { return c.now.Load().topo }

// hash is equal on nodes that run the same.
func (c *config) hash() uint64 { return c.now.Load().hash }

// draining tells whether somebody set that a node gives its work away.
func (c *config) draining(node string) bool { return c.now.Load().drains[node] }

// troubles tells why settings do not count here, by key.
func (c *config) troubles() map[string]string { return c.now.Load().troubles }

// paused tells whether somebody paused a partition, and who and why.
func (c *config) paused(settings *gossip.Settings, link, topic string, partition int32, now time.Time) (why string, paused bool) {
	p, ok := c.now.Load().pauses.Find(link, topic, partition, now)
	if !ok {
		return "", false
	}
	v, _ := settings.Get(p.Key())
	why = "by " + cmp.Or(v.Author, "somebody")
	if v.Reason != "" {
		why += ": " + v.Reason
	}
	if !p.Until.IsZero() {
		why += ", until " + p.Until.UTC().Format(time.RFC3339)
	}
	return why, true
}

// settingsOf are the settings as topology knows them.
func settingsOf(all []gossip.Value) []topology.Setting {
	out := make([]topology.Setting, 0, len(all))
	for _, v := range all {
		out = append(out, topology.Setting{Key: v.Key, Value: v.Value, Deleted: v.Deleted})
	}
	return out
}

// byAge are settings in the order in which they were written.
func byAge(all []gossip.Value) []gossip.Value {
	return slices.SortedFunc(slices.Values(all), func(a, b gossip.Value) int {
		return cmp.Or(a.Version.Compare(b.Version), cmp.Compare(a.Key, b.Key))
	})
}

// work lays settings over the file. Settings that cannot be, one by one or together, are left out and named: what two halves of a
// split fabric set need not fit together, and a fabric that stops for it would be worse.
func (c *config) work(all []gossip.Value, hash uint64) *configured {
	settings := settingsOf(byAge(all))
	next := &configured{settings: hash, read: hash, drains: topology.Drained(settings), troubles: make(map[string]string)}
	topo, left, err := c.source.Running(settings)
	if topo == nil { // the file alone is at fault, and it was right when the node started
		topo = c.running()
	}
	next.topo, next.hash = topo, topo.RunningHash()
	why := func(err error, keys ...string) {
		var faults topology.Errors
		_ = errors.As(err, &faults)
		for _, key := range keys {
			next.troubles[key] = fmt.Sprintf("it does not fit the others: %v", err)
		}
		for _, f := range faults {
			if f.Setting != "" {
				next.troubles[f.Setting] = f.Msg
			}
		}
	}
	why(err, left...)
	next.pauses, err = topology.NewPauses(settings)
	why(err)
	return next
}

// configure follows the settings until ctx ends: links, pauses and the log level.
func (f *fabric) configure(ctx context.Context) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for said := ""; ; {
		changed := f.settings.Changed()
		if err := f.reconfigure(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			f.log.Error("settings cannot be followed, tried again", "error", err)
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C: // a pause may have ended, or what failed may go now
		}
	}
}

// reconfigure makes the links what the settings say.
func (f *fabric) reconfigure(ctx context.Context) error {
	c := f.config
	before, hash, now := c.now.Load(), f.settings.Hash(), time.Now()
	ends := before.pauses.Next(c.looked) // the first that had not ended then
	c.looked = now
	if before.settings == hash && (ends.IsZero() || ends.After(now)) {
		return nil
	}
	next := before
	if before.settings != hash {
		all := f.settings.All()
		next = c.work(all, hash)
		level, ok := topology.LogLevel(settingsOf(all))
		if !ok {
			level = c.usual
		}
		c.level.Set(level)
	}
	if next.hash != before.hash {
		// What is paused and who gives work away counts before a new link begins, and also where the links cannot be changed.
		first := *next
		first.settings, first.topo, first.hash = before.settings, before.topo, before.hash
		c.now.Store(&first)
		f.lookAtStores(next.topo)
		f.set.Reconsider()
		if err := errors.Join(f.set.Apply(ctx, next.topo), f.controls.follow(ctx, next.topo)); err != nil {
			return fmt.Errorf("change the links: %w", err)
		}
		f.log.Info("configuration changed", "links", len(next.topo.Links), "config", inHex(next.hash))
	}
	c.now.Store(next)
	c.changed()
	f.lookAtStores(next.topo)
	f.set.Reconsider()
	f.pool.Tell(f.report())
	return nil
}
