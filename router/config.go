package router

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/isthmus-project/isthmus/broker"
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
	// Limits and Timeouts: zero fields have the defaults.
	Limits   Limits
	Relay    relay.Limits
	Timeouts relay.Timeouts
	// Every is how often the home is asked for its brokers; default 1 second.
	Every time.Duration
	// Drain is over how long the connections of a router that ends are ended, each at a moment of its own; default 1.5 seconds.
	Drain time.Duration
}

// Limits bound what clients can make a router hold.
type Limits struct {
	// Connections is how many there may be in all; default 10 000.
	Connections int
	// PerAddress is how many there may be from one address; default 2 000: many clients may share one.
	PerAddress int
	// Memory is how many bytes all connections together may hold of what is rewritten; default 256 MiB.
	Memory int64
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
	// Log may be nil.
	Log *slog.Logger
}

// Check says what of a router cannot be served yet, and names the field.
func Check(r topology.Router) error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("router %q: "+format, append([]any{r.Name}, args...)...))
	}
	if r.Auth == topology.Terminate {
		refuse("auth = %q is not built yet; write auth = %q", r.Auth, topology.PassThrough)
	}
	if r.SNI != "" {
		refuse(`sni is not built yet; write slots = "9093-9098", a port for each broker`)
	}
	for _, s := range r.Sets {
		if s.SNI != "" {
			refuse("set %q: sni is not built yet; write slots", s.Name)
		}
	}
	return errors.Join(errs...)
}

// complete fills in the defaults and refuses what nothing can be made of.
func (c *Config) complete(d *Deps) error {
	if err := Check(c.Router); err != nil {
		return err
	}
	switch {
	case d.Home == nil || d.Unique == nil:
		return errors.New("new router: it needs a home and unique texts")
	case c.Router.Slots == (topology.Ports{}):
		return fmt.Errorf("new router %q: slots is empty", c.Router.Name)
	}
	for _, s := range c.Router.Sets {
		switch {
		case s.Slots == (topology.Ports{}):
			return fmt.Errorf("new router %q: set %q: slots is empty", c.Router.Name, s.Name)
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
	if d.Rand == nil {
		d.Rand = rand.Float64
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.Log = d.Log.With("router", c.Router.Name, "home", d.Home.Name())
	if c.Limits.Connections <= 0 {
		c.Limits.Connections = 10_000
	}
	if c.Limits.PerAddress <= 0 {
		c.Limits.PerAddress = 2_000
	}
	if c.Limits.Memory <= 0 {
		c.Limits.Memory = 256 << 20
	}
	if c.Every <= 0 {
		c.Every = time.Second
	}
	if c.Drain <= 0 {
		c.Drain = 1500 * time.Millisecond
	}
	return nil
}

// count is how many slots an instance has.
func count(p topology.Ports) int {
	if p == (topology.Ports{}) {
		return 0
	}
	return int(p.Last) - int(p.First) + 1
}
