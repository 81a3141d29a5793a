package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// refreshLoop keeps the link's picture of both clusters fresh: it finds topics
// and partitions, makes them on the target, and tells pumps who leads them.
func (l *Link) refreshLoop(ctx context.Context, g *errgroup.Group) error {
	for {
		if err := l.refresh(ctx, g); err != nil && ctx.Err() == nil {
			l.log.Debug("refresh", "error", err)
		}
		t := time.NewTimer(l.cfg.RefreshEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-l.kick:
			t.Stop()
			if err := sleep(ctx, 100*time.Millisecond); err != nil { // gather what else is poked
				return nil
			}
		}
	}
}

const refreshTimeout = 15 * time.Second

// refresh is one pass. Everything it does is tried again in the next.
func (l *Link) refresh(ctx context.Context, g *errgroup.Group) error {
	call, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	source, err := l.ask(call, l.from)
	if err != nil {
		return err
	}
	target, err := l.ask(call, l.to)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.source, l.target = source, target
	opened := l.opened
	l.mu.Unlock()
	if !opened {
		if err := l.store.open(call, len(target.Brokers)); err != nil {
			l.trouble(l.spec.To, err)
			return err
		}
		l.mu.Lock()
		l.opened = true
		l.mu.Unlock()
	}
	var errs []error
	wanted := l.wanted(source)
	known := l.askSettings(call, wanted, target)
	for _, topic := range wanted {
		f := l.flow(topic)
		if err := l.ensure(call, f, source.Topics[topic], target, known); err != nil {
			errs = append(errs, err)
		}
	}
	l.gone(source)
	for _, f := range l.flowList() {
		l.assign(ctx, g, f, source.Topics[f.topic], target.Topics[f.topic])
	}
	return errors.Join(errs...)
}

// ask gets a cluster's metadata; a topic the cluster no longer has stays out.
func (l *Link) ask(ctx context.Context, c *broker.Cluster) (broker.Metadata, error) {
	m, err := c.Metadata(ctx)
	if err != nil {
		err = fmt.Errorf("ask %s for its topics: %w", c.Name(), err)
		l.trouble(c.Name(), err)
		return m, err
	}
	l.reached(c.Name())
	return m, nil
}

// wanted lists the source topics that this link carries for some origin.
func (l *Link) wanted(source broker.Metadata) []string {
	var out []string
	for name, t := range source.Topics {
		if !l.spec.Matches(name) || errors.Is(t.Err, errUnknownTopic) {
			continue
		}
		if slices.ContainsFunc(l.topo.Clusters, func(c topology.Cluster) bool { return l.carries(c.Name, name) }) {
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
			p.wait(fmt.Sprintf("topic %s is not on %s", f.topic, l.spec.From), l.now())
		}
	}
}

// wait takes the pump out of work until its topic and leaders are known again.
func (p *pump) wait(reason string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateWaiting {
		p.reason = reason
		return
	}
	p.voidLocked()
	p.becomeLocked(StateWaiting, reason, now)
	p.fetcher.mark(p)
}

// assign tells each pump of a flow who leads its partition on either end, and
// sets those going that have what they need.
func (l *Link) assign(ctx context.Context, g *errgroup.Group, f *flow, source, target broker.Topic) {
	lim := f.limits()
	for i, p := range f.pumpList() {
		switch {
		case lim.blockedName != "" && i >= lim.partitions:
			p.wait(lim.blockedName+": "+lim.blocked, l.now())
			continue
		case i >= len(source.Partitions) || i >= len(target.Partitions):
			p.wait("partition is not there on both clusters", l.now())
			continue
		}
		s, t := source.Partitions[i], target.Partitions[i]
		if s.Leader < 0 || t.Leader < 0 {
			p.wait(fmt.Sprintf("no leader (source %d, target %d)", s.Leader, t.Leader), l.now())
			continue
		}
		p.led(l.fetcherOf(ctx, g, s.Leader), l.windowOf(ctx, g, t.Leader), s.LeaderEpoch, t.LeaderEpoch, l.now())
		p.identified(source.ID, target.ID, l.now())
	}
}

// led takes the leaders of both ends. A changed leader or epoch makes the pump
// find its place before it writes again, also when it is idle.
func (p *pump) led(f *fetcher, w *window, sourceEpoch, targetEpoch int32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.fetcher != f || p.window != w || p.epochs != [2]int32{sourceEpoch, targetEpoch}
	if p.fetcher != f {
		p.fetcher.drop(p)
		p.fetcher = f
	}
	p.window, p.epochs = w, [2]int32{sourceEpoch, targetEpoch}
	switch {
	case p.state == StateWaiting:
		p.findLocked("begins", 0, now)
	case changed && p.state == StateRunning:
		p.drainLocked("a leader changed", now)
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
		p.drainLocked("a topic was deleted and created again", now)
	}
}

func (l *Link) fetcherOf(ctx context.Context, g *errgroup.Group, id int32) *fetcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fetchers[id]
	if f == nil {
		f = newFetcher(l, id)
		l.fetchers[id] = f
		g.Go(func() error { return f.run(ctx) })
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
		g.Go(func() error { return w.run(ctx) })
	}
	return w
}
