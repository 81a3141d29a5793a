package gossip

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Candidate is a node and how it stands to the work between two clusters, as the others see it.
type Candidate struct {
	Node string
	// Weight is how much of the work the node should get in proportion to the others'; a node of weight 0 or less gets none.
	Weight float64
	// Reason is why the node gets nothing; empty for one that may own.
	Reason string
}

// maxCapacity bounds what a node may say of itself.
const maxCapacity = 1e6

// costFloor is added to each way: below it nearness does not matter, because other things cost more.
const costFloor = 5 * time.Millisecond

// unmeasured stands for a round trip that a node does not know: what it has never reached is far.
const unmeasured = 2 * time.Second

// viewCache is what a view found out about itself. A view never changes, so that nothing in it gets old.
type viewCache struct {
	mu    sync.RWMutex
	pairs map[pairName]*pair
	pins  map[uint64]string // by pump
}

type pairName struct{ from, to string }

// pair is who does the work between two clusters.
type pair struct {
	nodes []ranked // by name
	why   Why
	all   []Candidate // by name; also those that get nothing
}

type ranked struct {
	name   string
	hash   uint64
	weight float64
}

// Without is the view as it would be if a node were not there.
func (v *View) Without(node string) *View {
	return &View{
		Self:    v.Self,
		Members: slices.DeleteFunc(slices.Clone(v.Members), func(m Member) bool { return m.Name == node }),
		Pins:    slices.DeleteFunc(slices.Clone(v.Pins), func(p Pin) bool { return p.Node == node }),
	}
}

// SameOwners tells whether two views give all work to the same nodes for sure, because they differ in nothing that decides it: the
// most news of a fabric are loads.
func (v *View) SameOwners(o *View) bool {
	return slices.Equal(v.Pins, o.Pins) && slices.EqualFunc(v.Members, o.Members, func(a, b Member) bool {
		x, y := a.Report, b.Report
		return a.Name == b.Name && a.Status == b.Status && (x.Started != 0) == (y.Started != 0) && x.Capacity == y.Capacity &&
			x.Ready == y.Ready && x.Draining == y.Draining && maps.EqualFunc(x.Reach, y.Reach, func(r, s Reach) bool {
			return r.Reads == s.Reads && r.Writes == s.Writes && r.RTT == s.RTT
		})
	})
}

// Candidates are all members, by name, with the weight each has for work between two clusters, or why it has none.
func (v *View) Candidates(from, to string) []Candidate { return slices.Clone(v.pair(from, to).all) }

// pair returns who does the work between two clusters; it is found once for each view.
func (v *View) pair(from, to string) *pair {
	name := pairName{from, to}
	v.cache.mu.RLock()
	p := v.cache.pairs[name]
	v.cache.mu.RUnlock()
	if p != nil {
		return p
	}
	p = v.findPair(from, to)
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	if v.cache.pairs == nil {
		v.cache.pairs = make(map[pairName]*pair)
	}
	v.cache.pairs[name] = p
	return p
}

// pinned is the node that a pump was moved to.
func (v *View) pinned(pump uint64) (string, bool) {
	if len(v.Pins) == 0 {
		return "", false
	}
	v.cache.mu.RLock()
	pins := v.cache.pins
	v.cache.mu.RUnlock()
	if pins == nil {
		pins = make(map[uint64]string, len(v.Pins))
		for _, p := range v.Pins {
			pins[p.Pump] = p.Node
		}
		v.cache.mu.Lock()
		v.cache.pins = pins
		v.cache.mu.Unlock()
	}
	node, ok := pins[pump]
	return node, ok
}

// findPair takes the first kind of nodes of which there is one.
func (v *View) findPair(from, to string) *pair {
	p := &pair{all: make([]Candidate, 0, len(v.Members)), why: Nobody}
	tiers := map[Why][]ranked{}
	best := math.Inf(1)
	for _, m := range v.Members {
		why, reason := standing(m, from, to)
		c := Candidate{Node: m.Name, Reason: reason}
		weight := capacity(m.Report)
		cost := costOf(m.Report, from, to)
		weight /= math.Pow(cost, 4)
		if why == ByHash {
			c.Weight, best = weight, min(best, cost)
		}
		if why != "" {
			tiers[why] = append(tiers[why], ranked{m.Name, nodeHash(m.Name), weight})
		}
		p.all = append(p.all, c)
	}
	for i := range p.all {
		if p.all[i].Weight > 0 {
			p.all[i].Weight *= math.Pow(best, 4) // the nearest node has its capacity as weight
		}
	}
	order := []Why{ByHash, Settling, Kept, Cut, Drained}
	if slices.ContainsFunc(v.Members, func(m Member) bool { return m.Status == Alive && m.Report.Started == 0 }) {
		order[2], order[3] = Cut, Kept // who has not said anything yet may be well
	}
	for _, why := range order {
		if len(tiers[why]) > 0 {
			p.nodes, p.why = tiers[why], why
			break
		}
	}
	slices.SortFunc(p.nodes, func(a, b ranked) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(p.all, func(a, b Candidate) int { return cmp.Compare(a.Node, b.Node) })
	return p
}

// standing is what kind of owner a node could be of work between two clusters, empty for none, and why it is no candidate.
func standing(m Member, from, to string) (Why, string) {
	r := m.Report
	source, target := r.Reach[from], r.Reach[to]
	reaches := source.Reads && target.Writes
	switch {
	case m.Status != Alive:
		return "", "is " + string(m.Status)
	case r.Started != 0 && capacity(r) == 0:
		return "", "has no capacity"
	case r.Draining && r.Started != 0 && reaches:
		return Kept, "is draining" // but better than who cannot do the work at all
	case r.Draining:
		return Drained, "is draining"
	case r.Started == 0:
		return Cut, "has not reported yet"
	case !source.Reads:
		return Cut, "does not read " + unreached(from, source)
	case !target.Writes:
		return Cut, "does not write to " + unreached(to, target)
	case !r.Ready && reaches:
		return Settling, "is not ready"
	}
	return ByHash, ""
}

func unreached(cluster string, r Reach) string {
	if r.Trouble == "" {
		return cluster
	}
	return fmt.Sprintf("%s: %s", cluster, r.Trouble)
}

// capacity is what a node says it takes; 1 before it said anything.
func capacity(r Report) float64 {
	switch {
	case r.Started == 0:
		return 1
	case !(r.Capacity > 0): // also not a number
		return 0
	}
	return min(r.Capacity, maxCapacity)
}

// costOf is how far a node is from its work, in seconds. A write waits for the target's answer, and reading runs ahead: so the
// way to the target counts most.
func costOf(r Report, from, to string) float64 {
	near := func(cluster string) time.Duration {
		rtt := r.Reach[cluster].RTT
		if rtt <= 0 || rtt > unmeasured {
			return unmeasured
		}
		return rtt
	}
	return (4*near(to) + near(from) + costFloor).Seconds()
}

// has reports whether a node is one of the pair's.
func (p *pair) has(node string) bool {
	_, ok := slices.BinarySearchFunc(p.nodes, node, func(r ranked, name string) int { return cmp.Compare(r.name, name) })
	return ok
}

// best is the first of [Rank], without the rest of it.
func (p *pair) best(pump uint64) string {
	best, least := "", math.Inf(1)
	for i := range p.nodes {
		n := &p.nodes[i]
		f := fraction(pump, n.hash)
		// A logarithm costs more than all else here, and 1 − f is never above −ln f.
		if (1-f)/n.weight > least {
			continue
		}
		if d := -math.Log(f) / n.weight; d < least {
			best, least = n.name, d
		}
	}
	return best
}
