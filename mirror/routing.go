package mirror

import (
	"maps"

	"github.com/isthmus-project/isthmus/topology"
)

// routing is what decides about batches: the topology with the producer ids of its clusters. All links of a set read it from
// one place, so that all see new routes at one moment. It is immutable.
type routing struct {
	topo    *topology.Topology
	ids     map[string]map[string]int64 // by source cluster and origin
	origins map[string]map[int64]string // the reverse
}

// newRouting keeps the ids of clusters that are gone: what is in flight under them still has to be known.
func newRouting(topo *topology.Topology, before *routing) *routing {
	r := &routing{topo: topo, ids: make(map[string]map[string]int64), origins: make(map[string]map[int64]string)}
	if before != nil {
		maps.Copy(r.ids, before.ids)
		maps.Copy(r.origins, before.origins)
	}
	done := make(map[string]bool)
	for _, l := range topo.Links {
		if done[l.From] {
			continue
		}
		done[l.From] = true
		ids, origins := make(map[string]int64, len(topo.Clusters)), make(map[int64]string, len(topo.Clusters))
		maps.Copy(ids, r.ids[l.From])
		maps.Copy(origins, r.origins[l.From])
		for _, c := range topo.Clusters {
			id := topo.MirrorID(c.Name, l.From)
			ids[c.Name], origins[id] = id, c.Name
		}
		r.ids[l.From], r.origins[l.From] = ids, origins
	}
	return r
}

// carries reports whether a link copies a topic's batches of some origin.
func (r *routing) carries(link topology.Link, origin, topic string) bool {
	return r.topo.Carries(link, origin, topic)
}

// as is what a link calls a topic of its source on the target; empty: by the same name, or the link does not take it.
func (r *routing) as(link topology.Link, topic string) string {
	now, ok := r.topo.Link(link.Name)
	if !ok || now.Naming.Keeps() {
		return ""
	}
	if target, ok := r.topo.TargetTopic(now, topic); ok && target != topic {
		return target
	}
	return ""
}

// pumpID names the pump of a partition of a link's source.
func (r *routing) pumpID(link topology.Link, topic string, partition int32) PumpID {
	return PumpID{From: link.From, To: link.To, Topic: topic, As: r.as(link, topic), Partition: partition}
}

// takes reports whether a link copies batches of any origin.
func (r *routing) takes(link topology.Link, topic string) bool {
	now, ok := r.topo.Link(link.Name)
	if !ok {
		return false
	}
	if _, ok := r.topo.TargetTopic(now, topic); !ok {
		return false
	}
	for _, c := range r.topo.Clusters {
		if r.carries(link, c.Name, topic) {
			return true
		}
	}
	return false
}
