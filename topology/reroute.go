package topology

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// Reroute is a copy of one origin's records that a change would break: they reach a target by another way than those before them.
type Reroute struct {
	// Origin and Target are clusters, and Topic a topic for which it is so, real or made up.
	Origin, Target, Topic string
	// Before is the link that brings the records to the target now, After the one that would; empty for none.
	Before, After string
	// Follows: the new link begins where the old one stops, so that nothing is lost or comes twice.
	Follows bool
}

// String says what would happen, and what to do.
func (r Reroute) String() string {
	if r.After == "" {
		return fmt.Sprintf("link %q would no longer carry what was produced in %q of topics such as %q, because the way to its source is cut; "+
			"what it has not copied yet would be lost; take these topics from that link too, or wait until it has copied all and change the nodes' files", r.Before, r.Origin, r.Topic)
	}
	return fmt.Sprintf("link %q carries what was produced in %q to %q, and link %q would for topics such as %q; "+
		"what is there already would come twice, or what is under way would be lost; keep these topics on the way they have, or take them from both links first", r.Before, r.Origin, r.Target, r.After, r.Topic)
}

// maxReroutes bounds what Reroutes returns, and maxTopics the names that it looks at.
const (
	maxReroutes = 20
	maxTopics   = 20_000
)

// Reroutes are the links that would carry other origins than before. A pump goes on where it is, so what another link has
// copied until then comes again over the new one, and what an old one leaves lying is lost. It is not so where a link begins or
// ends to take a topic and no other link brings the same records, nor of those that follow: where a new link takes the place of
// a relay behind it, and the relay says where it stops.
//
// A link's patterns are tried with names that fit them, and with names that fit two of them; topics adds names that exist, of which
// the first 20 000 count.
func Reroutes(before, after *Topology, topics ...string) (found []Reroute) {
	type pair struct{ before, after *plan }
	seen := make(map[pair]bool)
	said := make(map[Reroute]bool)
	for _, topic := range slices.Concat(samples(before, after), topics[:min(len(topics), maxTopics)]) {
		if !before.routes.renames() && !after.routes.renames() {
			p := pair{before.routes.plan(topic), after.routes.plan(topic)}
			if seen[p] {
				continue // the same links take it
			}
			seen[p] = true
		}
		for _, r := range reroutesOf(before, after, topic) {
			short := r
			short.Topic = ""
			if said[short] {
				continue
			}
			said[short] = true
			if found = append(found, r); len(found) == maxReroutes {
				return found
			}
		}
	}
	return found
}

func reroutesOf(before, after *Topology, topic string) (found []Reroute) {
	for _, origin := range before.Clusters {
		for _, target := range before.Clusters {
			old, had := before.last(origin.Name, target.Name, topic)
			if !had {
				continue
			}
			now, has := after.last(origin.Name, target.Name, topic)
			r := Reroute{Origin: origin.Name, Target: target.Name, Topic: topic, Before: old.Name}
			switch {
			case has && now.From == old.From:
				continue // the same pump, whatever the link is called
			case has:
				r.After = now.Name
				r.Follows = follows(before, after, r, old, now)
			case !after.takes(old.From, old.To, topic):
				continue // that is what was wanted
			}
			found = append(found, r)
		}
	}
	return found
}

// last is the link that brings an origin's records of a topic to a cluster.
func (t *Topology) last(origin, target, topic string) (Link, bool) {
	from, known := t.routes.clusters[origin]
	to, also := t.routes.clusters[target]
	if !known || !also || from == to {
		return Link{}, false
	}
	l := t.routes.last(t, from, topic)[to]
	if l == noLink {
		return Link{}, false
	}
	return t.routes.links[l], true
}

// takes tells whether some link between two clusters takes a topic.
func (t *Topology) takes(from, to, topic string) bool {
	return slices.ContainsFunc(t.Links, func(l Link) bool { return l.From == from && l.To == to && l.Matches(topic) })
}

// maxSampled bounds the patterns that are tried in pairs, and maxSampledBytes those that are long.
const (
	maxSampled      = 200
	maxSampledBytes = 100
)

// samples are names of topics that fit the patterns of two topologies, alone and in pairs.
func samples(before, after *Topology) []string {
	var patterns []Pattern
	names := map[string]bool{"zq": true} // which only the widest patterns take
	for _, l := range slices.Concat(before.Links, after.Links) {
		for _, p := range l.patterns() {
			if slices.ContainsFunc(patterns, func(q Pattern) bool { return q.text == p.text }) {
				continue
			}
			patterns = append(patterns, p)
		}
	}
	for _, p := range patterns {
		for _, name := range p.examples() {
			names[name] = true
		}
	}
	for _, name := range meetings(patterns) {
		names[name] = true
	}
	var out []string
	for name := range names {
		if name != "" && len(name) <= maxTopicBytes {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// meetings are names that fit two of some globs.
func meetings(patterns []Pattern) (names []string) {
	short := slices.DeleteFunc(slices.Clone(patterns), func(p Pattern) bool { return p.kind != glob || len(p.text) > maxSampledBytes })
	short = short[:min(len(short), maxSampled)]
	for i, a := range short {
		for _, b := range short[:i] {
			if name, ok := meeting(a.text, b.text); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// examples are names that fit the pattern.
func (p Pattern) examples() (names []string) {
	switch p.kind {
	case literal:
		return []string{p.text}
	case glob:
		one := strings.ReplaceAll(p.text, "?", "q")
		return []string{strings.ReplaceAll(one, "*", ""), strings.ReplaceAll(one, "*", "zq")}
	}
	re, err := syntax.Parse(p.text[1:], syntax.Perl)
	if err != nil {
		return nil
	}
	for _, name := range spell(re.Simplify(), 8) {
		if p.Match(name) {
			names = append(names, name)
		}
	}
	return names
}

// spell gives some of the shortest texts that a regexp matches, at most limit.
func spell(re *syntax.Regexp, limit int) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= min(re.Rune[i+1], 'z'); r++ {
				if topicRune(r) {
					return []string{string(r)}
				}
			}
		}
		return nil
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"q"}
	case syntax.OpCapture, syntax.OpPlus:
		return spell(re.Sub[0], limit)
	case syntax.OpStar, syntax.OpQuest:
		out := append([]string{""}, spell(re.Sub[0], limit-1)...)
		return out[:min(len(out), max(limit, 1))]
	case syntax.OpAlternate:
		var out []string
		for _, sub := range re.Sub {
			out = append(out, spell(sub, limit)...)
		}
		return out[:min(len(out), limit)]
	case syntax.OpConcat:
		out := []string{""}
		for _, sub := range re.Sub {
			var longer []string
			for _, a := range out {
				for _, b := range spell(sub, limit) {
					longer = append(longer, a+b)
				}
			}
			out = longer[:min(len(longer), limit)]
		}
		return out
	case syntax.OpNoMatch:
		return nil
	}
	return []string{""} // the ends of lines and words
}

// meeting is a name that fits two globs, if there is one.
func meeting(a, b string) (name string, ok bool) {
	if !globsMeet(a, b) {
		return "", false
	}
	var out []byte
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) > 0 && a[0] == '*' && globsMeet(a[1:], b):
			a = a[1:]
		case len(b) > 0 && b[0] == '*' && globsMeet(a, b[1:]):
			b = b[1:]
		default: // both take a character; a star stays
			c := byte('q')
			for _, s := range []string{a, b} {
				if s[0] != '*' && s[0] != '?' {
					c = s[0]
				}
			}
			out = append(out, c)
			if a[0] != '*' {
				a = a[1:]
			}
			if b[0] != '*' {
				b = b[1:]
			}
		}
	}
	return string(out), true
}
