package topology

import "fmt"

// follows reports whether a change of way may be made live: an origin's records came to a target over a relay, and come over a link from before
// it on the same way, that has not taken the topic until now, and by one name everywhere. Then the new link begins where the relay stopped. The relay has to keep the topic
// and its own source, because it gives the records up itself, and knows from there where that is.
func follows(before, after *Topology, r Reroute, old, now Link) bool {
	if !before.SameName(r.Topic) || !after.SameName(r.Topic) {
		return false
	}
	if now.To != old.To || !after.takes(old.From, old.To, r.Topic) || before.takes(now.From, now.To, r.Topic) {
		return false
	}
	way := before.Route(r.Origin, r.Target, r.Topic)
	for i, l := range way {
		if l.From != now.From {
			continue
		}
		toRelay := way[i : len(way)-1] // of which the last brings the records to the relay
		return len(toRelay) > 0 && sameWay(way[:i], after.Route(r.Origin, now.From, r.Topic)) &&
			sameWay(toRelay, after.Route(now.From, old.From, r.Topic))
	}
	return false
}

// sameWay reports whether two ways pass the same clusters.
func sameWay(a, b []Link) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].From != b[i].From || a[i].To != b[i].To {
			return false
		}
	}
	return true
}

// note says what a change of way comes to that may be made live.
func (r Reroute) note() string {
	return fmt.Sprintf("link %q brings what was produced in %q to %q from now on, for topics such as %q: it begins where link %q stops, so that nothing is lost or comes twice",
		r.After, r.Origin, r.Target, r.Topic, r.Before)
}
