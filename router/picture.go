package router

import (
	"cmp"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/topology"
)

// picture is what clients are told and where they are taken at one moment. It is never changed.
type picture struct {
	versions apis.Versions
	cluster  string
	sides    []side // by set
	told     []told
}

// side is what a picture has of one set.
type side struct {
	generation int64
	cluster    *broker.Cluster       // the set's home
	view       *rewrite.View         // of it
	bySlot     map[int]broker.Broker // those that are there, by place
	claimed    map[int]bool          // places that clients may know, of this home or of one before
	brokers    []broker.Broker       // all that are there, by id
}

// told is what clients are told of a slot, and the node that they are sent to.
type told struct {
	set, index int
	rewrite.Slot
	instance string
}

// numberOf numbers the slots of all sets; bootstrap is -1.
func numberOf(set, index int) int { return set*identity.MaxSlots + index }

// setOf is the set of a slot; bootstrap's is what no set names.
func setOf(slot int) int { return max(slot, 0) / identity.MaxSlots }

// known is a set's name and what is known of its home.
type known struct {
	set        string
	cluster    *broker.Cluster
	generation int64 // of the home
	positions  *positions.Book
	last       broker.Metadata
}

// draw makes the picture of a moment. A slot whose broker is not there stays in the view, because partitions have replicas on it; a slot that no
// instance has is left out, and so is one that has no broker of this home yet. at says which instance serves a slot of a set.
func draw(state identity.State, homes []known, versions apis.Versions, at func(set, slot int) (topology.Router, bool)) (*picture, error) {
	p := &picture{versions: versions, cluster: state.Cluster}
	slots := make([][]rewrite.Slot, len(homes))
	for set, h := range homes {
		one := side{cluster: h.cluster, generation: h.generation, bySlot: make(map[int]broker.Broker), claimed: make(map[int]bool)}
		for _, s := range state.Slots {
			if s.Set == h.set {
				one.claimed[s.Index] = true
			}
			r, ok := at(set, s.Index)
			if s.Set != h.set || s.Generation != h.generation || !ok {
				continue
			}
			host, port := address(r, set, s.Index)
			slot := rewrite.Slot{ID: s.ID, Node: s.Node, Host: host, Port: port}
			slots[set], p.told = append(slots[set], slot), append(p.told, told{set, s.Index, slot, r.Node})
			if b, ok := h.last.Brokers[s.Node]; ok {
				one.bySlot[s.Index] = b
			}
		}
		for _, b := range h.last.Brokers {
			one.brokers = append(one.brokers, b)
		}
		slices.SortFunc(one.brokers, func(a, b broker.Broker) int { return cmp.Compare(a.ID, b.ID) })
		p.sides = append(p.sides, one)
	}
	for set := range p.sides {
		others := slices.Concat(slices.Concat(slots[:set]...), slices.Concat(slots[set+1:]...))
		var err error
		if p.sides[set].view, err = rewrite.NewView(state.Cluster, slots[set], others...); err != nil {
			return p, err
		}
		if at := homes[set].positions; at != nil {
			p.sides[set].view = p.sides[set].view.WithOffsets(at)
		}
	}
	return p, nil
}

// tells reports whether clients are told of a slot.
func (p *picture) tells(set, index int) bool {
	return slices.ContainsFunc(p.told, func(t told) bool { return t.set == set && t.index == index })
}

// count is how many brokers are there, of all homes.
func (p *picture) count() (n int) {
	for _, s := range p.sides {
		n += len(s.brokers)
	}
	return n
}

// has reports whether a broker is there, at the address that it had.
func (s side) has(b broker.Broker) bool {
	return slices.ContainsFunc(s.brokers, func(o broker.Broker) bool { return o.ID == b.ID && o.Host == b.Host && o.Port == b.Port })
}

// upstream is a broker of the home of a set.
func (s side) upstream(set int, b broker.Broker) upstream {
	return upstream{b, set, s.generation, s.cluster.Name()}
}

// gone reports whether a broker of this home, not of one before it, is not there any more.
func (s side) gone(to upstream) bool { return to.generation == s.generation && !s.has(to.Broker) }

// without are the brokers of a set's home, in the order of their ids, that have no slot.
func without(state identity.State, h known) (nodes []int32) {
	for id := range h.last.Brokers {
		if !state.Has(h.set, h.generation, id) {
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes)
	return nodes
}
