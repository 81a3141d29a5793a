package embedded

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Reason says why a frame, and with it its connection, was rejected.
type Reason string

// The reasons of Stats.Rejected.
const (
	ReasonSize       Reason = "size"        // length below a header or above the bound
	ReasonTLS        Reason = "tls"         // a TLS hello on this plain port
	ReasonHTTP       Reason = "http"        // an HTTP request on this port
	ReasonHeader     Reason = "header"      // header cut short or client id out of its frame
	ReasonUnknownKey Reason = "unknown_key" // request key that the cluster does not serve
	ReasonVersion    Reason = "version"     // version outside of the advertised range
	ReasonBody       Reason = "body"        // body that is not what key and version say
	ReasonTimeout    Reason = "timeout"     // frame not finished in Config.FrameTimeout
	ReasonMemory     Reason = "memory"      // no room below Config.MaxBufferedBytes in time
	ReasonDisk       Reason = "disk"        // must be stored, low disk, and has no error to answer with
)

// Stats is a snapshot of an embedded cluster's counters. Counters count since
// New; the rest is as of now.
type Stats struct {
	Connections        int64             // open now
	Accepted           uint64            // connections taken
	RefusedConnections uint64            // connections above Config.MaxConnections
	Requests           uint64            // frames handed to kfake
	Rejected           map[Reason]uint64 // connections closed for a bad frame
	RefusedBatches     uint64            // Produce requests with a batch that is not what its header says
	RefusedForDisk     uint64            // requests refused by the low-water guard
	DiskFreeBytes      int64             // on the disk of Dir; -1 in memory or if unknown
	PersistErrors      uint64            // writes that the disk did not take
	Reopened           uint64            // times the cluster was reopened after such writes
}

type counters struct {
	connections   atomic.Int64
	accepted      atomic.Uint64
	refused       atomic.Uint64
	requests      atomic.Uint64
	badBatches    atomic.Uint64
	diskRefusals  atomic.Uint64
	persistErrors atomic.Uint64
	reopened      atomic.Uint64

	mu       sync.Mutex
	rejected map[Reason]uint64
}

func (c *counters) reject(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rejected == nil {
		c.rejected = make(map[Reason]uint64)
	}
	c.rejected[r]++
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	rejected := maps.Clone(c.rejected)
	c.mu.Unlock()
	return Stats{
		Connections:        c.connections.Load(),
		Accepted:           c.accepted.Load(),
		RefusedConnections: c.refused.Load(),
		Requests:           c.requests.Load(),
		Rejected:           rejected,
		RefusedBatches:     c.badBatches.Load(),
		RefusedForDisk:     c.diskRefusals.Load(),
		PersistErrors:      c.persistErrors.Load(),
		Reopened:           c.reopened.Load(),
	}
}
