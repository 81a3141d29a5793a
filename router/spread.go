package router

import (
	"cmp"
	"slices"

	"github.com/isthmus-project/isthmus/topology"
)

// spread says for each of so many slots, of which an instance has as many as its way has room for, which instance clients are sent to; false where none has the slot. Slots are dealt out in turn over all
// instances in the order of their nodes, and those of an instance that is not live over the live ones, so that no other slot moves when
// one comes or goes. If none is live, whoever says so is wrong, and all are taken to be. All instances of a data center that see the same
// nodes live say the same.
func spread(instances []topology.Router, live func(node string) bool, way func(topology.Router) way, slots int) func(slot int) (topology.Router, bool) {
	all := slices.SortedFunc(slices.Values(instances), func(a, b topology.Router) int { return cmp.Compare(a.Node, b.Node) })
	var there []topology.Router
	for _, r := range all {
		if live(r.Node) {
			there = append(there, r)
		}
	}
	if len(there) == 0 {
		there = all
	}
	at := make([]int, slots) // in all; -1 for none
	for slot := range at {
		at[slot] = pick(all, there, way, slot)
	}
	return func(slot int) (topology.Router, bool) {
		if slot < 0 || slot >= len(at) || at[slot] < 0 {
			return topology.Router{}, false
		}
		return all[at[slot]], true
	}
}

// pick is the place in all of the instance of a slot.
func pick(all, there []topology.Router, way func(topology.Router) way, slot int) int {
	usual := slot % len(all)
	has := func(r topology.Router) bool { return slot < way(r).room() }
	lives := func(r topology.Router) bool {
		return slices.ContainsFunc(there, func(o topology.Router) bool { return o.Node == r.Node })
	}
	if has(all[usual]) && lives(all[usual]) {
		return usual
	}
	for i := range there { // a slot's round, so that those of one that is gone are not all sent to the same
		if r := there[(slot/len(all)+i)%len(there)]; has(r) {
			return slices.IndexFunc(all, func(o topology.Router) bool { return o.Node == r.Node })
		}
	}
	return -1
}
