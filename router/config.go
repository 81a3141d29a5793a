package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/topology"
)

// Config is one instance of a router.
type Config struct {
	// Router is this instance.
	Router topology.Router
	// Instances are those of the same name in the same data center, this one too: clients are sent to all of them. None is this one alone.
	// They may change, see [Router.SetInstances].
	Instances []topology.Router
	// Limits and Timeouts: zero fields have what Router.Limits says, or else the defaults.
	Limits   Limits
	Relay    relay.Limits
	Timeouts relay.Timeouts
	// Login says that the home wants clients to log in, as a door does that terminates logins: who has not sends nothing longer than 64 kB.
	Login bool
	// Every is how often the home is asked for its brokers; default 1 second.
	Every time.Duration
	// Handshake is how long a TLS handshake may take, and how long it may have to wait for its turn before; default 10 seconds.
	Handshake time.Duration
	// Drain is over how long the connections of a router that ends are ended, each at a moment of its own; default 1.5 seconds.
	Drain time.Duration
}

// Limits bound what clients can make a router hold.
type Limits struct {
	// Connections is how many there may be in all; default 10 000.
	Connections int
	// PerAddress is how many there may be from one address; default 2 000: many clients may share one.
	PerAddress int
	// Memory is how many bytes all connections together may hold of what is rewritten; default 256 MiB. A quarter of it more lets long frames pass in longer
	// pieces.
	Memory int64
	// Handshakes is how many TLS handshakes may be under way at once; default 128. One address may have a quarter of them.
	Handshakes int
}

// Liveness knows which nodes live. It is asked often and must not block.
type Liveness interface {
	// Live reports whether a node lives, as far as is known.
	Live(node string) bool
}

// Deps are what a router works with.
type Deps struct {
	// Home is the cluster of Router.Home, for this router alone. It stays open.
	Home *broker.Cluster
	// Others are the clusters of sets that have another home, by name, for this router alone. They stay open.
	Others map[string]*broker.Cluster
	// Live says which nodes of Instances live; nil says all.
	Live Liveness
	// ProducerID makes a producer id of a number that is given once; nil lets brokers give ids.
	ProducerID func(counter uint32) int64
	// Unique gives a text that nobody is given twice, here or elsewhere.
	Unique func() string
	// Rand gives a number in [0, 1) to any goroutine; nil is the machine's own.
	Rand func() float64
	// Listen opens listeners; nil is the machine's own.
	Listen func(network, address string) (net.Listener, error)
	// Dial opens connections to other instances; nil is the machine's own.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Generations has what was decided about homes; nil: the homes that the file names stay. It stays open.
	Generations *generation.Store
	// Open opens another cluster that may become a home, for this router alone; the router keeps it and closes it at its end. It dials nothing. nil where Generations is.
	Open func(cluster string) (*broker.Cluster, error)
	// Runs tells where the mirror has put records by now; nil where Generations is.
	Runs func() arrival.Runs
	// Salted is [gate.Salted] of the running topology; nil where Generations is.
	Salted func(id, generation int64) (int64, error)
	// Clock gives moments; nil is the clock of Generations. It must be the same: moments of two clocks cannot be compared.
	Clock func() generation.Moment
	// Arrive says what is to be known of a home; nil is [arrival.Build].
	Arrive func(ctx context.Context, r arrival.Request, runs arrival.Runs) (arrival.Arrived, error)
	// Log may be nil.
	Log *slog.Logger
}

// longestLogin is the longest request in bytes that a login is made of. Tickets and tokens are shorter.
const longestLogin = 64 << 10

// complete fills in the defaults and refuses what nothing can be made of.
func (c *Config) complete(d *Deps) error {
	switch {
	case d.Home == nil || d.Unique == nil:
		return errors.New("new router: it needs a home and unique texts")
	case wayOf(c.Router, 0).room() == 0:
		return fmt.Errorf("new router %q: slots is empty", c.Router.Name)
	case d.Generations != nil && (d.Open == nil || d.Salted == nil || d.Runs == nil && d.Arrive == nil):
		return fmt.Errorf("new router %q: who follows generations needs a way to open clusters, runs of the mirror and salted ids", c.Router.Name)
	case c.Router.SNI != "" && c.Router.TLS == nil:
		return fmt.Errorf("new router %q: sni needs tls: clients say the name in their handshake", c.Router.Name)
	}
	for i, s := range c.Router.Sets {
		switch {
		case wayOf(c.Router, i+1).room() == 0:
			return fmt.Errorf("new router %q: set %q: slots is empty", c.Router.Name, s.Name)
		case s.SNI != "" && c.Router.TLS == nil:
			return fmt.Errorf("new router %q: set %q: sni needs tls: clients say the name in their handshake", c.Router.Name, s.Name)
		case s.Home != c.Router.Home && d.Others[s.Home] == nil:
			return fmt.Errorf("new router %q: set %q: its home %s is not given", c.Router.Name, s.Name, s.Home)
		}
	}
	if len(c.Instances) == 0 {
		c.Instances = []topology.Router{c.Router}
	}
	if d.Listen == nil {
		d.Listen = net.Listen
	}
	if d.Dial == nil {
		d.Dial = new(net.Dialer).DialContext
	}
	if d.Clock == nil && d.Generations != nil {
		d.Clock = d.Generations.Now
	}
	if d.Arrive == nil {
		d.Arrive = arrival.Build
	}
	if d.Rand == nil {
		d.Rand = rand.Float64
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.Log = d.Log.With("router", c.Router.Name, "home", d.Home.Name())
	said := c.Router.Limits
	c.Limits.Connections = cmp.Or(c.Limits.Connections, said.Connections, 10_000)
	c.Limits.PerAddress = cmp.Or(c.Limits.PerAddress, said.PerAddress, 2_000)
	c.Limits.Memory = cmp.Or(c.Limits.Memory, said.Memory, 256<<20)
	c.Limits.Handshakes = cmp.Or(c.Limits.Handshakes, 128)
	c.Relay.Request = cmp.Or(c.Relay.Request, said.Request)
	if c.Login || c.Router.Auth == topology.Terminate {
		c.Relay.BeforeLogin = cmp.Or(c.Relay.BeforeLogin, longestLogin)
	}
	c.Timeouts.Idle = cmp.Or(c.Timeouts.Idle, said.Idle)
	c.Handshake = cmp.Or(c.Handshake, 10*time.Second)
	c.Every = cmp.Or(c.Every, time.Second)
	c.Drain = cmp.Or(c.Drain, 1500*time.Millisecond)
	return nil
}

// setName is the name of a set; that of what no set names is empty.
func (c *Config) setName(set int) string {
	if set == 0 {
		return ""
	}
	return c.Router.Sets[set-1].Name
}

// homeName is the cluster that the file names for a set.
func (c *Config) homeName(set int) string {
	if set == 0 {
		return c.Router.Home
	}
	return c.Router.Sets[set-1].Home
}

// count is how many slots an instance has.
func count(p topology.Ports) int {
	if p == (topology.Ports{}) {
		return 0
	}
	return int(p.Last) - int(p.First) + 1
}
