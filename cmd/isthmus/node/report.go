package node

import (
	"errors"
	"hash/fnv"
	"math/bits"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// heavyTold is how many of its heaviest pumps a node tells of.
const heavyTold = 64

// report is what this node says about itself.
func (f *fabric) report() gossip.Report {
	r := gossip.Report{
		DC: f.cfg.Self.DC, Version: f.cfg.Build.Version, GRPC: f.api.grpc, HTTP: f.api.http, Capacity: f.cfg.Self.Capacity,
		Ready: f.ready(), Draining: f.stopping.Load() || f.config.draining(f.cfg.Self.Name),
		FileHash: f.config.fileHash, ConfigHash: f.config.hash(), Reach: f.controls.reach(),
	}
	bytes, heaviest := f.set.Loads(heavyTold)
	r.Bytes = rounded(bytes)
	for _, l := range heaviest {
		r.Heavy = append(r.Heavy, gossip.Load{Pump: workOf(l.Pump).Hash(), Bytes: rounded(l.Bytes), Lagging: l.Lagging})
	}
	return r
}

// ready tells whether the node takes work: some time after its start, and later if it keeps dying. Where no other node is ready, all
// of them begin at once: there is nothing that a node which comes and goes could disturb. Who began first the clocks say, and may be
// wrong; so a node that died lately waits for every other one.
func (f *fabric) ready() bool {
	if !f.known.Load() || f.stopping.Load() || errors.Is(f.pool.Trouble(), gossip.ErrNameTaken) {
		return false
	}
	crashes := f.pool.Crashes(f.cfg.Self.Name)
	alone := !slices.ContainsFunc(f.pool.View().Members, func(m gossip.Member) bool {
		return m.Name != f.cfg.Self.Name && m.Status == gossip.Alive && m.Report.Ready &&
			(crashes > 0 || time.UnixMilli(m.Report.Started).Before(f.started))
	})
	return alone || time.Since(f.started) >= gossip.Settle(crashes)
}

// rounded keeps three bits of a load, so that it is news only when it changed by an eighth or more.
func rounded(bytes float64) float64 {
	n := uint64(max(0, bytes))
	if drop := bits.Len64(n) - 3; drop > 0 {
		n = n >> drop << drop
	}
	return float64(n)
}

// hashOf is a short name for a text: equal texts have equal names.
func hashOf(text []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(text) // a hash never fails
	return h.Sum64()
}
