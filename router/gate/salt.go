package gate

import (
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/topology"
)

// Salts is how many there are: 9 bits of an id, the lowest (topology/producerid.go).
const Salts = 1 << 9

// ErrID says that a producer id is not one that a router of this fabric gave.
var ErrID = errors.New("no producer id of a router")

// Salt is that of a generation, from 0 on. In generation 0 ids are as clients have them.
func Salt(generation int64) int64 { return generation & (Salts - 1) }

// Salted is the id under which the home of a generation sees a client's producer. An id that is no router client's, or has a salt, is ErrID: its
// batches must not be forwarded, because they may collide with another's.
func Salted(t *topology.Topology, id, generation int64) (int64, error) {
	client, salt, err := Unsalted(t, id)
	if err == nil && salt != 0 {
		err = fmt.Errorf("producer id %d has salt %d already: %w", id, salt, ErrID)
	}
	if err != nil {
		return 0, err
	}
	return client | Salt(generation), nil
}

// Unsalted is the client's id and the salt of one that a home has seen. An id that is no router client's is ErrID.
func Unsalted(t *topology.Topology, id int64) (client, salt int64, err error) {
	if kind := t.Provenance(id).Kind; kind != topology.RouterClient {
		return 0, 0, fmt.Errorf("producer id %d is of kind %s: %w", id, kind, ErrID)
	}
	return id &^ (Salts - 1), id & (Salts - 1), nil
}
