package router

import (
	"cmp"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/topology"
)

// picture is what clients are told and where they are taken at one moment. It is never changed.
type picture struct {
	view     *rewrite.View
	versions apis.Versions
	bySlot   map[int]broker.Broker // those that are there
	brokers  []broker.Broker       // all that are there, by id
}

// draw makes the picture of a moment. A slot whose broker is not there stays in the view, because partitions have replicas on it; a slot that no
// instance has is left out.
func draw(state identity.State, m broker.Metadata, versions apis.Versions, at func(slot int) (topology.Router, bool)) (*picture, error) {
	p := &picture{versions: versions, bySlot: make(map[int]broker.Broker)}
	var slots []rewrite.Slot
	for _, s := range state.Slots {
		r, ok := at(s.Index)
		if !ok {
			continue
		}
		host, port := address(r, s.Index)
		slots = append(slots, rewrite.Slot{ID: s.ID, Node: s.Node, Host: host, Port: port})
		if b, ok := m.Brokers[s.Node]; ok {
			p.bySlot[s.Index] = b
		}
	}
	for _, b := range m.Brokers {
		p.brokers = append(p.brokers, b)
	}
	slices.SortFunc(p.brokers, func(a, b broker.Broker) int { return cmp.Compare(a.ID, b.ID) })
	var err error
	p.view, err = rewrite.NewView(state.Cluster, slots)
	return p, err
}

// has reports whether a broker is there, at the address that it had.
func (p *picture) has(b broker.Broker) bool {
	return slices.ContainsFunc(p.brokers, func(o broker.Broker) bool { return o.ID == b.ID && o.Host == b.Host && o.Port == b.Port })
}

// without are the brokers, in the order of their ids, that have no slot.
func without(state identity.State, m broker.Metadata) (nodes []int32) {
	for id := range m.Brokers {
		if !state.Has(id) {
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes)
	return nodes
}
