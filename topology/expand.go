package topology

import (
	"cmp"
	"fmt"
	"slices"
)

// The short forms of a file. Each stands for links, and is replaced by them before anything else is read, so that settings, routes,
// differences and export know links only.
const (
	keyMesh = "mesh" // a link for each ordered pair of clusters
	keyHub  = "hub"  // links between one cluster and others
)

// Direction is which way the links of a [[hub]] go.
type Direction string

// The directions of a hub.
const (
	Both Direction = "both"
	In   Direction = "in"  // from the spokes to the hub
	Out  Direction = "out" // from the hub to the spokes
)

// maxExpanded bounds the links that all short forms of a file stand for: a mesh of a hundred clusters has 9 900.
const maxExpanded = 10_000

// pair is the ends of one link.
type pair struct {
	from, to *node
	// aside: it keeps no groups. The links of a mesh that do are those of its first cluster, because they have to be a tree.
	aside bool
}

// expand puts the links that short forms stand for among those of the file, in the order of their places.
func (r *reader) expand() {
	var links []*node
	for _, s := range r.root.list(keyMesh) {
		links = append(links, r.linksOf(s, r.mesh(s))...)
	}
	for _, s := range r.root.list(keyHub) {
		links = append(links, r.linksOf(s, r.hub(s))...)
	}
	if len(links) == 0 {
		return
	}
	list := r.root.t.keys[kindLink]
	switch {
	case list == nil:
		list = &node{pos: links[0].pos, key: links[0].pos, kind: kindTableSet}
		r.root.t.set(kindLink, list)
	case list.kind != kindTableSet && list.kind != kindArray:
		return // reported when it is read
	}
	list.items = append(list.items, links...)
	slices.SortStableFunc(list.items, func(a, b *node) int { return cmp.Compare(a.pos, b.pos) })
}

// mesh reads the pairs of a [[mesh]].
func (r *reader) mesh(s scope) (pairs []pair) {
	s.only(shortKeys("clusters")...)
	ends := r.ends(s, "clusters", `["eu", "us", "ap"]`)
	if n := s.t.keys["clusters"]; len(ends) == 1 && n.kind == kindArray && len(n.items) == 1 {
		r.d.add(ends[0].pos, "clusters names one cluster only; a mesh joins two or more")
	}
	if !r.fits(s, len(ends)*(len(ends)-1)) {
		return nil
	}
	for _, from := range ends {
		for _, to := range ends {
			if from != to {
				pairs = append(pairs, pair{from, to, from != ends[0] && to != ends[0]})
			}
		}
	}
	return pairs
}

// hub reads the pairs of a [[hub]]: of each spoke first the way in.
func (r *reader) hub(s scope) (pairs []pair) {
	s.only(shortKeys("hub", "spokes", "direction")...)
	hub := s.str("hub", `"eu"`, true)
	spokes := r.ends(s, "spokes", `["us", "ap"]`)
	direction := choice(s, "direction", Both, In, Out)
	if !hub.ok || !r.fits(s, 2*len(spokes)) {
		return nil
	}
	center := &node{pos: hub.pos, key: hub.pos, kind: kindString, text: hub.text, as: "hub"}
	for _, spoke := range spokes {
		if spoke.text == hub.text {
			r.d.add(spoke.pos, "spokes: %s is the hub itself; take it out", clip(hub.text))
			continue
		}
		if direction != Out {
			pairs = append(pairs, pair{from: spoke, to: center})
		}
		if direction != In {
			pairs = append(pairs, pair{from: center, to: spoke})
		}
	}
	return pairs
}

// shortKeys are the keys of a short form: its own, and what each of its links gets.
func shortKeys(own ...string) []string {
	return slices.Concat([]string{"name"}, own, fieldNames[kindLink][len(endFields):])
}

// ends reads clusters that are each named once. Whether there are such clusters is looked at link by link.
func (r *reader) ends(s scope, key, example string) (ends []*node) {
	list, _ := s.strs(key, example, true)
	seen := make(map[string]bool)
	for _, v := range list {
		if seen[v.text] {
			r.d.add(v.pos, "%s names %s twice; take one of them out", key, clip(v.text))
			continue
		}
		seen[v.text] = true
		ends = append(ends, &node{pos: v.pos, key: v.pos, kind: kindString, text: v.text, as: key})
	}
	return ends
}

// fits counts the links of short forms, and reports the form that has too many.
func (r *reader) fits(s scope, links int) bool {
	if r.expanded+links > maxExpanded {
		r.d.add(s.t.pos, "%s stands for so many links that all short forms together have more than %d; use a [[hub]] in place of a mesh, or fewer clusters", s.title, maxExpanded)
		return false
	}
	r.expanded += links
	return true
}

// linksOf writes the links of a short form as tables that stand where it stands. Settings change each by itself later, so each has
// a table of its own; the values in them are shared.
func (r *reader) linksOf(s scope, pairs []pair) (links []*node) {
	name := s.str("name", `"logs"`, false)
	if name.ok && !r.checkName("the name of "+s.title, name, identity) {
		name.ok = false
	}
	if len(pairs) == 0 {
		r.content(s, "") // for its faults
	}
	for _, p := range pairs {
		t := newTable(s.t.pos, headed)
		t.short, t.broken, t.meant = s.title, s.t.broken, s.t.meant
		t.set("from", p.from)
		t.set("to", p.to)
		if name.ok {
			full := fmt.Sprintf("%s-%s-%s", name.text, p.from.text, p.to.text)
			t.set("name", &node{pos: name.pos, key: name.pos, kind: kindString, text: full})
		}
		for _, key := range s.t.order {
			if p.aside && (key == "groups" || key == "groups_exclude") {
				continue
			}
			if slices.Contains(fieldNames[kindLink][len(endFields):], key) {
				t.set(key, s.t.keys[key])
			}
		}
		links = append(links, &node{pos: s.t.pos, key: s.t.pos, kind: kindTable, table: t})
	}
	return links
}

// entry is where a link is written: its place, and as what.
type entry struct {
	pos   int
	short string // [[mesh]] or [[hub]]; empty for a link of its own
}

// named remembers a link's name, and reports one that was given before. A short form has one such fault for each other entry.
func (r *reader) named(s scope, what string, name value) {
	now := entry{s.t.pos, s.t.short}
	before, taken := r.linkAt[name.text]
	if !taken {
		r.linkAt[name.text] = entry{name.pos, s.t.short}
		r.written[name.text] = s.title + " in " + r.d.place(s.t.pos)
		if _, set := r.d.setting(s.t.pos); set {
			r.written[name.text] = r.d.place(s.t.pos)
		}
		return
	}
	switch {
	case now.short == "" && before.short == "":
		r.d.add(name.pos, "%s %q is already taken in %s; choose another", what, name.text, r.d.place(before.pos))
	case r.tell(name.pos, before.pos):
		r.d.add(name.pos, "the link %q of this %s is already in %s, as a link of %s; take the pair out of one of them, or let them take other topics and give one a name",
			name.text, s.title, r.d.place(before.pos), cmp.Or(before.short, "its own"))
	}
}

// tell is true the first time that two places are told of.
func (r *reader) tell(a, b int) bool {
	key := [2]int{a, b}
	if r.told[key] {
		return false
	}
	r.told[key] = true
	return true
}

// once reports the links of short forms whose topics another link of the same two clusters takes too: only one of them would carry,
// by their names, and the other's rules would mean nothing. Of links of their own that is a note in the summary, see parallel.
func (r *reader) once(links []Link, at []scope) {
	short, own := make(map[[2]string][]int), make(map[[2]string][]int) // links by their ends
	for i, l := range links {
		ends := [2]string{l.From, l.To}
		others := short[ends] // two that are written out may take what they like
		if at[i].t.short != "" {
			others = slices.Concat(others, own[ends])
			slices.Sort(others)
		}
		for _, j := range others {
			other := links[j]
			if other.Name == l.Name || r.d.full() {
				continue
			}
			p, both := shared(other, l)
			if !both || !r.tell(at[i].t.pos, at[j].t.pos) {
				continue
			}
			r.d.add(at[i].t.pos, "the link %q of this %s and the link %q in %s both take %s from %q to %q; exclude it from one of them",
				l.Name, at[i].title, other.Name, r.d.place(at[j].t.pos), clip(p.text), l.From, l.To)
		}
		if at[i].t.short == "" {
			own[ends] = append(own[ends], i)
		} else {
			short[ends] = append(short[ends], i)
		}
	}
}

// shared is a pattern of topics that two links of a pair plainly both take.
func shared(a, b Link) (Pattern, bool) {
	for _, p := range a.Topics {
		for _, q := range b.Topics {
			if possible, sure := overlap(p, q); possible && sure && !a.excludes(q) && !b.excludes(p) {
				return q, true
			}
		}
	}
	return Pattern{}, false
}
