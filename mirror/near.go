package mirror

import (
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// Reading from the nearest replica (KIP-392): a node that says its rack is told by
// the leader which replica to read from instead. The leader then gives no records.
// Places are always found at the leader, and every error of a replica leads back
// to it.

const (
	// nearFor is how long a replica is read from before the leader is asked again,
	// as Kafka's consumer does (metadata.max.age.ms).
	nearFor = 5 * time.Minute
	// nearPause is for how long a link reads from leaders after a replica gave an
	// error or could not be reached: it says no rack meanwhile, or the leaders would give no records.
	nearPause = 30 * time.Second
)

// near is where a partition is read from.
type near struct {
	leader  int32     // of the source partition, by the latest metadata; -1 unknown
	replica int32     // the leader named it to read from; -1 none
	until   time.Time // it is asked again
}

func (n *near) leaveReplica() { n.replica = -1 }

// movesLocked reports that the pump waits for its fetcher to change.
func (p *pump) movesLocked() bool {
	from := p.sight.leader
	if p.sight.replica >= 0 {
		from = p.sight.replica
	}
	return p.fetcher == nil || p.fetcher.broker != from
}

// followsLocked reports that the pump reads from a replica that is not the leader.
func (p *pump) followsLocked() bool { return p.sight.replica >= 0 && !p.movesLocked() }

// sentNearLocked takes the leader's advice to read elsewhere; such an answer has
// no records.
func (p *pump) sentNearLocked(f *broker.Fetched, now time.Time) bool {
	if f.PreferredReplica < 0 || p.link.cfg.Rack == "" || p.fetcher == nil || f.PreferredReplica == p.fetcher.broker {
		return false
	}
	p.sight.replica, p.sight.until = f.PreferredReplica, now.Add(nearFor)
	p.link.poke() // the next pass gives the pump its fetcher
	return true
}

// reader is the broker to read from: the replica that the leader named, while the
// leader is the same, the cluster has the replica, and the advice is fresh.
func (p *pump) reader(leader int32, brokers map[int32]broker.Broker, now time.Time) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := &p.sight.near
	if _, alive := brokers[n.replica]; n.replica < 0 || !alive || n.leader != leader || !now.Before(n.until) {
		if n.replica >= 0 {
			n.leaveReplica()
			// It left the leader's session when it was sent away, and its fetcher may stay the same: nobody else marks it.
			p.fetcher.mark(p)
		}
		return leader
	}
	return n.replica
}

// rack is what fetches say.
func (l *Link) rack(now time.Time) string {
	if at := l.leadersUntil.Load(); at != nil && now.Before(*at) {
		return ""
	}
	return l.cfg.Rack
}

// toLeaders makes the link read from leaders for a while, and finds fetchers for the pumps that left their replicas.
// A leader that hears the rack would name the same replica again.
func (l *Link) toLeaders(now time.Time) {
	until := now.Add(nearPause)
	l.leadersUntil.Store(&until)
	l.poke()
}

// unreachable sends the pumps that read from this broker as a replica back to
// their leaders.
func (f *fetcher) unreachable(now time.Time) {
	f.mu.Lock()
	var pumps []*pump
	for p := range f.dirty {
		pumps = append(pumps, p)
	}
	f.mu.Unlock()
	for p := range f.asked {
		pumps = append(pumps, p)
	}
	any := false
	for _, p := range pumps {
		p.mu.Lock()
		if p.fetcher == f && p.followsLocked() {
			p.sight.leaveReplica()
			any = true
		}
		p.mu.Unlock()
	}
	if any {
		f.link.toLeaders(now)
	}
}
