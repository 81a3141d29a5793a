package router

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"time"
)

// Status is what an instance of a router is at one moment.
type Status struct {
	// Name is the virtual cluster's, Node who runs the instance, Listen its bootstrap and Home the name of the cluster behind it.
	Name, Node, Listen, Home string
	// Ready says that clients are served; before, they are reset.
	Ready bool
	// Troubles are what is wrong, also of one that is ready; none is nothing.
	Troubles []string
	// Heard is when the home last said who its brokers are; zero for never.
	Heard time.Time
	// Cluster is the id that clients are told.
	Cluster string
	// Sets are where the sets stand, what no set names first.
	Sets []Standing
	// Slots are what clients are told of brokers, in the order of sets and places.
	Slots []SlotStatus
	// Connections are those that are open, and Bootstrap those of them that came by Listen; Opened counts them since the start.
	Connections, Bootstrap int
	Opened                 int64
	// Refused counts connections that were not taken, by a word for why.
	Refused map[string]int64
	// IDs is how many ids for producers are left; -1 where brokers give them.
	IDs int
}

// SlotStatus is one broker of the virtual cluster.
type SlotStatus struct {
	// Set is whose slot it is; empty for what no set names.
	Set string
	// Index is its place among the slots of the set, from 0 on.
	Index int
	// ID is the broker's for clients, Broker that of the one at the set's home. There says that the home knows it now.
	ID, Broker int32
	There      bool
	// Address is what clients are told, Instance the node they are sent to, and Live that it lives.
	Address, Instance string
	Live              bool
	// Connections are those that are open at this instance, which may be others' slots.
	Connections int
}

// Status is what this instance is now. It waits for nothing.
func (r *Router) Status() Status {
	own := r.cfg.Router
	s := Status{Name: own.Name, Node: own.Node, Listen: own.Listen, Home: r.deps.Home.Name(), IDs: -1}
	s.Heard, s.Troubles = r.news.told()
	s.Sets = r.Standings()
	if r.ids != nil {
		s.IDs = r.ids.left()
	}
	r.open.mu.Lock()
	open := make(map[int]int)
	for c := range r.open.all {
		open[c.slot]++
	}
	s.Connections, s.Bootstrap, s.Refused = len(r.open.all), open[bootstrap], maps.Clone(r.open.refused)
	for _, n := range r.open.opened {
		s.Opened += n
	}
	r.open.mu.Unlock()
	p := r.now.Load()
	if s.Ready = p != nil; !s.Ready {
		return s
	}
	s.Cluster, s.Home = p.cluster, p.sides[0].cluster.Name()
	told := slices.SortedFunc(slices.Values(p.told), func(a, b told) int { return numberOf(a.set, a.index) - numberOf(b.set, b.index) })
	for _, t := range told {
		_, there := p.sides[t.set].bySlot[t.index]
		s.Slots = append(s.Slots, SlotStatus{Set: r.cfg.setName(t.set), Index: t.index, ID: t.ID, Broker: t.Node, There: there,
			Address: net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))), Instance: t.instance, Live: r.lives(t.instance), Connections: open[numberOf(t.set, t.index)]})
	}
	return s
}

// lives reports whether a node lives, as far as is known here.
func (r *Router) lives(node string) bool {
	return node == r.cfg.Router.Node || (r.deps.Live == nil || r.deps.Live.Live(node)) && !r.others.refuses(node)
}
