package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology/gossip"
)

// ProberConfig is how a cluster is watched.
type ProberConfig struct {
	// Interval between probes; 0 = 2 s. What stops answering is lost in less than two of them.
	Interval time.Duration
}

// ProberDeps is what a prober needs of its surroundings.
type ProberDeps struct {
	// Changed is told of each change of what Reach returns, and of the first measurement. It must not block. nil = nobody.
	Changed func(gossip.Reach)
	Log     *slog.Logger // nil = none
}

// The times of a prober at the usual interval of two seconds; at a shorter one all but the last are shorter in proportion.
const (
	probeInterval = 2 * time.Second
	probeTry      = 800 * time.Millisecond  // the least patience with one connection
	probeMost     = 1200 * time.Millisecond // the most, for four round trips on a slow path
	probeBudget   = 1300 * time.Millisecond // of a probe as a whole: added to the interval it leaves time to move the work
	probeDial     = 5 * time.Second         // to open a standing connection: a login takes many round trips
	probeMedian   = time.Minute             // of round trips that count
	probeRetry    = 30 * time.Second        // at most between dials for a spare line that fail
	probeWording  = 30 * time.Second        // a cluster that stays lost for other reasons says so as seldom
	stalled       = 500 * time.Millisecond  // over time: it was this process that did not go on
)

// Bounds of what a prober keeps.
const (
	fewestLines = 2 // so that one that dies without a word is no reason to doubt the path
	mostLines   = 3
	mostDials   = 2   // at a time: one may hang at a broker that is gone
	maxTrouble  = 100 // bytes
	maxBrokers  = 64  // known by address
)

// Prober measures all the time how one cluster is reached from here, over a few standing connections of its own.
//
// A flag is about the path, not about rights: it says whether another node could do better. So what the brokers answer, a refusal among
// it, is an answer; silence, a connection that is refused, a login that is refused and what is not Kafka are not.
type Prober struct {
	c       *Cluster
	scale   float64 // of the times: 1 = the usual interval
	changed func(gossip.Reach)
	log     *slog.Logger
	results chan probed
	work    sync.WaitGroup

	at probing // of Run

	mu      sync.Mutex
	reach   gossip.Reach
	answers bool
}

// probing is what a prober's Run knows.
type probing struct {
	idle    []*line // the next one first
	busy    int     // lines that are in use
	dialing int
	failed  int       // dials in a row
	retry   time.Time // no spare line is opened before
	brokers []Broker  // as the cluster advertises them
	turn    int       // of the addresses that are dialled
	light   time.Time // until then only metadata is asked for, because the broker throttles the rest
	last    heard     // the last answers to a fetch and a produce
	rtts    []roundTrip
	reads   gossip.Flap
	writes  gossip.Flap
	told    bool
	worded  time.Time // when the trouble was last said
}

type roundTrip struct {
	at   time.Time
	took time.Duration
}

// probed is the end of something that a prober started.
type probed struct {
	line    *line // nil: a dial that failed
	heard   heard
	err     error
	began   time.Time // of asking; zero where nothing was asked
	dialled bool      // it opened the line
}

// NewProber returns the prober of a cluster. It starts nothing: Run does.
func NewProber(c *Cluster, cfg ProberConfig, deps ProberDeps) (*Prober, error) {
	if cfg.Interval == 0 {
		cfg.Interval = probeInterval
	}
	if cfg.Interval < 100*time.Millisecond {
		return nil, fmt.Errorf("probe cluster %s: an interval of %v is less than 100ms", c.profile.Name, cfg.Interval)
	}
	if deps.Changed == nil {
		deps.Changed = func(gossip.Reach) {}
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Prober{c: c, scale: float64(cfg.Interval) / float64(probeInterval), changed: deps.Changed,
		log: deps.Log.With("cluster", c.profile.Name), results: make(chan probed)}, nil
}

// Reach is what was measured last. Before the first measurement nothing is reached.
func (p *Prober) Reach() gossip.Reach {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reach
}

// Answers tells whether the last probe was answered: what [Prober.Reach] trusts only after a while, but what may be asked already.
func (p *Prober) Answers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers
}

// Run probes until ctx ends, and then closes its connections. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.end(cancel)
	for ctx.Err() == nil {
		start := time.Now()
		h, err := p.round(ctx, start)
		// A process that was stopped meanwhile heard nothing because it did not listen.
		stopped := err != nil && time.Since(start) > p.budget()+stalled
		if ctx.Err() == nil && !stopped {
			p.judge(h, err)
		}
		p.rest(ctx, start.Add(p.scaled(probeInterval)))
	}
	return nil
}

// end stops what was started and closes what is open.
func (p *Prober) end(cancel context.CancelFunc) {
	cancel()
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	for open := true; open; {
		select {
		case r := <-p.results:
			if r.line != nil {
				_ = r.line.w.close()
			}
		case <-done:
			open = false
		}
	}
	for _, l := range p.at.idle {
		_ = l.w.close()
	}
	p.at.idle = nil
}

// scaled shortens a time as the interval is shorter than usual.
func (p *Prober) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * p.scale) }

func (p *Prober) budget() time.Duration { return min(probeBudget, p.scaled(probeBudget)) }

// patience is how long one connection may take to answer, and when the next try begins beside it.
func (p *Prober) patience() (whole, second time.Duration) {
	rtt, most := p.median(), min(probeMost, p.scaled(probeMost))
	if rtt == 0 {
		return most, most / 2 // a path that is not known may be slow
	}
	whole = min(max(4*rtt, min(probeTry, p.scaled(probeTry))), most)
	return whole, min(max(whole/2, 3*rtt/2), whole)
}

// errMuted: the cluster has answered that it will not for a while. That says nothing of the path.
var errMuted = errors.New("all connections are throttled")

// round is one probe: one standing connection is asked, and if that brings nothing soon, another one and a fresh one too.
func (p *Prober) round(ctx context.Context, start time.Time) (heard, error) {
	whole, soon := p.patience()
	bound, second := time.NewTimer(p.budget()), time.NewTimer(soon)
	defer bound.Stop()
	defer second.Stop()
	var failed error
	if !p.askNext(ctx, whole) {
		if len(p.at.idle) > 0 {
			return heard{}, errMuted
		}
		second.Reset(0)
	}
	for tries := 1; ; {
		select {
		case r := <-p.results:
			switch p.take(r); {
			case r.err != nil:
				failed = errors.Join(failed, r.err)
				second.Reset(0)
			case r.began.Before(start): // a dial, or an answer to what was asked before, which says nothing of now
				p.askNext(ctx, whole)
			default:
				return r.heard, nil
			}
		case <-second.C:
			if tries++; tries == 2 {
				p.askNext(ctx, whole)
				p.dial(ctx)
			}
		case <-bound.C:
			return heard{}, errors.Join(failed, fmt.Errorf("no answer of cluster %s within %v", p.c.profile.Name, p.budget()))
		case <-ctx.Done():
			return heard{}, ctx.Err()
		}
		if tries > 1 && p.at.busy == 0 && p.at.dialing == 0 {
			return heard{}, cmp.Or(failed, errMuted)
		}
	}
}

// rest waits for the next probe and sees to it that there are enough lines for it.
func (p *Prober) rest(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		p.upkeep(ctx)
		select {
		case r := <-p.results:
			p.take(r)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// upkeep opens a spare line, or renews the login of one.
func (p *Prober) upkeep(ctx context.Context) {
	at := &p.at
	if at.busy > 0 || at.dialing > 0 {
		return
	}
	if i := slices.IndexFunc(at.idle, func(l *line) bool { return l.w.expired() }); i >= 0 {
		l := at.idle[i]
		at.idle = slices.Delete(at.idle, i, i+1)
		p.use(l, func() probed { return probed{err: l.renew(ctx, p.c.profile, probeDial)} })
		return
	}
	if len(at.idle) < p.wanted() && !time.Now().Before(at.retry) {
		p.dial(ctx)
	}
}

// wanted is how many lines there should be.
func (p *Prober) wanted() int { return min(max(len(p.at.brokers), fewestLines), mostLines) }

// askNext asks the line whose turn it is.
func (p *Prober) askNext(ctx context.Context, patience time.Duration) bool {
	at, now := &p.at, time.Now()
	i := slices.IndexFunc(at.idle, func(l *line) bool { return !now.Before(l.muted) })
	if i < 0 {
		return false
	}
	l, light := at.idle[i], now.Before(at.light)
	at.idle = slices.Delete(at.idle, i, i+1)
	p.use(l, func() probed {
		ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v: %w", patience.Round(time.Millisecond), context.DeadlineExceeded))
		defer cancel()
		h, err := l.ask(ctx, light)
		return probed{heard: h, err: err, began: now}
	})
	return true
}

// use runs fn over a line, which comes back by the results.
func (p *Prober) use(l *line, fn func() probed) {
	p.at.busy++
	p.work.Go(func() {
		r := fn()
		r.line = l
		p.results <- r
	})
}

// dial opens another line, to the broker whose turn it is.
func (p *Prober) dial(ctx context.Context) {
	if p.at.dialing >= mostDials {
		return
	}
	p.at.dialing++
	b, err := p.target()
	p.work.Go(func() {
		r := probed{dialled: true, err: err}
		if err == nil {
			r.line, r.err = p.c.openLine(ctx, b, probeDial)
		}
		p.results <- r
	})
}

// target is the next address in turn of those that have no line, and else of all.
func (p *Prober) target() (Broker, error) {
	at := &p.at
	all := slices.Clone(at.brokers)
	if len(all) == 0 || len(at.idle)+at.busy == 0 { // none of the advertised ones may be right
		for _, address := range p.c.profile.Bootstrap {
			host, port, err := net.SplitHostPort(address)
			n, notANumber := strconv.Atoi(port)
			if err = errors.Join(err, notANumber); err != nil {
				return Broker{}, fmt.Errorf("bootstrap %q of cluster %s: %w", address, p.c.profile.Name, err)
			}
			all = append(all, Broker{ID: -1, Host: host, Port: int32(n)})
		}
	}
	for range all {
		at.turn++
		b := all[at.turn%len(all)]
		if !slices.ContainsFunc(at.idle, func(l *line) bool { return l.broker.address() == b.address() }) {
			return b, nil
		}
	}
	return all[at.turn%len(all)], nil
}

// take accounts for what came to its end.
func (p *Prober) take(r probed) {
	at := &p.at
	if r.dialled {
		at.dialing--
	} else {
		at.busy--
	}
	switch {
	case r.err != nil && r.dialled:
		at.retry = time.Now().Add(min(p.scaled(probeInterval)<<min(at.failed, 4), probeRetry))
		at.failed++
		return
	case r.err != nil:
		return // which has closed the line
	case r.dialled:
		at.failed = 0
		at.idle = slices.Insert(at.idle, 0, r.line)
	default:
		at.idle = append(at.idle, r.line)
	}
	if h := r.heard; h.throttle > 0 {
		r.line.muted = time.Now().Add(h.throttle)
		if at.light.Before(r.line.muted) {
			at.light = r.line.muted
		}
	}
	if len(r.heard.brokers) > 0 {
		p.meet(r.heard.brokers)
	}
	for len(at.idle) > p.wanted() {
		last := len(at.idle) - 1 // the first is new, and perhaps about to be asked
		_ = at.idle[last].w.close()
		at.idle = at.idle[:last]
	}
}

// meet takes over what the cluster says of its brokers. A line to an address that is no longer one of them may lead to another cluster,
// and one to a bootstrap address to a broker that has a line already: it is for the beginning only.
func (p *Prober) meet(brokers []Broker) {
	at := &p.at
	slices.SortFunc(brokers, func(a, b Broker) int { return int(a.ID) - int(b.ID) })
	at.brokers = slices.Clone(brokers[:min(len(brokers), maxBrokers)])
	begun := !slices.ContainsFunc(at.idle, func(l *line) bool { return l.broker.ID >= 0 })
	at.idle = slices.DeleteFunc(at.idle, func(l *line) bool {
		known := l.broker.ID < 0 && begun
		known = known || slices.ContainsFunc(brokers, func(b Broker) bool { return b.address() == l.broker.address() })
		if !known {
			_ = l.w.close()
		}
		return !known
	})
}

// judge draws the conclusions of a probe and tells of them.
func (p *Prober) judge(h heard, err error) {
	at, now := &p.at, time.Now()
	if errors.Is(err, errMuted) {
		return
	}
	if err == nil {
		at.rtts = append(slices.DeleteFunc(at.rtts, func(r roundTrip) bool { return now.Sub(r.at) > probeMedian }), roundTrip{now, h.rtt})
		if h.light {
			h.reads, h.writes = at.last.reads, at.last.writes
		}
		at.last = h
	}
	before := p.Reach()
	r := gossip.Reach{
		Reads:  at.reads.Set(err == nil && !hindered(h.reads), now),
		Writes: at.writes.Set(err == nil && !hindered(h.writes), now),
		RTT:    before.RTT, // a cluster that is lost keeps it, so that the nodes who lost it keep their order
	}
	if err == nil {
		r.RTT = gossip.RTTClass(before.RTT, p.least())
	}
	all := errors.Join(err, h.reads, h.writes)
	switch r.Trouble = trouble(all); {
	case all == nil && !(r.Reads && r.Writes):
		r.Trouble = "answers again, and is trusted when it does so for a while"
	case err != nil && !before.Reads && !before.Writes && now.Sub(at.worded) < probeWording:
		r.Trouble = before.Trouble
	default:
		at.worded = now
	}
	p.mu.Lock()
	p.reach, p.answers = r, err == nil
	p.mu.Unlock()
	if r == before && at.told {
		return
	}
	at.told = true
	if r.Reads != before.Reads || r.Writes != before.Writes {
		p.log.Info("reach of a cluster changed", "reads", r.Reads, "writes", r.Writes, "rtt_class", r.RTT, "error", all)
	}
	p.changed(r)
}

// median is the round trip of the last minute, 0 before the first.
func (p *Prober) median() time.Duration {
	took := make([]time.Duration, len(p.at.rtts))
	for i, r := range p.at.rtts {
		took[i] = r.took
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// least is the shortest round trip of the last minute, 0 before the first: how far away the cluster is, whatever either side was
// busy with. Work is placed by it, and a node that is busy for a moment must not look like one on another continent.
func (p *Prober) least() (least time.Duration) {
	for i, r := range p.at.rtts {
		if i == 0 || r.took < least {
			least = r.took
		}
	}
	return least
}

// trouble is the first line of an error, as much of it as is gossiped.
func trouble(err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	text = strings.ReplaceAll(text, ": "+context.DeadlineExceeded.Error(), "") // which the words before it say
	if len(text) > maxTrouble {
		text = text[:maxTrouble]
	}
	return strings.ToValidUTF8(text, "")
}
