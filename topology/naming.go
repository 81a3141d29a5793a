package topology

import (
	"cmp"
	"slices"
	"strings"
)

// Naming is what a link calls topics on its target. The zero value keeps their names.
type Naming struct {
	// Prefix goes before each name; empty for none.
	Prefix string
	// Renames are rules for some names; what none of them is for keeps its name. Exact ones come first, then the longest, and the
	// first that fits counts.
	Renames []Rename
}

// Rename is one rule: a name, or the beginning of names and a star. Where both sides have a star, what it stands for is kept; with
// one on the left only, many topics become one.
type Rename struct{ From, To string }

// Keeps tells that the target's topics have the source's names.
func (n Naming) Keeps() bool { return n.Prefix == "" && len(n.Renames) == 0 }

// Merges tells that a rule makes many topics one.
func (n Naming) Merges() bool { return slices.ContainsFunc(n.Renames, Rename.merges) }

func (r Rename) merges() bool { return strings.HasSuffix(r.From, "*") && !strings.HasSuffix(r.To, "*") }

// String tells people what becomes of names; empty: they are kept.
func (n Naming) String() string {
	if n.Prefix != "" {
		return n.Prefix + "*"
	}
	var rules []string
	for _, r := range n.Renames {
		rules = append(rules, r.From+" → "+r.To)
	}
	return strings.Join(rules, ", ")
}

// head is what a rule's side has before its star; star is false for a whole name.
func head(side string) (head string, star bool) { return strings.CutSuffix(side, "*") }

// fits tells whether the rule is for a topic of the source.
func (r Rename) fits(source string) bool {
	from, star := head(r.From)
	return source == from || star && strings.HasPrefix(source, from)
}

// apply gives the target's name of a topic that the rule fits.
func (r Rename) apply(source string) string {
	from, _ := head(r.From)
	to, star := head(r.To)
	if star {
		return to + source[len(from):]
	}
	return to
}

// sortRenames puts rules in the order in which they count.
func sortRenames(rules []Rename) {
	slices.SortFunc(rules, func(a, b Rename) int {
		_, aStar := head(a.From)
		_, bStar := head(b.From)
		switch {
		case aStar != bStar && bStar:
			return -1
		case aStar != bStar:
			return 1
		}
		return cmp.Or(cmp.Compare(len(b.From), len(a.From)), cmp.Compare(a.From, b.From))
	})
}

// rule is the one that counts for a topic.
func (n Naming) rule(source string) (Rename, bool) {
	if i := slices.IndexFunc(n.Renames, func(r Rename) bool { return r.fits(source) }); i >= 0 {
		return n.Renames[i], true
	}
	return Rename{}, false
}

// name is what the rules call a topic, whether or not that can be a name.
func (n Naming) name(source string) string {
	if r, ok := n.rule(source); ok {
		return r.apply(source)
	}
	return n.Prefix + source
}

// origins are the names that may have become a target's, each once; of a rule that makes many one there is none, because it tells
// no names.
func (n Naming) origins(target string) (sources []string) {
	add := func(source string) {
		if n.name(source) == target && !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	if rest, ok := strings.CutPrefix(target, n.Prefix); ok {
		add(rest)
	}
	for _, r := range n.Renames {
		from, fromStar := head(r.From)
		to, toStar := head(r.To)
		switch {
		case !fromStar:
			add(from)
		case toStar && strings.HasPrefix(target, to):
			add(from + target[len(to):])
		}
	}
	return sources
}

// TargetTopic is what the link calls a topic of its source on the target; false for what it does not take. That is also a topic that
// already has the link's own prefix, because it was made by it and came back, and one whose name there would be none, or be
// Kafka's or Isthmus's own.
func (l Link) TargetTopic(source string) (target string, ok bool) {
	n := l.Naming
	if !l.Matches(source) || n.Prefix != "" && strings.HasPrefix(source, n.Prefix) {
		return "", false
	}
	target = n.name(source)
	if target != source && (!topicName(target) || Internal(target)) {
		return "", false
	}
	return target, true
}

// SourceTopic is the topic of the source that is called so on the target; false if there is none, or if there are several, or may
// be because a rule makes many topics one.
func (l Link) SourceTopic(target string) (source string, ok bool) {
	if l.merged(target) {
		return "", false
	}
	for _, name := range l.Naming.origins(target) {
		if got, takes := l.TargetTopic(name); !takes || got != target {
			continue
		}
		if ok {
			return "", false
		}
		source, ok = name, true
	}
	return source, ok
}

// merged tells whether a rule makes many topics this one.
func (l Link) merged(target string) bool {
	return slices.ContainsFunc(l.Naming.Renames, func(r Rename) bool { return r.merges() && r.To == target })
}

// Makes tells whether topics of the link's source may have that name on the target.
func (l Link) Makes(target string) bool {
	if l.merged(target) {
		return true
	}
	_, ok := l.SourceTopic(target)
	return ok
}

// Takes tells whether a link takes a topic of its source.
func (t *Topology) Takes(l Link, source string) bool {
	_, ok := t.TargetTopic(l, source)
	return ok
}

// makes tells whether the link gives a topic of its target that name, which it has not on the source.
func (l Link) makes(target string) bool {
	return l.merged(target) || slices.ContainsFunc(l.Naming.origins(target), func(source string) bool {
		got, ok := l.TargetTopic(source)
		return ok && got == target && source != target
	})
}

// TargetTopic is Link.TargetTopic among the other links: a link does not take a topic whose name a link the other way made, or each
// would make a longer name of the other's for ever; unless it gives the topic the name back that it had.
func (t *Topology) TargetTopic(l Link, source string) (target string, ok bool) {
	if target, ok = l.TargetTopic(source); !ok {
		return "", false
	}
	if t.routes == nil {
		return "", false
	}
	for _, i := range t.routes.renamers[[2]int32{t.routes.clusters[l.To], t.routes.clusters[l.From]}] {
		back := t.routes.links[i]
		if !back.makes(source) {
			continue
		}
		if was, one := back.SourceTopic(source); !one || was != target {
			return "", false
		}
	}
	return target, true
}

// topicName tells whether Kafka takes a text for the name of a topic.
func topicName(text string) bool {
	return text != "" && text != "." && text != ".." && len(text) <= maxTopicBytes &&
		!strings.ContainsFunc(text, func(r rune) bool { return !topicRune(r) })
}
