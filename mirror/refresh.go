package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
)

// refreshLoop keeps the link's picture of both clusters fresh: it finds topics
// and partitions, makes them on the target, and tells pumps who leads them.
func (l *Link) refreshLoop(ctx context.Context, g *errgroup.Group) error {
	since := l.now().Add(-l.cfg.RefreshEvery / 2)
	for quick := 0; ; {
		if err := l.refresh(ctx, g, since); err != nil && ctx.Err() == nil {
			l.log.Debug("refresh", "error", err)
		}
		t := time.NewTimer(l.cfg.RefreshEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
			quick = 0
			since = l.now().Add(-l.cfg.RefreshEvery / 2) // another link of the node may just have asked
		case <-l.kick:
			t.Stop()
			since = l.now()
			// Gathers what else is poked, and does not ask a cluster in trouble ten times a second.
			if err := sleep(ctx, min(100*time.Millisecond<<quick, l.cfg.RefreshEvery)); err != nil {
				return nil
			}
			quick = min(quick+1, 10)
		}
	}
}

const refreshTimeout = 15 * time.Second

// refresh is one pass. Everything it does is tried again in the next.
// Of either cluster it takes what that said of itself at since or later.
func (l *Link) refresh(ctx context.Context, g *errgroup.Group, since time.Time) error {
	call, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	source, err := l.ask(call, l.from, since)
	if err != nil {
		return err
	}
	l.reached(l.spec.From, partMetadata)
	target, err := l.ask(call, l.to, since)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.source, l.target = source, target
	l.mu.Unlock()
	wanted := l.wanted(l.routing(), source)
	own := slices.DeleteFunc(slices.Clone(wanted), func(topic string) bool { return !l.own(topic, len(source.Topics[topic].Partitions)) })
	if len(own) > 0 || l.shared.owners == nil || l.keepsRules() {
		if err := l.ready(call, target); err != nil {
			l.trouble(l.spec.To, partMetadata, err)
			return err
		}
	}
	// Not before: a target that answers and keeps no state is still in trouble, which is said once, not in every pass.
	l.reached(l.spec.To, partMetadata)
	var errs []error
	known := l.askSettings(call, own, target)
	for _, topic := range own {
		f := l.flow(topic)
		if !f.takes(l.routing()) { // by its name of before; it is let go first
			continue
		}
		if err := l.ensure(call, f, source.Topics[topic], target, known); err != nil {
			errs = append(errs, err)
		}
	}
	l.gone(source)
	errs = append(errs, l.followDeletions(call, source, target))
	l.dismiss(wanted, source)
	for _, f := range l.flowList() {
		l.directAll(f)
		l.watchLag(f)
		f.freeScout(l.now())
		l.assign(ctx, g, f, source.Topics[f.topic], target.Topics[f.target()])
		errs = append(errs, l.reroute(call, f))
	}
	l.unneeded()
	l.relent()
	l.shareQuota()
	return errors.Join(errs...)
}

// ready has the state topics open and knows what the target keeps, before anything is copied.
func (l *Link) ready(ctx context.Context, target broker.Metadata) error {
	l.mu.Lock()
	opened := l.opened
	l.mu.Unlock()
	if !opened {
		if err := l.store.open(ctx, len(target.Brokers)); err != nil {
			return err
		}
		l.mu.Lock()
		l.opened = true
		l.mu.Unlock()
	}
	return l.prove(ctx, slices.Sorted(maps.Keys(target.Brokers)))
}

// own reports whether this node has, or has to take, a partition of a topic. Of one that is all elsewhere it only notes
// the partitions.
func (l *Link) own(topic string, partitions int) bool {
	if l.shared.owners == nil {
		return true
	}
	f := l.flow(topic)
	for i := range int32(max(1, partitions)) { // of a topic that cannot be described, the first one's owner tells
		if l.shared.owner(f.pumpID(i)) == "" {
			return true
		}
	}
	if slices.ContainsFunc(f.pumpList(), (*pump).here) {
		return true
	}
	f.abandon()
	f.grow(partitions)
	return false
}

// here reports whether the pump has a place on this node.
func (p *pump) here() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born && !p.gone
}

// ask gets a cluster's metadata; a topic the cluster no longer has stays out.
func (l *Link) ask(ctx context.Context, c *broker.Cluster, since time.Time) (broker.Metadata, error) {
	m, err := l.shared.metadata(ctx, c, since)
	if err != nil {
		err = fmt.Errorf("ask %s for its topics: %w", c.Name(), err)
		l.trouble(c.Name(), partMetadata, err)
		return m, err
	}
	return m, nil
}

// wanted lists the source topics that this link carries for some origin.
func (l *Link) wanted(r *routing, source broker.Metadata) []string {
	var out []string
	for name, t := range source.Topics {
		if !errors.Is(t.Err, errUnknownTopic) && r.takes(l.spec, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (l *Link) flow(topic string) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flows[topic]
	if f == nil {
		f = newFlow(l, topic)
		l.flows[topic] = f
	}
	return f
}

// gone marks the pumps of topics that the source no longer has.
func (l *Link) gone(source broker.Metadata) {
	for _, f := range l.flowList() {
		if _, ok := source.Topics[f.topic]; ok {
			continue
		}
		for _, p := range f.pumpList() {
			p.wait(CauseDeleted, fmt.Sprintf("topic %s is not on %s", f.topic, l.spec.From), l.now())
		}
	}
}

// dismiss lets the pumps go whose topics the link does not take any longer.
func (l *Link) dismiss(wanted []string, source broker.Metadata) {
	for _, f := range l.flowList() {
		if _, there := source.Topics[f.topic]; there && slices.Contains(wanted, f.topic) && l.routing().as(l.spec, f.topic) == f.as {
			continue
		}
		pumps := f.pumpList()
		if _, there := source.Topics[f.topic]; there {
			for _, p := range pumps {
				p.dismiss(l.now())
			}
		}
		if !slices.ContainsFunc(pumps, (*pump).here) && (l.shared.owners != nil || !f.takes(l.routing())) {
			l.mu.Lock()
			delete(l.flows, f.topic)
			l.mu.Unlock()
		}
	}
}

// dismiss lets the pump go for good; its place is in the store.
func (p *pump) dismiss(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.born && !p.gone {
		p.leaveLocked(&leaving{to: StateElsewhere, reason: errNotTaken.Error()}, now)
	}
}

// wait takes the pump out of work until its topic and leaders are known again.
func (p *pump) wait(c Cause, reason string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone, p.owner != "" && !p.born, p.state == StatePaused, p.leaving != nil:
		return
	case p.state == StateWaiting:
		p.becomeLocked(StateWaiting, c, reason, now)
		return
	}
	p.voidLocked()
	p.becomeLocked(StateWaiting, c, reason, now)
	p.fetcher.mark(p)
}

// assign tells each pump of a flow who leads its partition on either end, and
// sets those going that have what they need.
func (l *Link) assign(ctx context.Context, g *errgroup.Group, f *flow, source, target broker.Topic) {
	l.mu.Lock()
	brokers := l.source.Brokers
	l.mu.Unlock()
	lim := f.limits()
	for i, p := range f.pumpList() {
		switch {
		case lim.blockedName != "" && i >= lim.partitions:
			p.wait(lim.cause, lim.blockedName+": "+lim.blocked, l.now())
			continue
		case !p.here():
			continue
		case source.Name == "": // it is gone, which is said already
			continue
		case i >= len(source.Partitions) || i >= len(target.Partitions):
			p.wait(CauseTopic, "partition is not there on both clusters", l.now())
			continue
		}
		s, t := source.Partitions[i], target.Partitions[i]
		if s.Leader < 0 || t.Leader < 0 {
			p.wait(CauseLeader, fmt.Sprintf("no leader (source %d, target %d)", s.Leader, t.Leader), l.now())
			continue
		}
		from := l.fetcherOf(ctx, g, p.reader(s.Leader, brokers, l.now()))
		p.led(from, l.windowOf(ctx, g, t.Leader), s.Leader, s.LeaderEpoch, t.LeaderEpoch, l.now())
		p.identified(source.ID, target.ID, l.now())
	}
}

// led takes the leaders of both ends. A changed leader or epoch makes the pump
// find its place before it writes again, also when it is idle.
func (p *pump) led(f *fetcher, w *window, leader, sourceEpoch, targetEpoch int32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.link.stopping.Load() {
		return
	}
	f, w = f.on(p.track), w.on(p.track)
	changed := p.sight.leader != leader || p.window != w || p.epochs != [2]int32{sourceEpoch, targetEpoch}
	if p.fetcher != f {
		p.fetcher.drop(p)
		p.fetcher = f
		p.fetcher.mark(p)
	}
	p.sight.leader = leader
	p.window, p.epochs = w, [2]int32{sourceEpoch, targetEpoch}
	switch {
	case p.state == StateWaiting && p.held != "":
		p.becomeLocked(StateWaiting, CauseOwner, "asking "+p.held+" for it", now)
		p.window.warm()
		p.link.shared.hand.claim(p.id, p.held, p.acked.SourceNext)
	case p.state == StateWaiting && p.out.contended && p.out.proved.IsZero():
		p.yieldLocked("another owner has just begun this partition", now)
	case p.state == StateWaiting:
		p.beginsLocked("begins", now)
	case changed && p.state == StateRunning:
		p.drainLocked(CauseLeader, "a leader changed", now)
	case changed && p.state == StateRetrying: // what it waited for may be over with the leader
		p.dueLocked(now)
	}
}

// identified compares the topics' identities with those the pump began with: one
// that was deleted and created again may have the same leader and epoch.
func (p *pump) identified(source, target [16]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var none [16]byte
	other := func(now, then [16]byte) bool { return now != none && then != none && now != then }
	if p.state == StateRunning && (other(source, p.acked.SourceTopicID) || other(target, p.acked.TargetTopicID)) {
		p.drainLocked(CauseRecreated, "a topic was deleted and created again", now)
	}
}

func (l *Link) fetcherOf(ctx context.Context, g *errgroup.Group, id int32) *fetcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fetchers[id]
	if f == nil {
		f = newFetcher(l, id)
		l.fetchers[id] = f
		for _, f := range f.both {
			g.Go(func() error { return f.run(ctx) })
		}
	}
	return f
}

func (l *Link) windowOf(ctx context.Context, g *errgroup.Group, id int32) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[id]
	if w == nil {
		w = newWindow(l, id)
		l.windows[id] = w
		for _, w := range w.both {
			g.Go(func() error { return w.run(ctx) })
		}
	}
	return w
}
