package topology

import (
	"slices"
	"strings"
)

// RoutePlan is who carries whose records, for all topics that the same links take.
type RoutePlan struct {
	// Topics are patterns of the file, or names that fit two of them, for which it is so. Of topics that fit a pattern some may go
	// otherwise: those are in another plan, by a narrower pattern or by name.
	Topics []string
	// Sample is the name that it was made for.
	Sample string
	// Routes are those of each origin, in the order of the file, to each cluster that it reaches.
	Routes []PlannedRoute
	// Carried has all links that take the topics, in the order of the file.
	Carried []Carried
	// Cycles are ways over which records would come back to where they were, each once, if every link copied everything.
	Cycles [][]string
}

// PlannedRoute is the only way of an origin's records to a target.
type PlannedRoute struct {
	Origin, Target string
	// As is what the topic is called at the target, where it is called otherwise than at the origin.
	As string
	// Links are their names from the origin on; the last one brings the records to the target.
	Links []string
}

// Carried is what a link copies.
type Carried struct {
	Link string
	// Origins are the clusters whose records it copies; none if others bring all that it could, by fewer links or by name.
	Origins []string
}

const (
	// maxPlannedTopics bounds the names that RoutePlans tries, and maxRoutePlans what it returns.
	maxPlannedTopics = 2000
	maxRoutePlans    = 100
)

// topicSample is a name that stands for a pattern.
type topicSample struct{ label, name string }

// RoutePlans gives the plan of each set of links that some topics take: of the names given, or, if there is none, of names that fit
// the file's patterns, alone, and in pairs of globs: three that meet, or a regexp and a glob, may have a plan that only a name finds. left
// counts the plans that were too many.
func (t *Topology) RoutePlans(topics ...string) (plans []RoutePlan, left int) {
	var samples []topicSample
	for _, name := range topics {
		samples = append(samples, topicSample{name, name})
	}
	if len(topics) == 0 {
		samples = t.topicSamples()
	}
	at := make(map[string]int) // by the links that take a topic
	none := make([]byte, (len(t.Links)+7)/8)
	for _, s := range samples {
		matches := slices.Clone(t.routes.plan(s.name).matches)
		if renamed := t.renamedOnTheWay(s.name); renamed != "" && !slices.Equal(matches, none) {
			matches = append(matches, renamed...)
		}
		i, known := at[string(matches)]
		switch {
		case slices.Equal(matches, none):
			continue
		case known && i >= 0 && !slices.Contains(plans[i].Topics, s.label) && s.label != "":
			plans[i].Topics = append(plans[i].Topics, s.label)
		case known:
		case len(plans) == maxRoutePlans:
			at[string(matches)] = -1
			left++
		default:
			at[string(matches)] = len(plans)
			plans = append(plans, t.routePlan(s))
		}
	}
	return plans, left
}

// renamedOnTheWay tells what becomes of a topic whose name is another somewhere; empty: it keeps its name. Topics that become different
// things are not of one plan.
func (t *Topology) renamedOnTheWay(topic string) string {
	if !t.routes.renames() {
		return ""
	}
	var all []string
	for i := range t.Clusters {
		for _, name := range t.trail(int32(i), topic).called {
			if name != "" && name != topic && !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return strings.Join(all, " ")
}

// topicSamples are names for each pattern of the links, then such that fit two, which have no label: they are named where they are
// the only ones of a plan.
func (t *Topology) topicSamples() (samples []topicSample) {
	var patterns []Pattern
	seen := make(map[string]bool)
	for _, l := range t.Links {
		for _, p := range slices.Concat(l.Topics, l.Exclude) {
			if seen[p.text] || len(samples) == maxPlannedTopics {
				continue
			}
			seen[p.text] = true
			patterns = append(patterns, p)
			if names := p.examples(); len(names) > 0 {
				samples = append(samples, topicSample{p.text, names[len(names)-1]})
			}
		}
	}
	met := meetings(patterns)
	for _, name := range met[:min(len(met), maxPlannedTopics-len(samples))] {
		samples = append(samples, topicSample{"", name})
	}
	return samples
}

// routePlan makes the plan of one topic.
func (t *Topology) routePlan(s topicSample) RoutePlan {
	p := RoutePlan{Topics: []string{s.label}, Sample: s.name}
	if s.label == "" {
		p.Topics[0] = s.name
	}
	origins := make(map[string][]string)
	for _, from := range t.Clusters {
		for _, to := range t.Clusters {
			route := t.Route(from.Name, to.Name, s.name)
			if len(route) == 0 {
				continue
			}
			r := PlannedRoute{Origin: from.Name, Target: to.Name}
			as := s.name
			for _, l := range route {
				r.Links = append(r.Links, l.Name)
				as, _ = t.TargetTopic(l, as)
			}
			if as != s.name {
				r.As = as
			}
			p.Routes = append(p.Routes, r)
			last := r.Links[len(r.Links)-1]
			origins[last] = append(origins[last], from.Name)
		}
	}
	for _, l := range t.Links {
		if l.Matches(s.name) || len(origins[l.Name]) > 0 {
			p.Carried = append(p.Carried, Carried{Link: l.Name, Origins: origins[l.Name]})
		}
	}
	p.Cycles = t.cycles(s.name)
	return p
}

// cycles gives the shortest way back for each link that has one, each cycle once, from its first link by name on.
func (t *Topology) cycles(topic string) (all [][]string) {
	for _, l := range t.Links {
		back := t.Cycle(l, topic)
		if len(back) == 0 {
			continue
		}
		cycle := []string{l.Name}
		for _, b := range back {
			cycle = append(cycle, b.Name)
		}
		first := slices.Index(cycle, slices.Min(cycle))
		all = append(all, slices.Concat(cycle[first:], cycle[:first]))
	}
	slices.SortFunc(all, slices.Compare[[]string])
	return slices.CompactFunc(all, slices.Equal[[]string])
}
