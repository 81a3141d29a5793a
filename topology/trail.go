package topology

import (
	"slices"
	"sync"
)

// Hop is a link of a route, and what the topic is called at its two ends.
type Hop struct {
	Link Link
	// Topic is the name at the link's source, As the one at its target.
	Topic, As string
}

// trail is where the records of one topic of one cluster come to, and under which name. It is the tree of a plan (see routes.grow) where
// links give topics other names: which links match is then known only on the way.
type trail struct {
	last   []int32  // by cluster: the last link of the route to it (noLink: there is none)
	called []string // by cluster: the topic's name there
}

// renamedRoutes is what routes know where links give topics other names.
type renamedRoutes struct {
	renamers map[[2]int32][]int32 // by ends: the links that do
	// Under the mutex of the routes:
	trails  map[spotOf]*trail // by where the topic was produced
	carried map[carryKey]bool
	// Names that stand for all, where rules make many topics one:
	exampled     sync.Once
	exampleNames []string
}

// spotOf is a topic of a cluster, by the cluster's number.
type spotOf struct {
	cluster int32
	topic   string
}

// carryKey is a question that Carries answers.
type carryKey struct {
	link, origin int32
	topic        string
}

// renames tells whether any link gives topics other names.
func (r *routes) renames() bool { return len(r.renamers) > 0 }

// maxTrails bounds the trails that are remembered: each has a name for every cluster.
const maxTrails = 1 << 14

// trail gives the trail of a topic, from the cache if it is there. Two goroutines may make it at once: they get the same.
func (t *Topology) trail(origin int32, topic string) *trail {
	r := t.routes
	key := spotOf{origin, topic}
	r.mu.RLock()
	tr := r.trails[key]
	r.mu.RUnlock()
	if tr != nil {
		return tr
	}
	tr = &trail{last: slices.Repeat([]int32{noLink}, len(r.clusters)), called: make([]string, len(r.clusters))}
	tr.called[origin] = topic
	for queue := []int32{origin}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, l := range r.out[at] {
			to := r.to[l]
			if to == origin || tr.last[to] != noLink {
				continue
			}
			if name, ok := t.TargetTopic(r.links[l], tr.called[at]); ok {
				tr.last[to], tr.called[to] = l, name
				queue = append(queue, to)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.trails) >= maxTrails {
		clear(r.trails)
	}
	r.trails[key] = tr
	return tr
}

// maxBackSteps bounds the way back from a name to those that it may have had. What links of one fabric make of one name is far less.
const maxBackSteps = 10_000

// originals are the names that a topic may have had at its origin; several where a rule makes many one, of which those stand for all, because
// what becomes one goes on alike (nameWalk.part). many: there may be more, such a rule is on the way.
func (t *Topology) originals(origin, at int32, topic string) (names []string, many bool) {
	r := t.routes
	if origin == at {
		return []string{topic}, false
	}
	steps := 0
	begin := spotOf{at, topic}
	seen := map[spotOf]bool{begin: true}
	for queue := []spotOf{begin}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		for _, i := range r.in[here.cluster] {
			l, from := r.links[i], r.from[i]
			many = many || l.merged(here.topic)
			for _, source := range t.sources(l, here.topic) {
				if steps++; steps > maxBackSteps {
					return names, many
				}
				before := spotOf{from, source}
				if target, ok := t.TargetTopic(l, source); !ok || target != here.topic || seen[before] {
					continue
				}
				seen[before] = true
				switch {
				case from != origin:
					queue = append(queue, before)
				case t.trail(origin, source).called[at] == topic:
					names = append(names, source)
				}
			}
		}
	}
	return names, many
}

// sources are names that may have become a target's; of a rule that makes many one some of each pattern that there is.
func (t *Topology) sources(l Link, target string) []string {
	names := l.Naming.origins(target)
	if !l.merged(target) {
		return names
	}
	for _, name := range t.routes.examples(t) {
		if l.Naming.name(name) == target && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// examples are names that stand for all that the links' patterns and rules tell apart.
func (r *routes) examples(t *Topology) []string {
	r.exampled.Do(func() { r.exampleNames = t.checkedNames() })
	return r.exampleNames
}

// carriesNamed is Carries where links give topics other names.
func (t *Topology) carriesNamed(link, origin int32, topic string) bool {
	r := t.routes
	key := carryKey{link, origin, topic}
	r.mu.RLock()
	carries, known := r.carried[key]
	r.mu.RUnlock()
	if known {
		return carries
	}
	if _, takes := t.TargetTopic(r.links[link], topic); takes && r.to[link] != origin {
		names, many := t.originals(origin, r.from[link], topic)
		carries = slices.ContainsFunc(names, func(name string) bool { return t.trail(origin, name).last[r.to[link]] == link })
		if len(names) == 0 && many { // of a name that no pattern tells: it goes on as if it were produced here
			carries = t.trail(r.from[link], topic).last[r.to[link]] == link
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.carried) >= maxCachedTopics {
		clear(r.carried)
	}
	r.carried[key] = carries
	return carries
}

// Hops gives the way by which records that were first produced at origin come to a topic of a cluster, with the topic's name at each
// end of each link. topic is the name at the cluster; the first hop's is the origin's. It is nil, and ok is true, from a cluster to
// itself. ok is false if there is no way, or a cluster is unknown. merged: a rule makes many topics one on the way, so that there are as many ways
// as topics, and none is given.
func (t *Topology) Hops(origin, cluster, topic string) (hops []Hop, ok, merged bool) {
	r := t.routes
	if r == nil {
		return nil, false, false
	}
	from, known := r.clusters[origin]
	to, also := r.clusters[cluster]
	if !known || !also {
		return nil, false, false
	}
	if from == to {
		return nil, true, false
	}
	name := topic
	if r.renames() {
		names, _ := t.originals(from, to, topic)
		if len(names) == 0 {
			return nil, false, false
		}
		if name = names[0]; len(names) > 1 || t.mergedOnTheWay(from, to, name) {
			return nil, true, true
		}
	}
	for _, l := range t.Route(origin, cluster, name) {
		as, takes := t.TargetTopic(l, name)
		if !takes {
			return nil, false, false
		}
		hops = append(hops, Hop{l, name, as})
		name = as
	}
	return hops, len(hops) > 0, false
}

// mergedOnTheWay tells whether a rule that makes many topics one is on the way of a topic.
func (t *Topology) mergedOnTheWay(from, to int32, topic string) bool {
	tr, r := t.trail(from, topic), t.routes
	for at := to; at != from; {
		l := tr.last[at]
		if l == noLink || r.links[l].merged(tr.called[at]) {
			return true
		}
		at = r.from[l]
	}
	return false
}

// CarriesBetween tells whether some link between two clusters carries a topic's records of an origin. topic is the name on from.
func (t *Topology) CarriesBetween(from, to, origin, topic string) bool {
	return slices.ContainsFunc(t.Links, func(l Link) bool { return l.From == from && l.To == to && t.Carries(l, origin, topic) })
}

// SameName tells whether a topic has its name everywhere, and no other becomes it: then all of that name are one, whatever links call others.
func (t *Topology) SameName(topic string) bool {
	if t.routes == nil || !t.routes.renames() {
		return true
	}
	for i := range t.Clusters {
		for _, name := range t.trail(int32(i), topic).called {
			if name != "" && name != topic {
				return false
			}
		}
	}
	return !slices.ContainsFunc(t.Links, func(l Link) bool { return l.makes(topic) })
}

// Merges tells whether a link makes a topic of its source one with others on the target.
func (l Link) Merges(source string) bool {
	r, ok := l.Naming.rule(source)
	return ok && r.merges()
}
