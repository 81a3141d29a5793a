package gossip

import (
	"context"
	"time"
)

// Status is what a node knows of another one's membership. It says nothing about clusters: see [Report.Reach].
type Status string

// What a member is.
const (
	Alive Status = "alive"
	Left  Status = "left" // it said that it goes
	Dead  Status = "dead" // it stopped answering
)

// Member is one node of the fabric, as this node knows it.
type Member struct {
	Name    string
	Address string // of its gossip, host:port
	Status  Status
	Since   time.Time // of the status, by this node's clock
	Report  Report    // the last one that was heard; the zero value before the first
}

// Report is what a node says about itself. The one with the higher (Started, Seq) is the newer.
type Report struct {
	Started int64  // when the process began, ms since 1970: tells two lives of one name apart
	Seq     uint64 // counts the reports of a life, from 1

	DC, Version string
	GRPC, HTTP  string // addresses of its admin API
	// Capacity is how much work it takes in proportion to the others; 1 is usual.
	Capacity float64
	// Ready: it takes work. Draining: it gives its work away, and takes none.
	Ready, Draining bool
	// FileHash is equal on nodes with the same topology file, ConfigHash on those that run the same configuration.
	FileHash, ConfigHash uint64
	// Reach is what the node measured of each cluster it needs, by name.
	Reach map[string]Reach
	// Bytes is its whole mirrored load in bytes/s, Heavy its heaviest pumps.
	Bytes float64
	Heavy []Load
}

// Reach is what a node measured of one cluster. The flags have the hysteresis of the node that says them, so that all others
// can act on them at once and alike.
type Reach struct {
	Reads, Writes bool          // what a link needs of its source, and of its target
	RTT           time.Duration // of a small request; in classes, so that it does not change all the time
	Trouble       string        // why not; at most 100 bytes
}

// Load is what one pump costs its owner.
type Load struct {
	Pump  uint64  // [PumpHash]
	Bytes float64 // per second, rounded so that it does not change all the time
	// Lagging: it falls behind although both ends answer.
	Lagging bool
}

// View is the fabric as this node knows it at one moment. It is immutable, and not copied: it remembers what was asked.
type View struct {
	Self    string
	Members []Member // by name; includes this node
	Pins    []Pin

	cache viewCache
}

// Pin takes one pump away from where its hash would put it, because of the load.
type Pin struct {
	Pump uint64
	Node string
}

// Member returns a member by name.
func (v *View) Member(name string) (Member, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// Store keeps settings where they outlive all nodes. Gossip declares it, and what knows Kafka implements it. An
// implementation is of one cluster; a fabric has one for each cluster that this node reaches.
type Store interface {
	// Name of the cluster, for people.
	Name() string
	// Load returns all changes that the store holds. Entries that cannot be read are in the error, the others are returned all the same.
	Load(ctx context.Context) ([]Change, error)
	// Save adds changes; those that are there already may be there twice.
	Save(ctx context.Context, changes ...Change) error
	// Drop takes changes away that mean nothing any more; those that are not there are no error.
	Drop(ctx context.Context, versions ...Time) error
}
