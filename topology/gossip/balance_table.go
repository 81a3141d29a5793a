package gossip

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// table is what a view says of loads, in the form that the balancer needs, and what it makes of the pins.
type table struct {
	nodes  []*balanced // that take work, by name
	groups map[uint64][]*pair
	pins   map[uint64]string
	steady bool // every member may own all that there is
}

// balanced is a node and its load.
type balanced struct {
	name  string
	load  float64 // bytes/s
	share float64 // of the whole load, by its weights
	heavy []Load  // the largest first
}

// ratio is the load of a node that got some more bytes, as a multiple of its share.
func (n *balanced) ratio(more float64) float64 {
	switch load := n.load + more; {
	case n.share > 0:
		return load / n.share
	case load > 0:
		return math.Inf(1)
	}
	return 1
}

func (n *balanced) lags() bool {
	return slices.ContainsFunc(n.heavy, func(l Load) bool { return l.Lagging })
}

// newTable reads a view. What a node says of its load is believed only as far as it can be true.
func newTable(r Round) *table {
	t := &table{groups: make(map[uint64][]*pair), pins: make(map[uint64]string), steady: true}
	for _, l := range r.Links {
		bits, p := pairOf(PumpHash(l.From, l.To, "", 0)), r.View.pair(l.From, l.To)
		if !slices.Contains(t.groups[bits], p) {
			t.groups[bits] = append(t.groups[bits], p)
		}
		t.steady = t.steady && p.why == ByHash && len(p.nodes) == len(p.all)
	}
	for _, p := range r.View.Pins[:min(len(r.View.Pins), MaxPins)] {
		t.pins[p.Pump] = p.Node
	}
	seen := make(map[uint64]int) // how many nodes say that they have it: a pump on the move is left alone
	for _, m := range r.View.Members {
		if m.Status != Alive || !m.Report.Ready || m.Report.Draining {
			continue
		}
		n := &balanced{name: m.Name, load: honest(m.Report.Bytes)}
		for _, l := range m.Report.Heavy {
			if l.Bytes = honest(l.Bytes); seen[l.Pump] >= 0 {
				n.heavy = append(n.heavy, l)
				seen[l.Pump]++
			}
		}
		t.nodes = append(t.nodes, n)
	}
	for _, n := range t.nodes {
		sum := 0.0
		for _, l := range n.heavy {
			sum += l.Bytes
		}
		n.load = max(n.load, sum)
		t.spread(n, sum)
		n.heavy = slices.DeleteFunc(n.heavy, func(l Load) bool { return seen[l.Pump] > 1 })
		slices.SortFunc(n.heavy, func(a, b Load) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Pump, b.Pump)) })
	}
	slices.SortFunc(t.nodes, func(a, b *balanced) int { return strings.Compare(a.name, b.name) })
	return t
}

func honest(bytes float64) float64 {
	if !(bytes > 0) || bytes > 1e15 { // also not a number
		return 0
	}
	return bytes
}

// spread adds a node's load to the shares of all that may do it. The pumps that a node does not name are taken to be of the same links as
// those that it names.
func (t *table) spread(n *balanced, named float64) {
	byGroup := make(map[uint64]float64)
	for _, l := range n.heavy {
		byGroup[pairOf(l.Pump)] += l.Bytes
	}
	if named <= 0 {
		n.share += n.load
		return
	}
	for bits, bytes := range byGroup {
		bytes *= n.load / named
		whole := 0.0
		for _, other := range t.nodes {
			whole += t.weight(bits, other.name)
		}
		if whole <= 0 { // a link that is not there, or that nobody can do: it stays where it is
			n.share += bytes
			continue
		}
		for _, other := range t.nodes {
			other.share += bytes * t.weight(bits, other.name) / whole
		}
	}
}

// weight is what a node weighs for a group of pumps; 0 if it may not have them.
func (t *table) weight(bits uint64, node string) float64 {
	pairs := t.groups[bits]
	for _, p := range pairs {
		if p.why != ByHash || !p.has(node) {
			return 0
		}
	}
	if len(pairs) == 0 {
		return 0
	}
	i := slices.IndexFunc(pairs[0].nodes, func(r ranked) bool { return r.name == node })
	return pairs[0].nodes[i].weight
}

func (t *table) allows(pump uint64, node string) bool { return t.weight(pairOf(pump), node) > 0 }

// home is where a pump would be without a pin.
func (t *table) home(pump uint64) string {
	pairs := t.groups[pairOf(pump)]
	if len(pairs) != 1 {
		return ""
	}
	return pairs[0].best(pump)
}

// mayPin reports whether there is room for a pin of a pump.
func (t *table) mayPin(pump uint64) bool {
	_, has := t.pins[pump]
	return has || len(t.pins) < MaxPins
}

// move changes the pins, and the loads as far as they are known.
func (t *table) move(from *balanced, l Load, to *balanced) {
	if t.home(l.Pump) == to.name {
		delete(t.pins, l.Pump)
	} else {
		t.pins[l.Pump] = to.name
	}
	from.load, to.load = from.load-l.Bytes, to.load+l.Bytes
	from.heavy = slices.DeleteFunc(slices.Clone(from.heavy), func(o Load) bool { return o.Pump == l.Pump })
}

// unpin lets some pumps go home that no node names among its heaviest: they matter least, and others need their pins.
func (t *table) unpin() (moves []Move) {
	light := make(map[uint64]bool, len(t.pins))
	for pump := range t.pins {
		light[pump] = true
	}
	for _, n := range t.nodes {
		for _, l := range n.heavy {
			delete(light, l.Pump)
		}
	}
	for _, pump := range slices.Sorted(maps.Keys(light)) {
		if len(moves) == movesAtOnce/2 {
			break
		}
		moves = append(moves, Move{Pump: pump, From: t.pins[pump], To: t.home(pump), Why: "there is no room for its pin"})
		delete(t.pins, pump)
	}
	return moves
}

// byRatio are the nodes, the one with the most for its share first.
func (t *table) byRatio() []*balanced {
	all := slices.Clone(t.nodes)
	slices.SortStableFunc(all, func(a, b *balanced) int { return cmp.Compare(b.ratio(0), a.ratio(0)) })
	return all
}

// able says who may own what.
func (t *table) able() string {
	var b strings.Builder
	bits := make([]uint64, 0, len(t.groups))
	for g := range t.groups {
		bits = append(bits, g)
	}
	slices.Sort(bits)
	for _, g := range bits {
		for _, n := range t.nodes {
			if w := t.weight(g, n.name); w > 0 {
				fmt.Fprintf(&b, "%x %q %g\n", g, n.name, w)
			}
		}
	}
	return b.String()
}
