package gossip

import (
	"cmp"
	"slices"
	"time"
)

// memberlist probes each node from a random other one, so that it takes several rounds until anybody happens to probe a dead
// node, and more until the suspicion has gone around: at 150 ms round trip and 50 nodes the slowest cases need 10 s, and faster
// rounds declare living nodes dead. So each node has watchers of its own that ping it all the time: a few nodes, of different data
// centers if there are. A node counts as dead when all its watchers lost it; memberlist is asked no less, and is slower.

// watchersOf is how many watchers a node has.
const watchersOf = 3

// missesOf is how many pings in a row must stay without an answer until a watcher says that it lost a node: the fewer watchers there
// are to agree, the more. At 5 % loss one ping in ten fails.
func missesOf(watchers int) int { return 7 - min(max(watchers, 1), watchersOf) }

// sightingLife is how long a watcher's word counts; it repeats it while it is true.
const sightingLife = 7 * time.Second

// watcher is a node that may watch another one.
type watcher struct{ name, dc string }

// watchers picks those of a node: the best by rendezvous hash of each data center in turn, so that a cut between two data centers does
// not take all of them, and so that few change when a node comes or goes.
func watchers(of string, all []watcher) []string {
	type scored struct {
		watcher
		score float64
		turn  int
	}
	list := make([]scored, 0, len(all))
	whom := mix(nodeHash(of)) // once more, or a node would watch whom watches it
	for _, w := range all {
		if w.name != of {
			list = append(list, scored{watcher: w, score: fraction(whom, nodeHash(w.name))})
		}
	}
	best := func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name))
	}
	slices.SortFunc(list, best)
	turns := make(map[string]int)
	for i := range list {
		list[i].turn = turns[list[i].dc]
		turns[list[i].dc]++
	}
	slices.SortStableFunc(list, func(a, b scored) int { return cmp.Or(cmp.Compare(a.turn, b.turn), best(a, b)) })
	names := make([]string, 0, watchersOf)
	for _, s := range list[:min(watchersOf, len(list))] {
		names = append(names, s.name)
	}
	return names
}

// watching are the nodes that can watch. Those that are lost stay until membership lost them too: when many die at once, nobody
// should have to begin to watch before a death is known.
func (m *members) watching() []watcher {
	all := make([]watcher, 0, len(m.peers))
	for _, p := range m.peers {
		if m.present(p) && !p.left {
			all = append(all, watcher{p.name, p.dc})
		}
	}
	return all
}

// watch returns the watchers of a node; they stay the same until something changes who watches.
func (m *members) watch(of string) []string {
	if m.cachedAt != m.turn || m.cached == nil {
		m.cached, m.cachedAt, m.cachedAll = make(map[string][]string), m.turn, m.watching()
	}
	names, ok := m.cached[of]
	if !ok {
		names = watchers(of, m.cachedAll)
		m.cached[of] = names
	}
	return names
}

// quorum is how much has to be said against a node that has so many watchers. One word is not enough: at 5 % loss every few minutes
// somewhere a watcher is wrong, and behind a cut of one direction all watchers of a data center are.
func quorum(watchers int) int { return min(2, watchers) }

// lost is whether all that watch a node lost it. A watcher that is lost by others is not waited for: it may be gone with the node. Once
// lost, a node is until a watcher sees it again, or membership does: others may begin to watch it meanwhile.
func (m *members) lost(p *peer) bool {
	against := m.against(p)
	if against == 0 || p.name == m.self {
		p.gone = false
		return false
	}
	// Where one data center alone goes on saying so, the word that others see the node again may have been lost.
	if p.gone = p.gone && !m.oneSided(p); p.gone {
		return true
	}
	names := m.watch(p.name)
	if against < quorum(len(names)) {
		return false
	}
	need := 1
	for _, name := range names {
		if name != m.self && m.word(p, name) == 0 && (m.voices(m.peers[name]) < quorum(len(m.watch(name))) || m.oneSided(m.peers[name])) {
			need = 2 // if this one is not waited for on the word of one, or of one data center, the others have to be sure
		}
	}
	for _, name := range names {
		accused := name != m.self && m.against(m.peers[name]) >= quorum(len(m.watch(name)))
		if w := m.word(p, name); w < need && (w > 0 || !accused) {
			return false
		}
	}
	p.gone = true
	return true
}

// word is the weight of what one watcher says against a node: 0 to 2.
func (m *members) word(p *peer, by string) int {
	s, ok := p.seen[by]
	switch {
	case !ok, !s.Lost, s.Started != p.started, m.now().Sub(s.at) >= sightingLife:
		return 0
	case s.Sure:
		return 2
	}
	return 1
}

// voices counts who says something against a node.
func (m *members) voices(p *peer) (n int) {
	for by := range p.seen {
		n += min(1, m.word(p, by))
	}
	return n
}

// oneSided reports whether all that is said against a node comes from one data center, though it has watchers in others: behind a cut of
// one direction all of a data center say so.
func (m *members) oneSided(p *peer) bool {
	from := ""
	for by := range p.seen {
		w := m.peers[by]
		if w == nil || m.word(p, by) == 0 {
			continue
		}
		if from != "" && w.dc != from {
			return false
		}
		from = w.dc
	}
	for _, name := range m.watch(p.name) {
		if w := m.peers[name]; w != nil && w.dc != from && w.dc != p.dc {
			return true
		}
	}
	return false
}

// against sums up what is said against a node.
func (m *members) against(p *peer) (sum int) {
	for by := range p.seen {
		sum += m.word(p, by)
	}
	return sum
}

// sight takes a watcher's word over. It returns whether it was news, and whether a status changed.
func (m *members) sight(by string, s sighting) (news, changed bool) {
	p, w := m.peers[s.Node], m.peers[by]
	if p == nil || w == nil || p.started != s.Started || w.started != s.By || s.Node == m.self {
		return false, false
	}
	old, ok := p.seen[by]
	if ok && old.By == s.By && old.Count >= s.Count {
		return false, false
	}
	p.seen[by] = sightingBy{s, m.now()}
	p.gone = p.gone && s.Lost
	return true, m.settleAll()
}

// settleAll works out every status: what one watcher says of another one can decide about a third node.
func (m *members) settleAll() bool {
	changed := false
	for _, p := range m.peers {
		if p.started != 0 && m.settle(p) {
			changed = true
		}
	}
	return changed
}
