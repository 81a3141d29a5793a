// Package arrival knows what an instance must know of a home that was decided on.
package arrival

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// Runs tells where the mirror put records.
type Runs interface {
	// Runs is what of the log of cluster from is at cluster at, for a partition of a topic (its name is the same at both): all that was copied and made durable until the call, by the
	// link from → at, and, turned round, by the link at → from. No link either way is an error.
	Runs(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error)
}

// Request is a home that was decided on.
type Request struct {
	Router, Set string
	First       string             // the home of generation 0
	Switches    []generation.Value // all decided switches of the set in the order of their generations (1, 2, …), without those that stay; the last is the one arrived at. Empty: generation 0.
	Cut         func(ctx context.Context, ref generation.CutRef) ([]generation.CutTopic, error)
	Left        *broker.Cluster               // the home that is left, if this instance takes clients along from it and it can be asked; else nil: then no gates are made
	Salted      func(id int64) (int64, error) // gate.Salted in the generation arrived at
	Now         time.Time
}

// Arrived is what is known of a home.
type Arrived struct {
	Positions *positions.Book // nil in generation 0
	Producers *gate.Book      // nil where Left is nil; in a generation above 0 that is not fresh: a book of no partitions, because ids still have to be salted
}

// Build makes what is known of a home that was decided on.
func Build(ctx context.Context, r Request, runs Runs) (Arrived, error) {
	if len(r.Switches) == 0 {
		return Arrived{}, nil
	}
	return Arrived{}, errors.New("positions at another home cannot be built yet")
}
