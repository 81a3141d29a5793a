package topology

import (
	"slices"
	"strings"
)

// ways refuses links over which one position of a group would be set in two ways: what one of them sets is a move for the next, and around a
// circle the positions go lower and lower. So the links that keep one group's positions in one topic have to be a tree, in which
// two links that are each other's way back count as one.
func (r *reader) ways(links []Link, at []scope) {
	near := make(map[string][]Link) // links with groups, by either end
	for _, l := range links {
		if len(l.Groups) > 0 && l.From != l.To {
			near[l.From], near[l.To] = append(near[l.From], l), append(near[l.To], l)
		}
	}
	checked := 0
	for i, l := range links {
		if len(l.Groups) == 0 || l.From == l.To || checked > mostWays {
			continue
		}
		round := otherWay(near, l, &checked)
		if round == nil {
			continue
		}
		names := make([]string, len(round))
		for j, o := range round {
			names[j] = o.Name
		}
		r.d.add(at[i].posOf("groups"), "the link %q would keep groups that come to %s over %s as well, and each would move the other's positions; "+
			"take groups from one of these links, or name other groups there", l.Name, l.To, strings.Join(names, ", "))
		return // what it takes to open this circle may open others
	}
}

// mostWays bounds the links that are compared: some thousand links that each keep groups of their own are believed.
const mostWays = 1_000_000

// otherWay is a way between the ends of a link, without it and its way back, over links that may keep the same groups in the same topics; the
// shortest, and nil if there is none.
func otherWay(near map[string][]Link, l Link, checked *int) []Link {
	type step struct {
		at  string
		way []Link
	}
	seen := map[string]bool{l.From: true}
	for queue := []step{{at: l.From}}; len(queue) > 0; queue = queue[1:] {
		s := queue[0]
		for _, o := range near[s.at] {
			*checked++
			next := o.To
			if o.To == s.at {
				next = o.From
			}
			if seen[next] || o.From == l.From && o.To == l.To || o.From == l.To && o.To == l.From || !l.mayShareGroups(o) {
				continue
			}
			way := append(slices.Clone(s.way), o)
			if next == l.To {
				return way
			}
			seen[next] = true
			queue = append(queue, step{next, way})
		}
	}
	return nil
}

// KeepsGroup reports whether the positions of a group follow, in the topics that the link matches: one of Groups matches its id, and none of
// GroupsExclude does.
func (l Link) KeepsGroup(id string) bool { return l.Groups.Match(id) && !l.GroupsExclude.Match(id) }

// mayShareGroups reports whether both links may keep the position of one group in one topic.
func (l Link) mayShareGroups(o Link) bool {
	return slices.ContainsFunc(l.Groups, func(g Pattern) bool {
		return slices.ContainsFunc(o.Groups, func(h Pattern) bool {
			possible, _ := overlap(g, h)
			out := slices.Concat(l.GroupsExclude, o.GroupsExclude)
			return possible && !out.name(g) && !out.name(h)
		})
	}) &&
		slices.ContainsFunc(l.Topics, func(t Pattern) bool { return o.Topics.meet(t) && !l.excludes(t) && !o.excludes(t) })
}
