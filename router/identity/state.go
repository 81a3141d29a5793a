package identity

import (
	"math"
	"slices"
)

// MaxSlots bounds the slots of a set that are believed.
const MaxSlots = 1000

// Slot is one broker of the virtual cluster: its set, empty for the rest, its place among the set's ports, its id for clients, and the broker at the
// set's home that it stands for, which is that of a generation: when the home has changed a slot keeps its place and its id, and stands for nobody until it gets a
// broker of the new home. Ids are unique in the virtual cluster, places in their set, and brokers in their set and generation.
type Slot struct {
	Set        string
	Index      int
	ID, Node   int32
	Generation int64
}

// State is what the claims of one router say. The zero value is that of no claims.
type State struct {
	// Cluster is the id that clients are told; KnownCluster is false before there is a claim of it. It may be empty, where the home has none.
	Cluster      string
	KnownCluster bool
	// Slots are in the order of their claims.
	Slots []Slot
	// Block is the newest block of producer ids that somebody has.
	Block int64
}

// Apply takes the next claim in offset order, and reports whether it counts. A cluster's id counts once. A slot counts while its place,
// its id and its broker are free, or if it is one that has a broker of an older generation only. A block counts if it is above all before it.
func (s *State) Apply(c Claim) bool {
	switch c.Kind {
	case KindCluster:
		if s.KnownCluster {
			return false
		}
		s.Cluster, s.KnownCluster = c.Cluster, true
		return true
	case KindSlot:
		if c.Slot < 0 || c.Slot >= MaxSlots || !isID(c.ID) || !isID(c.Node) || c.Generation < 0 {
			return false
		}
		return s.slot(Slot{c.Set, c.Slot, c.ID, c.Node, c.Generation})
	case KindProducers:
		if c.Block <= s.Block {
			return false
		}
		s.Block = c.Block
		return true
	}
	return false
}

// slot takes a slot, or another broker for one.
func (s *State) slot(c Slot) bool {
	at := -1
	for i, o := range s.Slots {
		switch {
		case o.Set == c.Set && o.Node == c.Node && o.Generation == c.Generation:
			return false
		case o.Set == c.Set && o.Index == c.Index && o.ID == c.ID && o.Generation < c.Generation:
			at = i
		case o.ID == c.ID || o.Set == c.Set && o.Index == c.Index:
			return false
		}
	}
	s.Slots = slices.Clone(s.Slots) // who asked for the state before keeps it
	if at >= 0 {
		s.Slots[at] = c
	} else {
		s.Slots = append(s.Slots, c)
	}
	return true
}

// isID reports whether a broker may have an id; the highest one stands for nobody.
func isID(id int32) bool { return id >= 0 && id < math.MaxInt32 }

// Has reports whether a broker of the home of a generation has a slot in a set.
func (s *State) Has(set string, generation int64, node int32) bool {
	return slices.ContainsFunc(s.Slots, func(o Slot) bool { return o.Set == set && o.Node == node && o.Generation == generation })
}

// wanted are the claims for those of some brokers that have no slot, and the brokers for which there is none.
func (s *State) wanted(set string, generation int64, nodes []int32, count int) (claims []Claim, left []int32) {
	after := *s
	for _, node := range nodes {
		if after.Has(set, generation, node) {
			continue
		}
		slot, ok := after.Next(set, generation, node, count)
		if !ok {
			left = append(left, node)
			continue
		}
		c := Claim{Kind: KindSlot, Set: set, Slot: slot.Index, ID: slot.ID, Node: slot.Node, Generation: generation}
		after.Apply(c)
		claims = append(claims, c)
	}
	return claims, left
}

// Next is the slot of a set to claim for a broker, of the home of a generation, that has none: the first of count that has a broker of an older generation only, else
// the first that is free, under the broker's own id where that is free, and the lowest one otherwise. False means that all slots are taken.
func (s *State) Next(set string, generation int64, node int32, count int) (Slot, bool) {
	old := -1
	for i, o := range s.Slots {
		if o.Set == set && o.Generation < generation && o.Index < count && (old < 0 || o.Index < s.Slots[old].Index) {
			old = i
		}
	}
	if old >= 0 {
		return Slot{set, s.Slots[old].Index, s.Slots[old].ID, node, generation}, true
	}
	index := free(count, func(i int) bool {
		return slices.ContainsFunc(s.Slots, func(o Slot) bool { return o.Set == set && o.Index == i })
	})
	if index < 0 {
		return Slot{}, false
	}
	taken := func(id int) bool { return slices.ContainsFunc(s.Slots, func(o Slot) bool { return o.ID == int32(id) }) }
	id := node
	if taken(int(node)) {
		id = int32(free(len(s.Slots)+1, taken))
	}
	return Slot{set, index, id, node, generation}, true
}

// free is the first number below count that is not taken; -1 for none.
func free(count int, taken func(int) bool) int {
	for i := range count {
		if !taken(i) {
			return i
		}
	}
	return -1
}
