package gossip

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config is what one node must know to take part in the gossip of its fabric.
type Config struct {
	// Name of this node, unique in the fabric, and DC, its data center.
	Name, DC string
	// Fabric is the name of the fabric: packets of another one are refused.
	Fabric string
	// Bind is host:port to listen on (port 0: any free one), UDP and TCP alike. Advertise is where the others reach it; empty: the same.
	Bind, Advertise string
	// Seeds are addresses of nodes, host:port; its own may be among them.
	Seeds []string
	// Keys of 16, 24 or 32 bytes; the first encrypts, all decrypt. May be empty only if all addresses are loopback.
	Keys [][]byte
	// CIDRs are the networks whose nodes may take part; empty: all.
	CIDRs []string
	// Started is when the process began, ms since 1970; 0: when the pool was made.
	Started int64
	// Transport replaces the network, for tests.
	Transport memberlist.NodeAwareTransport
	// Timings of 0 take the defaults.
	Timings Timings
}

// Deps are what a pool uses.
type Deps struct {
	// Settings is what the pool replicates.
	Settings *Settings
	// Stores returns the stores that this node reaches at the moment, one for each cluster; nil: none.
	Stores func() []Store
	Clock  *Clock
	Now    func() time.Time
	// Rand spreads what nodes do over time; nil: one of its own. Only the pool uses it after NewPool.
	Rand *rand.Rand
	Log  *slog.Logger
	// KeysChanged keeps the key ring over a restart, the primary first; nil: it is in memory only. It may be called from any goroutine.
	KeysChanged func(keys [][]byte) error
}

// Timings are the pool's rhythm; 0 takes the default. They are made for 150 ms round trip and 5 % loss.
type Timings struct {
	// Watch is the time between two pings of a watcher: 400 ms. A death is known after 4 to 6 of them, by the number of watchers.
	Watch time.Duration
	// Probe is the time between two probes of memberlist, which finds what the watchers cannot: 1 s.
	Probe time.Duration
	// ProbeTimeout is how long an answer to a ping may take: 300 ms, twice the longest round trip.
	ProbeTimeout time.Duration
	// Gossip is the time between two rounds of telling: 150 ms, to Fanout nodes (4), and Repeats (4) × log10 of the nodes times.
	Gossip  time.Duration
	Fanout  int
	Repeats int
	// PushPull is the time between two comparisons of everything with a random node: 15 s; twice that above 32 nodes.
	PushPull time.Duration
	// Rejoin is the time between two attempts to reach nodes that are missing: 4 s.
	Rejoin time.Duration
	// Stream bounds what is said over one stream: 3 s.
	Stream time.Duration
	// Load is the time between two reports that differ in loads only: 15 s.
	Load time.Duration
	// Answer is how long the node that orders writes may take: 1.5 s.
	Answer time.Duration
	// Stores is the time between two comparisons with the stores: 2 min.
	Stores time.Duration
	// Settle is how long a node has to be there until its name is its own: 15 s.
	Settle time.Duration
}

func (t Timings) withDefaults() Timings {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Watch, 400 * time.Millisecond}, {&t.Probe, time.Second}, {&t.ProbeTimeout, 300 * time.Millisecond},
		{&t.Gossip, 150 * time.Millisecond}, {&t.PushPull, 15 * time.Second}, {&t.Rejoin, 4 * time.Second},
		{&t.Stream, 3 * time.Second}, {&t.Load, 15 * time.Second}, {&t.Answer, 1500 * time.Millisecond},
		{&t.Stores, 2 * time.Minute}, {&t.Settle, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if t.Fanout == 0 {
		t.Fanout = 4
	}
	if t.Repeats == 0 {
		t.Repeats = 4
	}
	return t
}

// check names everything that is wrong at once.
func (c Config) check() error {
	var all []error
	bad := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if c.Name == "" || len(c.Name) > maxNodeBytes || strings.ContainsAny(c.Name, "/ \t\r\n") {
		bad("name %.100q: want 1 to %d bytes without spaces and slashes", c.Name, maxNodeBytes)
	}
	if c.Fabric == "" || len(c.Fabric) > memberlist.LabelMaxSize {
		bad("fabric %.100q: want a name of 1 to %d bytes", c.Fabric, memberlist.LabelMaxSize)
	}
	if n := len(packMeta(meta{Started: c.Started, DC: c.DC})); n > memberlist.MetaMaxSize || len(c.DC) > maxNameBytes {
		bad("dc %.100q: with it every packet about this node would carry %d bytes, shorten it to at most %d", c.DC, n, maxNameBytes)
	}
	for i, key := range c.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			bad("gossip key %d has %d bytes, want 16, 24 or 32", i+1, len(key))
		}
	}
	for _, cidr := range c.CIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			bad("network %.100q: want one such as 10.0.0.0/8", cidr)
		}
	}
	if c.Transport == nil {
		for _, addr := range append([]string{c.Bind, c.Advertise}, c.Seeds...) {
			if err := checkAddr(addr, len(c.Keys) > 0); err != nil {
				all = append(all, err)
			}
		}
	}
	return errors.Join(all...)
}

func checkAddr(addr string, keyed bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("gossip address %.200q: want host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("gossip address %.200q: want a port from 0 to 65535", addr)
	}
	if ip := net.ParseIP(host); !keyed && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("gossip address %.200q is not loopback, so that everybody who reaches it could take part: set a gossip key", addr)
	}
	return nil
}

// libraryConfig is memberlist's configuration.
func (p *Pool) libraryConfig() (*memberlist.Config, error) {
	t := p.cfg.Timings
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = p.cfg.Name, p.cfg.Fabric
	c.Keyring = p.ring
	c.Logger = log.New(libraryLog{p.deps.Log, p.limit}, "", 0)
	d := &delegate{p}
	c.Delegate, c.Events, c.Conflict, c.Alive, c.Ping = d, d, d, d, d
	c.TCPTimeout = t.Stream
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.ProbeTimeout
	c.GossipInterval, c.GossipNodes = t.Gossip, t.Fanout
	c.PushPullInterval = t.PushPull
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2 // the watchers are faster; this is for what they miss
	c.AwarenessMaxMultiplier = 3
	c.RetransmitMult = t.Repeats
	c.GossipToTheDeadTime = 2 * time.Minute // so that what both sides of a cut say goes over as soon as it ends
	c.DeadNodeReclaimTime = time.Millisecond
	c.EnableCompression = false // the guard refuses it: a small packet could become a huge one
	c.UDPBufferSize = maxPacket
	for _, cidr := range p.cfg.CIDRs {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			return nil, fmt.Errorf("network %.100q: %w", cidr, err)
		}
		c.CIDRsAllowed = append(c.CIDRsAllowed, *n)
	}
	inner := p.cfg.Transport
	if inner == nil {
		var err error
		if inner, err = p.network(c); err != nil {
			return nil, err
		}
	}
	g := &guard{NodeAwareTransport: inner, label: p.cfg.Fabric, keys: p.Keys, timeout: t.Stream, refused: p.refused}
	g.allowed = func(a net.Addr) bool {
		return len(c.CIDRsAllowed) == 0 || c.IPAllowed(net.ParseIP(hostOf(a))) == nil
	}
	g.start()
	c.Transport = g
	return c, nil
}

// network listens, and sets the addresses of c.
func (p *Pool) network(c *memberlist.Config) (memberlist.NodeAwareTransport, error) {
	host, port, err := resolve(p.cfg.Bind)
	if err != nil {
		return nil, err
	}
	c.BindAddr, c.BindPort = host, port
	if p.cfg.Advertise != p.cfg.Bind {
		if c.AdvertiseAddr, c.AdvertisePort, err = resolve(p.cfg.Advertise); err != nil {
			return nil, err
		}
	}
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: c.Logger})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p.cfg.Bind, err)
	}
	return t, nil
}

func resolve(addr string) (string, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
	}
	if net.ParseIP(host) == nil {
		ip, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
		}
		host = ip.String()
	}
	return host, n, nil
}

// refused says that something came that is not of this fabric: it is what a wrong key or a wrong label looks like.
func (p *Pool) refused(from net.Addr, why string) {
	if p.limit.ok("refused " + hostOf(from) + why) {
		p.deps.Log.Warn("gossip refused", "from", hostOf(from), "why", why)
	}
}
