package node

import (
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// viewsKept is how long a node remembers who owned what before: the time that a hand-over may take to begin.
const viewsKept = 30 * time.Second

// maxViews bounds how many: a fabric in which something happens all the time makes many.
const maxViews = 64

// owners answers, from the views of the gossip, who copies what. It implements [mirror.Owners].
type owners struct {
	self string

	mu    sync.RWMutex
	now   *gossip.View
	first bool        // there was no view before the oldest that is kept
	past  []datedView // the newest first
}

type datedView struct {
	view  *gossip.View
	until time.Time
}

func newOwners(self string) *owners { return &owners{self: self, first: true} }

// see takes over a view, and tells whether it gives some work to another node than the one before. One that cannot is not kept: it
// would push out those that tell who had the work before.
func (o *owners) see(v *gossip.View, now time.Time) (changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v == o.now || o.now != nil && v.SameOwners(o.now) {
		return false
	}
	if o.now != nil {
		o.past = slices.Insert(o.past, 0, datedView{o.now, now})
	}
	for len(o.past) > maxViews || len(o.past) > 0 && now.Sub(o.past[len(o.past)-1].until) > viewsKept {
		o.past, o.first = o.past[:len(o.past)-1], false
	}
	o.now = v
	return true
}

// view is the one that counts; nil before the first.
func (o *owners) view() *gossip.View {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.now
}

// Self implements [mirror.Owners].
func (o *owners) Self() string { return o.self }

// Owner implements [mirror.Owners].
func (o *owners) Owner(id mirror.PumpID) string {
	if v := o.view(); v != nil {
		return v.Owner(workOf(id)).Node
	}
	return ""
}

// Before implements [mirror.Owners].
func (o *owners) Before(id mirror.PumpID) string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.now == nil {
		return ""
	}
	work := workOf(id)
	for _, p := range o.past {
		if node := p.view.Owner(work).Node; node != o.self {
			return o.alive(node)
		}
	}
	if o.first { // this node has just come: who would own it without it?
		return o.alive(o.now.Without(o.self).Owner(work).Node)
	}
	return ""
}

// alive is the node, if it can be asked.
func (o *owners) alive(node string) string {
	if m, ok := o.now.Member(node); ok && m.Status == gossip.Alive {
		return node
	}
	return ""
}

func workOf(id mirror.PumpID) gossip.Work {
	return gossip.Work{From: id.From, To: id.To, Topic: id.Topic, Partition: id.Partition}
}
