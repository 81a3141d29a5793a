package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-project/isthmus/router/journal"
)

// Version is that of the newest claims that are written here: slots for brokers of a home that is not the first. A reader reads older ones too.
const Version = 3

// Versions of other claims, so that who knows no moves, or no sets, goes on reading them until there is one.
const (
	setVersion  = 2
	restVersion = 1
)

// MaxClaimBytes is the longest claim that is read.
const MaxClaimBytes = 4 << 10

// Errors of claims that are read.
var (
	// ErrVersion says that a claim is of a newer Isthmus, whose rules are not known here: who goes on without it may tell clients something else.
	ErrVersion = journal.ErrVersion
	// ErrForeign says that a record is no claim, or not the one its key names. It does not count for anybody.
	ErrForeign = errors.New("no claim of a router")
)

// The kinds of claims.
const (
	// KindCluster claims the id of the virtual cluster.
	KindCluster = "cluster"
	// KindSlot claims a slot and a virtual broker id for a broker of the home.
	KindSlot = "slot"
	// KindProducers claims a block of producer ids for one instance.
	KindProducers = "producers"
)

// Claim says what somebody wants to be so. It is stored as JSON, so that people can read it:
//
//	key    shop/slot/8c2f…
//	value  {"v":1,"router":"shop","kind":"slot","proposal":"8c2f…","by":"eu-1","slot":2,"id":3,"node":3}
type Claim struct {
	V        int    `json:"v"`
	Router   string `json:"router"`
	Kind     string `json:"kind"`
	Proposal string `json:"proposal"` // unique
	By       string `json:"by"`       // the node, for people
	// Cluster is the id of KindCluster.
	Cluster string `json:"cluster,omitempty"`
	// Set, empty for what no set names, Slot, from 0 on, ID, which clients know, and Node, the broker at the set's home, are those of KindSlot.
	Set  string `json:"set,omitempty"`
	Slot int    `json:"slot"`
	ID   int32  `json:"id"`
	Node int32  `json:"node"`
	// Generation, of KindSlot, is that of the set's home whose broker Node is; 0 is the first.
	Generation int64 `json:"generation,omitempty"`
	// Block, from 1 on, is that of KindProducers.
	Block int64 `json:"block,omitempty"`
}

// Key is the record's.
func (c Claim) Key() string { return c.Router + "/" + c.Kind + "/" + c.Proposal }

// Encode is the record's value.
func (c Claim) Encode() ([]byte, error) {
	switch {
	case c.Generation > 0:
		c.V = Version
	case c.Set != "":
		c.V = setVersion
	default:
		c.V = restVersion
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode claim %s: %w", c.Key(), err)
	}
	return b, nil
}

// Decode reads a record of a router. Records of other routers are passed over: mine is false. A version that is not known is an error whatever the
// kind, one of ErrVersion; what is no claim at all is ErrForeign.
func Decode(router string, key, value []byte) (c Claim, mine bool, err error) {
	if !strings.HasPrefix(string(key), router+"/") {
		return Claim{}, false, nil
	}
	if len(value) > MaxClaimBytes {
		return Claim{}, true, fmt.Errorf("key %.100q: %d bytes: %w", key, len(value), ErrForeign)
	}
	v, err := journal.Version(key, value, Version)
	switch {
	case errors.Is(err, ErrVersion):
		return Claim{}, true, err
	case err != nil || v < 1:
		return Claim{}, true, fmt.Errorf("key %.100q: %w", key, ErrForeign)
	}
	if err := json.Unmarshal(value, &c); err != nil || c.Key() != string(key) || c.Proposal == "" {
		return Claim{}, true, fmt.Errorf("key %.100q: %w", key, ErrForeign)
	}
	return c, true, nil
}
