package topology

import (
	"slices"
	"time"
)

// Failover is a home that is left without anybody's asking when it is dead.
type Failover struct {
	// FailoverTo is the cluster that takes its place; empty: people decide.
	FailoverTo string
	// FailoverAfter is for how long a majority of the data centers must not reach the home, without a break.
	FailoverAfter time.Duration
}

const (
	// usualFailoverAfter is longer than a broker takes to come back from an ordinary election, and as short as clients wait patiently.
	usualFailoverAfter = 5 * time.Second
	// leastFailoverAfter is a few probes.
	leastFailoverAfter = 2 * time.Second
	// leastSites is how many data centers can tell a dead one from a link that is cut.
	leastSites = 3
)

// LeavesDead is what is done by itself about a dead home of a set; of what no set names if set is empty.
func (r Router) LeavesDead(set string) Failover { return r.lossesOf(set).Failover }

// DCs are the data centers that have nodes, in order: those that can say whether a cluster is reached.
func (t *Topology) DCs() (all []string) {
	for _, n := range t.Nodes {
		if n.DC != "" && !slices.Contains(all, n.DC) {
			all = append(all, n.DC)
		}
	}
	slices.Sort(all)
	return all
}

// failover reads what is to be done by itself.
func (r *reader) failover(s scope, t *Topology) (out Failover) {
	if s.t.keys["failover_to"] == nil {
		if s.t.keys["failover_after"] != nil {
			r.d.add(s.posOf("failover_after"), "failover_after says for how long a home is dead before it is left; write failover_to = \"us\" as well")
		}
		return Failover{}
	}
	to := r.end(s, "failover_to", `"us"`)
	if !to.ok {
		return Failover{}
	}
	out = Failover{to.text, s.duration("failover_after", `"5s"`, usualFailoverAfter)}
	if out.FailoverAfter < leastFailoverAfter {
		r.d.add(s.posOf("failover_after"), "failover_after is %v; write %v or more, so that one lost probe moves nobody", out.FailoverAfter, leastFailoverAfter)
	}
	if n := len(t.DCs()); n < leastSites {
		r.d.add(to.pos, "failover_to needs nodes in three data centers or more, a majority of which must say that a home is dead, and the nodes name %d; with two nobody can tell it from a link that is cut: "+
			"add a node in another data center as a witness, or leave it to people", n)
	}
	return out
}
