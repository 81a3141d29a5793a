package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Errors that callers may ask for.
var (
	// ErrNameTaken is wrapped by the error of [Pool.Run] when another node had this name before.
	ErrNameTaken = errors.New("another node has this name")
	// ErrUnknownNode is wrapped by the error of [Pool.Send] to a node that is not there.
	ErrUnknownNode = errors.New("no live node of this name")
)

// MaxPayloadBytes is the limit of one [Pool.Send].
const MaxPayloadBytes = 640 << 10

// Pool is this node's part in the gossip of its fabric: make it, set handlers, run it.
//
// Its lock comes after memberlist's: no method of memberlist is called with it held.
type Pool struct {
	cfg   Config
	deps  Deps
	ring  *memberlist.Keyring // nil without keys
	list  atomic.Pointer[memberlist.Memberlist]
	said  *outbox
	mail  *mailbox
	store *storing
	limit *limiter
	rand  *lockedRand
	load  chan struct{} // closed when the stores were read

	turning sync.Mutex // one step of a key rotation at a time

	state
}

// state is what the pool knows, behind one lock.
type state struct {
	mu      sync.Mutex
	members *members
	own     reporting
	pins    []Pin
	pinned  Time // version of the pins
	fetch   fetching
	contest contest
	joinErr error
	seen    uint64 // counts sightings of this life
	changed chan struct{}
	view    *View
}

// NewPool checks a configuration and makes a pool of it that is not in the fabric yet.
func NewPool(cfg Config, deps Deps) (*Pool, error) {
	if deps.Settings == nil || deps.Clock == nil || deps.Now == nil {
		return nil, errors.New("join the fabric's gossip: settings, a clock and the time are needed")
	}
	cfg.Timings = cfg.Timings.withDefaults()
	if cfg.Started == 0 {
		cfg.Started = deps.Now().UnixMilli()
	}
	if cfg.Advertise == "" {
		cfg.Advertise = cfg.Bind
	}
	if deps.Rand == nil {
		deps.Rand = rand.New(rand.NewPCG(uint64(cfg.Started), nodeHash(cfg.Name)))
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("join the fabric's gossip: %w", err)
	}
	p := &Pool{cfg: cfg, deps: deps, limit: newLimiter(deps.Now), rand: &lockedRand{r: deps.Rand}, load: make(chan struct{})}
	if len(cfg.Keys) > 0 {
		ring, err := memberlist.NewKeyring(cfg.Keys[1:], cfg.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("join the fabric's gossip: %w", err)
		}
		p.ring = ring
	}
	p.said = newOutbox(cfg.Timings.Repeats)
	p.mail = newMailbox(p)
	p.store = newStoring(p)
	p.state = state{members: newMembers(cfg.Name, deps.Now), changed: make(chan struct{}), fetch: newFetching()}
	p.members.join(cfg.Name, cfg.Advertise, meta{Started: cfg.Started, DC: cfg.DC})
	p.own.report = Report{Started: cfg.Started, DC: cfg.DC, Capacity: 1}
	p.view = p.members.view(nil)
	return p, nil
}

// Run takes part in the gossip until ctx ends. Its error wraps [ErrNameTaken] when another node had the name before; that
// one is not disturbed. [Pool.Leave] before the end of ctx tells the others that this node goes; without it they take it for dead.
func (p *Pool) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list, err := p.listen()
	if err != nil {
		return fmt.Errorf("join the fabric's gossip: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	p.list.Store(list)
	g.Go(func() error { return p.rejoinLoop(ctx) })
	g.Go(func() error { return p.watchLoop(ctx) })
	g.Go(func() error { return p.reportLoop(ctx) })
	g.Go(func() error { return p.mail.loop(ctx) })
	g.Go(func() error { return p.fetchLoop(ctx) })
	g.Go(func() error { return p.store.loop(ctx) })
	err = g.Wait()
	if e := list.Shutdown(); e != nil {
		err = errors.Join(err, fmt.Errorf("end the gossip: %w", e))
	}
	p.mail.wait()
	return err
}

// listen starts memberlist.
func (p *Pool) listen() (*memberlist.Memberlist, error) {
	c, err := p.libraryConfig()
	if err != nil {
		return nil, err
	}
	list, err := memberlist.Create(c)
	if err != nil {
		_ = c.Transport.Shutdown()
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members.peers[p.cfg.Name].address = list.LocalNode().Address()
	p.publishLocked()
	return list, nil
}

// publishLocked makes what is known visible.
func (p *Pool) publishLocked() {
	p.view = p.members.view(p.pins)
	close(p.changed)
	p.changed = make(chan struct{})
}

// View is the fabric as this node knows it now.
func (p *Pool) View() *View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// Changed returns a channel that is closed at the next change of the view or of the settings. Take it before looking at
// either, then nothing is missed.
func (p *Pool) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Loaded is closed when every store was asked for its settings once, whether it answered or not.
func (p *Pool) Loaded() <-chan struct{} { return p.load }

// Addr is where the others reach this node, host:port; empty before [Pool.Run] listens.
func (p *Pool) Addr() string {
	if list := p.list.Load(); list != nil {
		return list.LocalNode().Address()
	}
	return ""
}

// Trouble says why this node is not in its fabric as it should be: its name is another node's, or no seed answers; nil if all is well.
func (p *Pool) Trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.contest.err != nil {
		return p.contest.err
	}
	return p.joinErr
}

// Crashes is how often a node ended without a word in the last 10 minutes, as this node or one that it heard of saw it.
func (p *Pool) Crashes(node string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, n, _ := p.members.crashes(node)
	return n
}

// SetPins replaces the fabric's pins; the latest set wins. At most 10 000 are kept.
func (p *Pool) SetPins(pins []Pin) {
	p.takePins(p.deps.Clock.Now(), slices.Clone(pins[:min(len(pins), maxPins)]))
}

// takePins takes pins over if they are newer, and passes them on.
func (p *Pool) takePins(version Time, pins []Pin) {
	if version.Wall > p.deps.Now().Add(maxAhead).UnixMilli() {
		if p.limit.ok("pins of " + version.Node) {
			p.deps.Log.Warn("pins refused, their clock is more than a day ahead", "node", version.Node, "version", version.String())
		}
		return
	}
	p.deps.Clock.See(version)
	p.mu.Lock()
	defer p.mu.Unlock()
	if version.Compare(p.pinned) <= 0 {
		return
	}
	p.pins, p.pinned = pins, version
	if b := packPins(p.cfg.Name, version, pins); len(b) <= maxBroadcast {
		p.said.put("pins", b)
	} else {
		w := pack(p.cfg.Name, kindPinsAt)
		w.time(version)
		p.said.put("pins", w.b)
	}
	p.publishLocked()
}

// Leave tells the others that this node goes, and waits until some of them should know. The pool still answers until Run ends.
func (p *Pool) Leave(ctx context.Context) error {
	list := p.list.Load()
	if list == nil {
		return nil
	}
	w := pack(p.cfg.Name, kindBye)
	w.int(p.cfg.Started)
	p.said.put("bye", w.b)
	timeout := 2 * time.Second
	if end, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(end)), time.Millisecond)
	}
	done := make(chan error, 1)
	go func() { done <- list.Leave(timeout) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("leave the fabric's gossip: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockedRand spreads what loops do.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

// around is a duration of nine to eleven tenths of d, so that nodes do not move in step.
func (l *lockedRand) around(d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d*9/10 + time.Duration(l.r.Int64N(int64(d/5)+1))
}

func (l *lockedRand) n(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

// pause waits; false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
