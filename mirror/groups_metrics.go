package mirror

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descGroupsPending = desc("group_positions_pending", "Positions of groups that are not alike on both sides, by what they wait for; no series for a link that keeps none.", "link", "state")
	descGroupsAge     = desc("group_pending_seconds", "For how long the oldest of the positions that are not alike has not been; 0 when there is none.", "link")
)

// groupFailed is what a position waits for that could not be asked about, set or noted.
const groupFailed GroupState = "failed"

var pendingStates = []GroupState{GroupWaits, GroupBlocked, GroupSplit, groupFailed}

// groupsPending is what of a link's groups is not alike.
type groupsPending struct {
	n     map[GroupState]int
	since time.Time // of the oldest; zero: there is none
}

// pending sums up what is to be looked at again.
func (k *groupKeeper) pending() *groupsPending {
	all := &groupsPending{n: make(map[GroupState]int)}
	for _, a := range k.again {
		if a.do == groupDelete && a.why == nil {
			continue // it waits for its time
		}
		state := groupStates[a.do]
		if a.why != nil || a.do == groupNothing || a.do == groupNote {
			state = groupFailed
		}
		all.n[state]++
		if all.since.IsZero() || a.since.Before(all.since) {
			all.since = a.since
		}
	}
	return all
}

func collectGroups(gauge func(*prometheus.Desc, float64, ...string), l *Link) {
	p := l.groupsPending.Load()
	if p == nil {
		return
	}
	for _, s := range pendingStates {
		gauge(descGroupsPending, float64(p.n[s]), l.name, string(s))
	}
	age := 0.0
	if !p.since.IsZero() {
		age = max(0, l.now().Sub(p.since).Seconds())
	}
	gauge(descGroupsAge, age, l.name)
}

// groupSet counts a position that was set.
func (m *linkMetrics) groupSet(cluster string) {
	m.all.groupsSet.WithLabelValues(m.link, cluster).Inc()
}

// groupBegin exports the count of those set at a cluster from the start.
func (m *linkMetrics) groupBegin(cluster string) { m.all.groupsSet.WithLabelValues(m.link, cluster) }
