package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Difference is one thing that a change makes different.
type Difference struct {
	// Kind is link, cluster, router, stay, pause, drain or log; fabric, node and admin are of the file only, see Plan.
	Kind string
	// Name of what changes, and Field of it; Field is empty where all of it comes or goes.
	Name, Field string
	// Old and New are in TOML; empty where there was, or will be, nothing of the file's own.
	Old, New string
	// Links are those that it touches, and Topics patterns of their topics; none where it touches no link, or no topic.
	Links, Topics []string
	// Destructive: something stops being copied, is copied from elsewhere, or may go where it could not.
	Destructive bool
}

// String gives the difference in a line.
func (d Difference) String() string {
	what := d.Kind
	if d.Name != "" {
		what += " " + d.Name
	}
	if d.Field != "" {
		what += " " + d.Field
	}
	switch {
	case d.Old == "" && d.New == "":
		return what
	case d.Old == "":
		return what + ": " + d.New
	case d.New == "":
		return what + ": no longer " + d.Old
	}
	return what + ": " + d.Old + " becomes " + d.New
}

// Diff tells what a second topology of the same fabric has otherwise than a first: clusters, links, routers, then the rules. What
// comes or goes is one difference; nodes and the admin API are left out.
func Diff(before, after *Topology) (all []Difference) {
	for _, kind := range []string{kindCluster, kindLink, kindRouter} {
		old, now := before.things(kind), after.things(kind)
		for _, name := range union(old, now) {
			all = append(all, diffThing(kind, name, old, now, before, after)...)
		}
	}
	if old, now := before.stays(), after.stays(); old != now {
		d := Difference{Kind: keyStay, Old: old, New: now}
		for _, s := range slices.Concat(before.Stays, after.Stays) {
			d.Topics = append(d.Topics, s.Topics.Strings()...)
		}
		d.Topics = distinct(d.Topics)
		d.Destructive = slices.ContainsFunc(before.Stays, func(s Stay) bool { return !slices.ContainsFunc(after.Stays, s.same) })
		all = append(all, d)
	}
	return all
}

func (s Stay) same(o Stay) bool { return s.fields().inline() == o.fields().inline() }

func diffThing(kind, name string, old, now map[string]fields, before, after *Topology) (all []Difference) {
	was, had := old[name]
	is, has := now[name]
	touched := distinct(append(before.topicsOf(kind, name), after.topicsOf(kind, name)...))
	links := distinct(append(before.linksOf(kind, name), after.linksOf(kind, name)...))
	switch {
	case !had:
		return []Difference{{Kind: kind, Name: name, New: is.inline(), Links: links, Topics: touched}}
	case !has:
		return []Difference{{Kind: kind, Name: name, Old: was.inline(), Links: links, Topics: touched, Destructive: true}}
	}
	for _, f := range fieldNames[kind] {
		a, b := was.get(f), is.get(f)
		if a == b {
			continue
		}
		d := Difference{Kind: kind, Name: name, Field: f, Old: a, New: b, Links: links, Topics: touched}
		switch kind + "/" + f {
		case "link/topics", "link/exclude":
			one, _ := before.Link(name)
			two, _ := after.Link(name)
			x, y := one.Topics, two.Topics
			if f == "exclude" {
				x, y = two.Exclude, one.Exclude // what is excluded no more is new
			}
			lost, won := without(x, y), without(y, x)
			d.Topics, d.Destructive = distinct(append(lost, won...)), len(lost) > 0
		case "link/groups", "link/groups_exclude":
			d.Topics = nil
		case "link/naming", "link/prefix", "link/rename":
			d.Topics, d.Destructive = nil, true // the copies may go to any topic
		case "link/from", "link/to", "cluster/bootstrap", "cluster/embedded", "router/home", "router/set":
			d.Destructive = true
		case "link/deleted", "link/groups_deleted", "link/poison":
			d.Destructive = losesBy(f, b)
		}
		all = append(all, d)
	}
	return all
}

// without are the patterns of a that b has not.
func without(a, b Patterns) (out []string) {
	for _, p := range a {
		if !slices.Contains(b.Strings(), p.text) {
			out = append(out, p.text)
		}
	}
	return out
}

func distinct(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

// things are the fields of all things of a kind, by what settings call them.
func (t *Topology) things(kind string) map[string]fields {
	out := make(map[string]fields)
	switch kind {
	case kindCluster:
		for _, c := range t.Clusters {
			out[c.Name] = c.fields()
		}
	case kindLink:
		for _, l := range t.Links {
			out[l.Name] = l.fields()
		}
	case kindRouter:
		for _, r := range t.Routers {
			out[r.instance()] = r.fields()
		}
	}
	return out
}

func union(a, b map[string]fields) (names []string) {
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		names = append(names, name)
	}
	return distinct(names)
}

// linksOf are the links that a thing has to do with.
func (t *Topology) linksOf(kind, name string) (links []string) {
	for _, l := range t.Links {
		if kind == kindLink && l.Name == name || kind == kindCluster && (l.From == name || l.To == name) {
			links = append(links, l.Name)
		}
	}
	return links
}

// topicsOf are patterns of the topics that a thing has to do with.
func (t *Topology) topicsOf(kind, name string) (topics []string) {
	if kind == kindRouter && t.things(kind)[name] != nil {
		return []string{"*"}
	}
	for _, name := range t.linksOf(kind, name) {
		l, _ := t.Link(name)
		topics = append(topics, l.Topics.Strings()...)
	}
	return topics
}

// ownNotes tells what two files of one fabric say differently about what belongs to each node's own file.
func ownNotes(mine, wanted *Topology) (notes []string) {
	const advice = "is of each node's own file: change the files and restart the nodes"
	if mine.Fabric.fields().inline() != wanted.Fabric.fields().inline() {
		notes = append(notes, "[fabric] differs, but for its name; it "+advice)
	}
	old, now := make(map[string]fields), make(map[string]fields)
	for _, n := range mine.Nodes {
		old[n.Name] = n.fields()
	}
	for _, n := range wanted.Nodes {
		now[n.Name] = n.fields()
	}
	for _, name := range union(old, now) {
		switch {
		case old[name] == nil:
			notes = append(notes, fmt.Sprintf("node %s is only in the wanted file; a node %s", name, advice))
		case now[name] == nil:
			notes = append(notes, fmt.Sprintf("node %s is not in the wanted file; a node %s", name, advice))
		case old[name].inline() != now[name].inline():
			notes = append(notes, fmt.Sprintf("node %s differs; a node %s", name, advice))
		}
	}
	admin := func(a Admin) string {
		parts := []string{a.fields().inline()}
		for _, i := range a.Identities {
			parts = append(parts, i.fields().inline())
		}
		return strings.Join(parts, "\n")
	}
	if admin(mine.Admin) != admin(wanted.Admin) {
		notes = append(notes, "[admin] differs; it "+advice)
	}
	if len(notes) > maxNotes {
		notes = append(notes[:maxNotes], "and more")
	}
	return notes
}

// compareSettings orders settings by their keys.
func compareSettings(a, b Setting) int { return cmp.Compare(a.Key, b.Key) }
