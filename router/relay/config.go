package relay

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/members"
	"github.com/isthmus-project/isthmus/router/quota"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/sets"
)

// Config is one connection.
type Config struct {
	// Client is the accepted connection, behind its TLS handshake. Run closes it.
	Client net.Conn
	// Dial connects to the broker that the connection's slot stands for. It is called for the first request that is forwarded, and again for the first one behind a change of
	// the home. For one about the cluster (news) it may connect to another broker instead, and says so then (standIn).
	Dial func(ctx context.Context, news bool) (c net.Conn, standIn bool, err error)
	// View is the virtual cluster as it is now; it is asked for every message that is rewritten.
	View func() *rewrite.View
	// Versions is what clients are told. What is not in it is not forwarded either.
	Versions apis.Versions
	// ProducerID gives an id to an idempotent producer. Nil lets the broker give one.
	ProducerID func() (int64, error)
	Moving
	// Sets is asked once the broker is connected: what of other sets clients are told, and what may not go to this home. Nil, or a nil answer, means that all is
	// of one set.
	Sets func() Sets
	// Memory bounds what all connections collect, in bytes; nil does not. A connection waits for its part as long as for a step.
	Memory *semaphore.Weighted
	// Pieces bounds how many long frames of all connections pass in pieces of [PieceSize]; others pass in smaller ones. Nil is none.
	Pieces *semaphore.Weighted
	// Subject is that of the client's certificate, which was verified; "" without one.
	Subject string
	// Terminate ends logins here; nil passes them through.
	Terminate *Terminate
	// Quotas bound what the client takes; nil does not.
	Quotas *quota.Rules
	// Keys counts requests, together with those of other connections; nil counts them here alone.
	Keys *Keys
	// Limits and Timeouts: zero fields have the defaults.
	Limits   Limits
	Timeouts Timeouts
}

// Moving is a home that may change. The zero value is one that stays.
type Moving struct {
	// Stage says where the home of the connection's set stands; it is asked for every request that is not answered here anyway. When the generation has changed, what Dial
	// and View say is of the new home, and of the old one as long as answers of that are due. Nil is a home that stays.
	Stage func() Stage
	// Members is asked for requests of groups: what those are told that a home before this one knew. Nil, or a nil book, is nothing.
	Members func() *members.Book
	// Lease reports whether writes may go to the home of a generation, and their answers be passed on. Without it they are held, and an answer that comes then ends the connection. Whoever
	// gets a lease again closes the stage's Over. Nil needs none.
	Lease func(generation int64) bool
	// Committed reports whether the home before that of a generation has committed the newest transaction of a transactional id, under one of its own producer ids. Nil knows of none.
	Committed func(ctx context.Context, generation int64, id string, producer int64, epoch int16) bool
}

// Sets is a router's topics and groups where some have another home than the connection.
type Sets interface {
	sets.Here
	// Topics are topics of other sets as clients are told them: these, or all for nil, as far as they are known soon.
	Topics(ctx context.Context, names []string) []kmsg.MetadataResponseTopic
	// Coordinator is who coordinates a group or a transactional id (by the key type of FindCoordinator) of another set; its id is -1 where there is an error code.
	Coordinator(ctx context.Context, kind int8, key string) (slot rewrite.Slot, code int16)
}

// Limits of one connection.
type Limits struct {
	// Request is the longest request in bytes; default 100 MiB, which is a broker's.
	Request int
	// BeforeLogin is the longest request in bytes of a client that has not sent a login; 0 for a home that wants none.
	BeforeLogin int
	// Collected is the longest request in bytes that is rewritten, and so held in memory; default 8 MiB.
	Collected int
	// Answer is the longest answer in bytes; default 1 GiB: it only passes.
	Answer int
	// CollectedAnswer is the longest answer in bytes that is rewritten; default 32 MiB, metadata of half a million partitions.
	CollectedAnswer int
	// Pending is how many answers may be due; default 64. Clients have 5 in flight.
	Pending int
	// PendingBytes is how much of answers made here may wait for their turn; default 1 MiB.
	PendingBytes int
}

// Timeouts of one connection.
type Timeouts struct {
	// Idle is how long a client may have nothing to ask and nothing to wait for; default 10 minutes, which is a broker's.
	Idle time.Duration
	// Step is how long a header, or 64 kB of a frame, may take to be read or written; default 30 seconds.
	Step time.Duration
	// Dial is how long connecting may take; default 10 seconds.
	Dial time.Duration
	// Login is how long logging in at the home may take where logins end here; default 30 seconds.
	Login time.Duration
	// Answer is how long the broker may take to begin an answer; default 1 hour, since members of a group wait for each other as long as
	// their clients allow.
	Answer time.Duration
	// Linger is how long an ending connection waits for what is pending, and then for the client's FIN; default 5 seconds.
	Linger time.Duration
}

func orInt(v *int, d int) {
	if *v <= 0 {
		*v = d
	}
}

func orTime(v *time.Duration, d time.Duration) {
	if *v <= 0 {
		*v = d
	}
}

// complete fills in the defaults and refuses what nothing can be made of.
func (c *Config) complete() error {
	switch {
	case c.Client == nil || c.Dial == nil || c.View == nil:
		return errors.New("new relay: it needs a client, a way to dial and a view")
	case len(c.Versions) == 0:
		return errors.New("new relay: it needs versions to offer")
	case c.Terminate != nil && (c.Terminate.Users == nil || c.Terminate.Home == nil):
		return errors.New("new relay: where logins end it needs users, and the name of the home")
	}
	if c.Keys == nil {
		c.Keys = new(Keys)
	}
	orInt(&c.Limits.Request, 100<<20)
	orInt(&c.Limits.Collected, 8<<20)
	orInt(&c.Limits.Answer, 1<<30)
	orInt(&c.Limits.CollectedAnswer, 32<<20)
	orInt(&c.Limits.Pending, 64)
	orInt(&c.Limits.PendingBytes, 1<<20)
	orTime(&c.Timeouts.Idle, 10*time.Minute)
	orTime(&c.Timeouts.Step, 30*time.Second)
	orTime(&c.Timeouts.Dial, 10*time.Second)
	orTime(&c.Timeouts.Login, 30*time.Second)
	orTime(&c.Timeouts.Answer, time.Hour)
	orTime(&c.Timeouts.Linger, 5*time.Second)
	return nil
}
