package topology

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Stay is a rule of data residency: topics that no link carries to a cluster outside some data centers.
type Stay struct {
	// Topics are patterns as those of a link.
	Topics Patterns
	// DCs are data centers of clusters of the file.
	DCs []string
}

// allows tells whether the topics may be on a cluster. One whose data center nobody gave may be anywhere.
func (s Stay) allows(c Cluster) bool { return c.DC != "" && slices.Contains(s.DCs, c.DC) }

func (r *reader) stay(s scope, clusters []Cluster) Stay {
	s.only("topics", "dcs")
	stay := Stay{Topics: s.patterns("topics", `["patients-*"]`, true, parseTopicPattern)}
	there := make(map[string]bool)
	for _, c := range clusters {
		there[c.DC] = true
	}
	list, ok := s.strs("dcs", `["frankfurt", "paris"]`, true)
	for _, v := range list {
		if !r.checkName("the data center", v, label) {
			ok = false
			continue
		}
		if !there[v.text] {
			hint := "write the dc of a [[cluster]]"
			if best, ok := nearest(v.text, slices.Sorted(maps.Keys(there))); ok {
				hint = "did you mean " + strconv.Quote(best) + "?"
			}
			r.d.add(v.pos, "no cluster is in the data center %s; %s", clip(v.text), hint)
			ok = false
		}
		stay.DCs = append(stay.DCs, v.text)
	}
	if !ok {
		stay.DCs = nil // one fault is enough
	}
	return stay
}

// keep reports the links that would carry what has to stay. Patterns that may meet count as if they did: a link has to exclude
// the rule's own pattern then, so that nothing depends on the names that topics get later.
func (r *reader) keep(t *Topology, stays, links []scope) {
	for i, stay := range t.Stays {
		if len(stay.DCs) == 0 {
			continue
		}
		for j, l := range t.Links {
			to, known := t.Cluster(l.To)
			if !known || stay.allows(to) {
				continue
			}
			for _, p := range stay.Topics {
				if !l.Topics.meet(p) || l.excludes(p) {
					continue
				}
				r.d.add(links[j].blame("to", "topics", "exclude"), "the link %q would carry %s out of %s, where %s keeps it: %s; add exclude = [%q], or take the link out",
					l.Name, clip(p.text), strings.Join(stay.DCs, ", "), r.d.place(stays[i].t.pos), to.where(), p.text)
			}
		}
	}
}

// keepHomes reports the homes that topics would have where they may not be. What no set plainly names is at the router's home.
func (r *reader) keepHomes(t *Topology, stays, routers []scope) {
	for i, stay := range t.Stays {
		if len(stay.DCs) == 0 {
			continue
		}
		for j, router := range t.Routers {
			sets := routers[j].list("set")
			for k, p := range stay.parts(router) {
				if k >= 0 {
					set := router.Sets[k]
					if home, known := t.Cluster(set.Home); known && !stay.allows(home) {
						r.d.add(sets[k].blame("home", "topics"), "the set %q of router %q would give %s a home outside %s, where %s keeps it: %s; choose a home there, or other topics",
							set.Name, router.Name, clip(p.text), strings.Join(stay.DCs, ", "), r.d.place(stays[i].t.pos), home.where())
					}
				} else if home, known := t.Cluster(router.Home); known && !stay.allows(home) {
					r.d.add(routers[j].posOf("home"), "the router %q would give %s a home outside %s, where %s keeps it: %s; "+
						"choose a home there, or add a [[router.set]] with topics = [%q] and a home there",
						router.Name, clip(p.text), strings.Join(stay.DCs, ", "), r.d.place(stays[i].t.pos), home.where(), p.text)
				}
			}
		}
	}
}

// parts are the sets of a router, by number, that may have topics of the rule, each with the pattern; -1 is what no set names. What a set plainly names is of
// no set behind it.
func (s Stay) parts(router Router) iter.Seq2[int, Pattern] {
	return func(yield func(int, Pattern) bool) {
		for _, p := range s.Topics {
			taken := false
			for k, set := range router.Sets {
				if !taken && set.Topics.meet(p) && !yield(k, p) {
					return
				}
				taken = taken || set.Topics.name(p)
			}
			if !taken && !yield(-1, p) {
				return
			}
		}
	}
}

// MayBeHome returns why a set of a router, or what no set names if it is empty, must not have its home at a cluster: a rule keeps some of its topics elsewhere.
func (t *Topology) MayBeHome(router, set, cluster string) error {
	home, known := t.Cluster(cluster)
	i := slices.IndexFunc(t.Routers, func(r Router) bool { return r.Name == router })
	if !known || i < 0 {
		return nil
	}
	for _, stay := range t.Stays {
		if stay.allows(home) {
			continue
		}
		for k, p := range stay.parts(t.Routers[i]) {
			if k < 0 && set == "" || k >= 0 && t.Routers[i].Sets[k].Name == set {
				return fmt.Errorf("[[stay]] keeps %s in %s, and cluster %s", clip(p.text), strings.Join(stay.DCs, ", "), home.where())
			}
		}
	}
	return nil
}

// where says in which data center a cluster is.
func (c Cluster) where() string {
	if c.DC == "" {
		return strconv.Quote(c.Name) + " has no dc"
	}
	return strconv.Quote(c.Name) + " is in " + c.DC
}

// meet tells whether some topic may fit both the patterns and another one.
func (ps Patterns) meet(p Pattern) bool {
	return slices.ContainsFunc(ps, func(q Pattern) bool {
		possible, _ := overlap(p, q)
		return possible
	})
}
