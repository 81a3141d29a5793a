package topology

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The bounds of looking for names that do not go together. A file with more is refused.
const (
	maxCheckedNames = 2000
	maxNameSteps    = 2_000_000
	maxNameFaults   = 20
)

// nameFault is a topic that would come under two names, or topics that would come under one. link is the one to blame.
type nameFault struct{ link, msg string }

// spot is a topic on a cluster.
type spot struct{ cluster, topic string }

func (s spot) String() string { return fmt.Sprintf("%q of %q", s.topic, s.cluster) }

// nameStep is that a link makes a topic of another.
type nameStep struct {
	from spot
	link string
}

// nameWalk follows topics over links.
type nameWalk struct {
	t      *Topology
	into   map[spot]map[nameStep]bool
	steps  int
	told   map[string]bool // by the links at fault: one example is enough
	faults []nameFault
}

// nameFaults looks for what makes names of topics impossible: one that comes to a cluster under two names, over two ways; two that
// come to be one; and one that gets longer each time it goes round. It follows the names given.
//
// That a topic comes back to its cluster under another name is none: records never come back, so what is there under it was produced
// elsewhere.
func nameFaults(t *Topology, names []string) []nameFault {
	if !slices.ContainsFunc(t.Links, func(l Link) bool { return !l.Naming.Keeps() }) {
		return nil
	}
	w := nameWalk{t: t, into: make(map[spot]map[nameStep]bool), told: make(map[string]bool)}
	for _, look := range []func(spot){w.follow, func(at spot) { w.round(at, nil, make(map[spot]bool)) }} {
		for _, c := range t.Clusters {
			for _, name := range names {
				if len(w.faults) < maxNameFaults && w.steps <= maxNameSteps {
					look(spot{c.Name, name})
				}
			}
		}
		if len(w.faults) > 0 {
			return w.faults
		}
	}
	w.meet()
	if len(w.faults) == 0 && slices.ContainsFunc(t.Links, func(l Link) bool { return l.Naming.Merges() }) {
		w.part(names)
	}
	return w.faults
}

// part looks for topics of one cluster that become one on another and then go on by different ways: nobody could tell there whose way
// a record has to go.
func (w *nameWalk) part(names []string) {
	r := w.t.routes
	for origin := range w.t.Clusters {
		first := make(map[spotOf]string) // the first of the origin's topics that is there
		for _, name := range names {
			tr := w.t.trail(int32(origin), name)
			for at, called := range tr.called {
				here := spotOf{int32(at), called}
				before, merged := first[here]
				if called == "" || at == origin {
					continue
				}
				if !merged {
					first[here] = name
					continue
				}
				other := w.t.trail(int32(origin), before)
				for _, l := range r.out[at] {
					if w.steps++; w.steps > maxNameSteps {
						w.add(r.links[l].Name, "", "too many links and names to tell whether topics part; rename on fewer links, or by fewer rules")
						return
					}
					if (tr.last[r.to[l]] == l) != (other.last[r.to[l]] == l) {
						w.add(r.links[l].Name, r.links[l].Name, "topics such as %q and %q of %q are both %q on %q, and would go on to %q by different ways; let the same links take both",
							before, name, w.t.Clusters[origin].Name, called, w.t.Clusters[at].Name, r.links[l].To)
					}
				}
			}
		}
	}
}

func (w *nameWalk) add(link, links, format string, args ...any) {
	if len(w.faults) < maxNameFaults && !w.told[links] {
		w.told[links] = true
		w.faults = append(w.faults, nameFault{link, fmt.Sprintf(format, args...)})
	}
}

// leaves gives what the links that leave a topic's cluster make of it. Beyond the bound of steps there is nothing but a fault.
func (w *nameWalk) leaves(at spot, each func(l Link, to spot) bool) {
	r := w.t.routes
	for _, i := range r.out[r.clusters[at.cluster]] {
		l := r.links[i]
		if w.steps++; w.steps > maxNameSteps {
			w.add(l.Name, "", "too many links and names to tell whether topics meet; rename on fewer links, or by fewer rules")
			return
		}
		if target, ok := w.t.TargetTopic(l, at.topic); ok && !each(l, spot{l.To, target}) {
			return
		}
	}
}

// follow goes with a topic's records from cluster to cluster. Each is entered once, and not the one where they were produced.
func (w *nameWalk) follow(origin spot) {
	called := map[string]string{origin.cluster: origin.topic}
	way := map[string][]string{}
	for queue := []string{origin.cluster}; len(queue) > 0; queue = queue[1:] {
		at := spot{queue[0], called[queue[0]]}
		w.leaves(at, func(l Link, to spot) bool {
			if w.into[to] == nil {
				w.into[to] = make(map[nameStep]bool)
			}
			w.into[to][nameStep{at, l.Name}] = true
			switch name, there := called[l.To]; {
			case !there:
				called[l.To], way[l.To] = to.topic, append(slices.Clone(way[at.cluster]), l.Name)
				queue = append(queue, l.To)
			case name == to.topic || l.To == origin.cluster:
			default:
				one, two := strings.Join(way[l.To], " "), strings.Join(append(slices.Clone(way[at.cluster]), l.Name), " ")
				w.add(l.Name, one+" "+two, "a topic such as %s would come to %q twice, as %q over %s and as %q over %s; exclude it from one of the ways, or give it one name",
					origin, l.To, name, one, to.topic, two)
			}
			return true
		})
	}
}

// round goes with a topic's name wherever links take it, and looks for a link that is used twice on one way: what it made comes to
// it again under another name.
func (w *nameWalk) round(at spot, way []string, seen map[spot]bool) {
	if seen[at] || len(w.faults) > 0 {
		return
	}
	seen[at] = true
	w.leaves(at, func(l Link, to spot) bool {
		if i := slices.Index(way, l.Name); i >= 0 && !seen[to] {
			w.add(l.Name, strings.Join(way[i:], " "), "a topic such as %q of %q would go round over %s and get another name each time; exclude the names that are made on the way, or take a link out",
				at.topic, at.cluster, strings.Join(way[i:], " "))
			return false
		}
		w.round(to, append(slices.Clone(way), l.Name), seen)
		return len(w.faults) == 0
	})
}

// meet looks for topics of different names that become one. It is as it should be where a rule says so, and where the topics are the
// same already by other links.
func (w *nameWalk) meet() {
	spots := slices.SortedFunc(maps.Keys(w.into), func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.topic, b.topic))
	})
	var joined map[spot][]spot
	for _, to := range spots {
		steps := slices.SortedFunc(maps.Keys(w.into[to]), func(a, b nameStep) int {
			return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.from.topic, b.from.topic))
		})
		for i, b := range steps[1:] {
			j := slices.IndexFunc(steps[:i+1], func(a nameStep) bool { return a.from.topic != b.from.topic && !w.merge(a, b) })
			if j < 0 {
				continue
			}
			if joined == nil {
				joined = w.joined()
			}
			a := steps[j]
			if a.from.cluster != b.from.cluster && reaches(joined, a.from, b.from, to) {
				continue
			}
			link := b.link
			if l, _ := w.t.Link(link); l.Naming.Keeps() {
				link = a.link
			}
			w.add(link, a.link+" "+b.link, "topics such as %s over %s and %s over %s would both be %s and mixed there; exclude one of them, or rename it otherwise",
				a.from, a.link, b.from, b.link, to)
			break
		}
	}
}

// merge tells whether one rule makes one of two topics.
func (w *nameWalk) merge(a, b nameStep) bool {
	x, _ := w.t.Link(a.link)
	y, _ := w.t.Link(b.link)
	one, ok := x.Naming.rule(a.from.topic)
	two, also := y.Naming.rule(b.from.topic)
	return ok && also && one == two && one.merges()
}

// joined has each topic beside those that links make of it, or made it of.
func (w *nameWalk) joined() map[spot][]spot {
	all := make(map[spot][]spot)
	for to, steps := range w.into {
		for s := range steps {
			all[to] = append(all[to], s.from)
			all[s.from] = append(all[s.from], to)
		}
	}
	return all
}

// reaches tells whether two topics are joined without a third.
func reaches(joined map[spot][]spot, from, to, without spot) bool {
	seen := map[spot]bool{from: true, without: true}
	for queue := []spot{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range joined[queue[0]] {
			if next == to {
				return true
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return false
}

// checkedNames are names to follow: such that fit the links' patterns and rules, alone and in pairs, and what rules make of them
// and made them of.
func (t *Topology) checkedNames() []string {
	var patterns Patterns
	seen := make(map[string]bool)
	add := func(p Pattern) {
		if !seen[p.text] {
			seen[p.text] = true
			patterns = append(patterns, p)
		}
	}
	for _, l := range t.Links {
		for _, p := range l.patterns() {
			add(p)
			for _, made := range l.images(p) {
				add(made)
			}
		}
	}
	names := make(map[string]bool)
	take := func(list []string) {
		for _, name := range list {
			if topicName(name) && len(names) < maxCheckedNames {
				names[name] = true
			}
		}
	}
	for _, p := range patterns {
		take(p.examples())
	}
	take(meetings(patterns))
	for round := range 2 {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			for _, l := range t.Links {
				if !l.Naming.Keeps() {
					take(l.Naming.origins(name))
					if round == 0 {
						take([]string{l.Naming.name(name)})
					}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
}

// images are patterns of what the rules make of the topics of a glob, as far as a glob can say it.
func (l Link) images(p Pattern) (made Patterns) {
	texts := []string{}
	beginning, star := head(p.text)
	if p.kind == glob && l.Naming.Prefix != "" {
		texts = append(texts, l.Naming.Prefix+p.text)
	}
	for _, r := range l.Naming.Renames {
		from, fromStar := head(r.From)
		to, toStar := head(r.To)
		if p.kind == glob && star && fromStar && toStar && strings.HasPrefix(beginning, from) {
			texts = append(texts, to+beginning[len(from):]+"*")
		}
	}
	for _, text := range texts {
		if q, err := parseTopicPattern(text); err == nil {
			made = append(made, q)
		}
	}
	return made
}

// checkNames reports the links whose names do not go together with the others', and those that would rename what has to stay.
func (r *reader) checkNames(t *Topology) {
	links, stays := r.root.list(kindLink), r.root.list(keyStay)
	at := make(map[string]int)
	for i, l := range t.Links {
		at[l.Name] = links[i].namingAt()
		if l.Naming.Keeps() {
			continue
		}
		for j, stay := range t.Stays {
			for _, p := range stay.Topics {
				if l.Topics.meet(p) && !l.excludes(p) {
					r.d.add(at[l.Name], "the link %q would rename %s, which has to stay in %s by its name, see %s; add exclude = [%q], or keep the names",
						l.Name, clip(p.text), strings.Join(stay.DCs, ", "), r.d.place(stays[j].t.pos), p.text)
				}
			}
		}
	}
	if !slices.ContainsFunc(t.Links, func(l Link) bool { return !l.Naming.Keeps() }) {
		return
	}
	for _, f := range nameFaults(t, t.checkedNames()) {
		r.d.add(at[f.link], "the link %q: %s", f.link, f.msg)
	}
}
