package gossip

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// repeatLost is the time between two announcements that a node is lost.
const repeatLost = 2 * time.Second

// watch is what this node keeps of one that it watches.
type watch struct {
	started int64
	misses  int
	said    time.Time // when it last said that the node is lost; zero: it sees it
}

// watchLoop pings the nodes that this one watches.
func (p *Pool) watchLoop(ctx context.Context) error {
	watches, list := make(map[string]*watch), &watchList{}
	tick := time.NewTicker(p.cfg.Timings.Watch)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.watchOnce(watches, p.watched(list))
		case <-ctx.Done():
			return nil
		}
	}
}

// target is a node to ping.
type target struct {
	node    *memberlist.Node
	started int64
	misses  int // until it is lost
	seen    bool
}

// watchOnce pings each once, and says what changed.
func (p *Pool) watchOnce(watches map[string]*watch, targets []target) {
	var wg sync.WaitGroup
	for i := range targets {
		t := &targets[i]
		wg.Go(func() {
			_, err := p.list.Load().Ping(t.node.Name, &net.UDPAddr{IP: t.node.Addr, Port: int(t.node.Port)})
			t.seen = err == nil
		})
	}
	wg.Wait()
	for name := range watches {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.node.Name == name }) {
			delete(watches, name)
		}
	}
	for _, t := range targets {
		w := watches[t.node.Name]
		if w == nil || w.started != t.started {
			w = &watch{started: t.started}
			watches[t.node.Name] = w
		}
		p.judge(t, w)
	}
}

// judge counts one ping.
func (p *Pool) judge(t target, w *watch) {
	now := p.deps.Now()
	switch {
	case t.seen && w.said.IsZero():
		w.misses = 0
	case t.seen:
		w.misses, w.said = 0, time.Time{}
		p.say(t, false, false)
	default:
		if w.misses++; w.misses < t.misses || now.Sub(w.said) < repeatLost {
			return
		}
		first := w.said.IsZero()
		w.said = now
		b := p.say(t, true, !first)
		if first {
			p.tellAll(b)
		}
	}
}

// say makes a sighting known.
func (p *Pool) say(t target, lost, sure bool) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	s := sighting{Node: t.node.Name, Started: t.started, By: p.cfg.Started, Count: p.seen, Lost: lost, Sure: sure}
	b := packSighting(p.cfg.Name, s)
	p.said.put("seen/"+s.Node+"/"+p.cfg.Name, b)
	if _, changed := p.members.sight(p.cfg.Name, s); changed {
		p.publishLocked()
	}
	return b
}

// tellAll sends a message to every live node at once: it is rare, and gossip takes a second longer.
func (p *Pool) tellAll(b []byte) {
	var all []*memberlist.Node
	p.mu.Lock()
	for name := range p.members.peers {
		if n, _ := p.members.reach(name); n != nil && p.members.peers[name].status == Alive {
			all = append(all, n)
		}
	}
	p.mu.Unlock()
	for _, n := range all {
		_ = p.list.Load().SendBestEffort(n, b) // gossip brings it too
	}
}

// watchList is what a node watches, as long as no member comes or goes.
type watchList struct {
	turn    uint64
	targets []target
}

// watched lists the nodes that this one is to ping. It returns the list until it changes.
func (p *Pool) watched(w *watchList) []target {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.turn == p.members.turn {
		return w.targets
	}
	w.turn, w.targets = p.members.turn, nil
	for _, name := range sortedKeys(p.members.peers) {
		if p.members.peers[name].left || name == p.cfg.Name {
			continue
		}
		names := p.members.watch(name)
		if !slices.Contains(names, p.cfg.Name) {
			continue
		}
		if n, started := p.members.reach(name); n != nil {
			w.targets = append(w.targets, target{node: n, started: started, misses: missesOf(len(names))})
		}
	}
	return w.targets
}
