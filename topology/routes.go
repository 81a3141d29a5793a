package topology

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxCachedTopics bounds the names whose plan is remembered; beyond it the cache starts anew.
	maxCachedTopics = 1 << 16
	// planBudgetBytes bounds the trees of all plans together. A plan is shared by all topics that the same links match,
	// so most fabrics have a handful.
	planBudgetBytes = 64 << 20
)

// routes answers routing questions. It is pure but for a cache that nobody can see.
type routes struct {
	clusters map[string]int32
	names    map[string]int32 // link name → index in links
	links    []Link
	from, to []int32   // by link: its clusters
	out      [][]int32 // by cluster: links that leave it, ordered by name
	in       [][]int32 // by cluster: links that lead to it
	maxPlans int

	mu      sync.RWMutex
	byTopic map[string]*plan
	byLinks map[string]*plan // key: the bitmap of matching links
	renamedRoutes
}

// plan holds the routes of all topics that match the same links.
type plan struct {
	matches []byte // bitmap over links
	// trees has, by origin, the last link of the route to each cluster (noLink: there is none).
	trees []atomic.Pointer[[]int32]
}

const noLink = int32(-1)

func newRoutes(clusters []Cluster, links []Link) *routes {
	r := &routes{
		clusters:      make(map[string]int32, len(clusters)),
		names:         make(map[string]int32, len(links)),
		links:         links,
		from:          make([]int32, len(links)),
		to:            make([]int32, len(links)),
		out:           make([][]int32, len(clusters)),
		in:            make([][]int32, len(clusters)),
		byTopic:       make(map[string]*plan),
		byLinks:       make(map[string]*plan),
		renamedRoutes: renamedRoutes{renamers: make(map[[2]int32][]int32), trails: make(map[spotOf]*trail), carried: make(map[carryKey]bool)},
	}
	r.maxPlans = max(4, planBudgetBytes/(4*len(clusters)*len(clusters)+1))
	for i, c := range clusters {
		r.clusters[c.Name] = int32(i)
	}
	for i, l := range links {
		r.names[l.Name] = int32(i)
		from := r.clusters[l.From]
		r.from[i], r.to[i] = from, r.clusters[l.To]
		r.in[r.to[i]] = append(r.in[r.to[i]], int32(i))
		r.out[from] = append(r.out[from], int32(i))
		if !l.Naming.Keeps() {
			ends := [2]int32{from, r.to[i]}
			r.renamers[ends] = append(r.renamers[ends], int32(i))
		}
	}
	for _, out := range r.out {
		slices.SortFunc(out, func(a, b int32) int { return cmp.Compare(links[a].Name, links[b].Name) })
	}
	return r
}

// plan finds the plan of a topic, from the cache if it is there.
func (r *routes) plan(topic string) *plan {
	r.mu.RLock()
	p := r.byTopic[topic]
	r.mu.RUnlock()
	if p != nil {
		return p
	}
	matches := make([]byte, (len(r.links)+7)/8)
	for i, l := range r.links {
		if l.Matches(topic) {
			matches[i/8] |= 1 << (i % 8)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p = r.byLinks[string(matches)]; p == nil {
		if len(r.byLinks) >= r.maxPlans {
			clear(r.byLinks)
			clear(r.byTopic)
		}
		p = &plan{matches: matches, trees: make([]atomic.Pointer[[]int32], len(r.clusters))}
		r.byLinks[string(matches)] = p
	}
	if len(r.byTopic) >= maxCachedTopics {
		clear(r.byTopic)
	}
	r.byTopic[topic] = p
	return p
}

// tree gives the last link of the route from origin to each cluster. Two goroutines may compute it at once: they get
// the same.
func (r *routes) tree(p *plan, origin int32) []int32 {
	if t := p.trees[origin].Load(); t != nil {
		return *t
	}
	t := r.grow(p, origin)
	p.trees[origin].Store(&t)
	return t
}

// grow searches breadth first, in the order of link names. So a cluster is reached over the fewest links, and among
// equally short routes over the one whose link names, compared from the origin on, come first. A part of such a route
// is itself such a route, which makes the routes of one origin a tree.
func (r *routes) grow(p *plan, origin int32) []int32 {
	last := slices.Repeat([]int32{noLink}, len(r.clusters))
	queue := []int32{origin}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, l := range r.out[at] {
			to := r.to[l]
			if to == origin || last[to] != noLink || p.matches[l/8]&(1<<(l%8)) == 0 {
				continue
			}
			last[to] = l
			queue = append(queue, to)
		}
	}
	return last
}

// Route gives the links over which a topic's records that were first produced at origin reach target: the direct link
// if there is one, else the shortest path, ties by the names of the links compared from the origin on. Of parallel links
// that match, the first by name carries. It is nil if there is no way, if either cluster is unknown, and from a cluster
// to itself. topic is the name at the origin. The route to a cluster on the way is the beginning of the route through it.
func (t *Topology) Route(origin, target, topic string) []Link {
	r := t.routes
	if r == nil {
		return nil
	}
	from, ok := r.clusters[origin]
	if !ok {
		return nil
	}
	to, ok := r.clusters[target]
	if !ok || from == to {
		return nil
	}
	tree := r.last(t, from, topic)
	var route []Link
	for at := to; at != from; at = r.clusters[r.links[tree[at]].From] {
		if tree[at] == noLink {
			return nil
		}
		route = append(route, r.links[tree[at]])
	}
	slices.Reverse(route)
	return route
}

// last gives the last link of the route of a topic of origin to each cluster.
func (r *routes) last(t *Topology, origin int32, topic string) []int32 {
	if r.renames() {
		return t.trail(origin, topic).last
	}
	return r.tree(r.plan(topic), origin)
}

// Carries tells whether a link copies a topic's records of an origin: whether it is the last of their route to l.To. topic is the name at
// the link's source. The link is known by its name. Safe for concurrent use, without allocation once the topic was asked for.
func (t *Topology) Carries(l Link, origin, topic string) bool {
	r := t.routes
	if r == nil {
		return false
	}
	link, ok := r.names[l.Name]
	if !ok {
		return false
	}
	from, ok := r.clusters[origin]
	if !ok {
		return false
	}
	if r.renames() {
		return t.carriesNamed(link, from, topic)
	}
	return r.tree(r.plan(topic), from)[r.to[link]] == link
}
