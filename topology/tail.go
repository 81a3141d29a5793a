package topology

import (
	"cmp"
	"fmt"
)

// Losses is what is done about a cluster that is lost, or cannot be reached.
type Losses struct {
	// Isolated is what an instance does where it cannot know which cluster is the home. Empty in a set: as its router's.
	Isolated Isolation
	// Tail is what becomes of what a lost home had that was not at the next one, when it comes back. Empty in a set: as its router's.
	Tail TailPolicy
	// Failover says whether a home that is dead is left by itself. Zero in a set: as its router's.
	Failover
}

// TailPolicy is what becomes of the tail of a lost home: of what it had acknowledged and links had not copied when another cluster became home. When the home comes back, its
// log still has it.
type TailPolicy string

// The policies.
const (
	// DeliverTail copies it late, behind what was written since. What an idempotent client has sent once more to the new home is not copied.
	DeliverTail TailPolicy = "deliver"
	// DivertTail copies it to a topic of its own.
	DivertTail TailPolicy = "divert"
	// ListTail copies nothing of it: the ledger says what there is.
	ListTail TailPolicy = "list"
)

// TailPolicy is that of a set; of what no set names if set is empty.
func (r Router) TailPolicy(set string) TailPolicy { return r.lossesOf(set).Tail }

// lossesOf is what holds for a set: its own where that is written, else its router's.
func (r Router) lossesOf(set string) Losses {
	out := r.Losses
	for _, s := range r.Sets {
		if s.Name != set {
			continue
		}
		out.Isolated, out.Tail = cmp.Or(s.Isolated, out.Isolated), cmp.Or(s.Tail, out.Tail)
		if s.FailoverTo != "" {
			out.Failover = s.Failover
		}
	}
	return out
}

// losses reads what a router or one of its sets says. Of a set only what is written counts.
func (r *reader) losses(s scope, t *Topology, set bool) (out Losses) {
	if !set || s.t.keys["isolated"] != nil {
		out.Isolated = choice(s, "isolated", ContinueIsolated, HoldIsolated)
	}
	if !set || s.t.keys["tail"] != nil {
		out.Tail = choice(s, "tail", DeliverTail, DivertTail, ListTail)
	}
	out.Failover = r.failover(s, t)
	return out
}

// text is for people: what is written of a set.
func (l Losses) text() (text string) {
	if l.Isolated != "" {
		text += "; isolated " + string(l.Isolated)
	}
	if l.Tail != "" {
		text += "; tail " + string(l.Tail)
	}
	if l.FailoverTo != "" {
		text += fmt.Sprintf("; left for %s by itself when dead for %v", l.FailoverTo, l.FailoverAfter)
	}
	return text
}

// unusual is what is not as it is where nothing is written.
func (l Losses) unusual() (out Losses) {
	if l.Isolated != ContinueIsolated {
		out.Isolated = l.Isolated
	}
	if l.Tail != DeliverTail {
		out.Tail = l.Tail
	}
	out.Failover = l.Failover
	return out
}
