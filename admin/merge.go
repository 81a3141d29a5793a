package admin

import (
	"cmp"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// said is what one node says about the links.
type said struct {
	node  string
	links []*adminpb.Link
}

// busy orders what nodes say about one partition: the one that does most of the work is believed. A node that only watches
// knows nothing about it.
func busy(s adminpb.State) int {
	switch s {
	case adminpb.State_STATE_RUNNING:
		return 7
	case adminpb.State_STATE_DRAINING:
		return 6
	case adminpb.State_STATE_FINDING, adminpb.State_STATE_RETRYING:
		return 5
	case adminpb.State_STATE_HALTED:
		return 4
	case adminpb.State_STATE_PAUSED:
		return 3
	case adminpb.State_STATE_WAITING:
		return 2
	case adminpb.State_STATE_YIELDED:
		return 1
	}
	return 0
}

// copies reports whether a node in this state copies the partition, or is about to.
func copies(s adminpb.State) bool { return busy(s) >= busy(adminpb.State_STATE_FINDING) }

// owns reports whether a node in this state takes the partition for its own.
func owns(s adminpb.State) bool { return busy(s) >= busy(adminpb.State_STATE_WAITING) }

// merge makes one picture of what nodes say: each partition as the node that copies it says, each link as those say that own
// some of it. It takes the messages over. The result is the same for any order of the nodes.
func merge(all []said) []*adminpb.Link {
	slices.SortFunc(all, func(a, b said) int { return cmp.Compare(a.node, b.node) })
	parts := make(map[string][]partOf)
	var names []string
	for _, s := range all {
		for _, l := range s.links {
			if parts[l.GetName()] == nil {
				names = append(names, l.GetName())
			}
			parts[l.GetName()] = append(parts[l.GetName()], partOf{s.node, l})
		}
	}
	slices.Sort(names)
	out := make([]*adminpb.Link, 0, len(names))
	for _, name := range names {
		out = append(out, mergeLink(parts[name]))
	}
	return out
}

// partOf is a link as one node says it.
type partOf struct {
	node string
	link *adminpb.Link
}

func mergeLink(parts []partOf) *adminpb.Link {
	voters := slices.DeleteFunc(slices.Clone(parts), func(p partOf) bool { return !ownsSome(p.link) })
	if len(voters) == 0 {
		voters = parts
	}
	first := voters[0].link
	l := &adminpb.Link{Name: first.GetName(), From: first.GetFrom(), To: first.GetTo(), Up: true}
	var troubles []string
	for _, v := range voters {
		if !v.link.GetUp() {
			l.Up = false
			troubles = append(troubles, "node "+v.node+": "+v.link.GetTrouble())
			if since := v.link.GetSince(); l.Since == nil || since != nil && since.AsTime().Before(l.Since.AsTime()) {
				l.Since = since
			}
		}
		if worse(v.link.GetGuarantee()) > worse(l.Guarantee) {
			l.Guarantee, l.GuaranteeWhy = v.link.GetGuarantee(), v.link.GetGuaranteeWhy()
		}
	}
	if len(parts) == 1 {
		l.Trouble = first.GetTrouble()
	} else {
		l.Trouble = strings.Join(troubles, "; ")
	}
	l.Flows = mergeFlows(voters, parts)
	return l
}

func ownsSome(l *adminpb.Link) bool {
	for _, f := range l.GetFlows() {
		for _, p := range f.GetPartitions() {
			if owns(p.GetState()) {
				return true
			}
		}
	}
	return false
}

// worse orders what nodes promise. One that has not probed yet says nothing.
func worse(g adminpb.Guarantee) int {
	return slices.Index([]adminpb.Guarantee{adminpb.Guarantee_GUARANTEE_UNSPECIFIED, adminpb.Guarantee_GUARANTEE_EXACTLY_ONCE,
		adminpb.Guarantee_GUARANTEE_UNPROVEN, adminpb.Guarantee_GUARANTEE_AT_LEAST_ONCE}, g)
}

func mergeFlows(voters, parts []partOf) []*adminpb.Flow {
	flows := make(map[string]*adminpb.Flow)
	best := make(map[string]map[int32]*adminpb.Partition)
	for _, p := range parts {
		for _, f := range p.link.GetFlows() {
			if flows[f.GetTopic()] == nil {
				flows[f.GetTopic()] = &adminpb.Flow{Topic: f.GetTopic(), As: f.GetAs()}
				best[f.GetTopic()] = make(map[int32]*adminpb.Partition)
			}
			for _, one := range f.GetPartitions() {
				one.Node = p.node
				best[f.GetTopic()][one.GetPartition()] = better(best[f.GetTopic()][one.GetPartition()], one)
			}
		}
	}
	for _, v := range voters {
		for _, f := range v.link.GetFlows() {
			if into := flows[f.GetTopic()]; into.Blocked == "" {
				into.Blocked = f.GetBlocked()
			}
		}
	}
	out := make([]*adminpb.Flow, 0, len(flows))
	for topic, f := range flows {
		for _, p := range best[topic] {
			f.Partitions = append(f.Partitions, p)
		}
		slices.SortFunc(f.Partitions, func(a, b *adminpb.Partition) int { return cmp.Compare(a.GetPartition(), b.GetPartition()) })
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *adminpb.Flow) int { return cmp.Compare(a.GetTopic(), b.GetTopic()) })
	return out
}

// better is the one of two to believe, which notes the other if that copies too. Of two that do the same, the one that began
// later is the owner, and the other one does not know yet.
func better(a, b *adminpb.Partition) *adminpb.Partition {
	if a == nil {
		return b
	}
	order := cmp.Or(cmp.Compare(busy(b.GetState()), busy(a.GetState())), b.GetSince().AsTime().Compare(a.GetSince().AsTime()), cmp.Compare(a.GetNode(), b.GetNode()))
	if order > 0 {
		a, b = b, a
	}
	if copies(a.GetState()) {
		a.Also = append(a.Also, b.GetAlso()...)
		if copies(b.GetState()) {
			a.Also = append(a.Also, b.GetNode())
		}
		slices.Sort(a.Also)
	}
	b.Also = nil
	return a
}
