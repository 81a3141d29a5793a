package router

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/router/relay"
)

// ClientInfo is one connection of a client.
type ClientInfo struct {
	// Address is the client's, as host:port.
	Address string
	// Set is that of the slot that it came to, and Slot the place of it in there, -1 for bootstrap. Broker is the one at the set's home that it is taken to, -1 for
	// none yet.
	Set    string
	Slot   int
	Broker int32
	// Who and Principal are whom the client says it is. Nothing of it was checked but that the home took the login.
	Who       relay.Who
	Principal relay.Principal
	// Subject is that of the client's certificate; empty without one.
	Subject string
	// In and Out are bytes from and to the client.
	In, Out int64
	// Requests is how many it made, and Pending how many of them are not answered.
	Requests int64
	Pending  int
	// Since is when it came.
	Since time.Time
	// Throttled is for how long it was told to wait because of a quota, in all.
	Throttled time.Duration
}

// Clients are the connections that are open now, by sets and slots, then by their addresses. It waits for nothing.
func (r *Router) Clients() []ClientInfo {
	open := r.open.list()
	out := make([]ClientInfo, 0, len(open))
	for _, c := range open {
		s := c.seen
		set, slot := setOf(c.slot), c.slot
		if slot >= 0 {
			slot -= numberOf(set, 0)
		}
		one := ClientInfo{Address: c.address, Set: r.cfg.setName(set), Slot: slot, Broker: -1, Who: s.Who(), Principal: s.Principal(), In: s.In.Load(), Out: s.Out.Load(),
			Requests: s.Requests.Load(), Pending: int(s.Pending.Load()), Since: c.since, Subject: c.subject, Throttled: time.Duration(s.Throttled.Load())}
		if b := c.to.Load(); b != nil {
			one.Broker = b.ID
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b ClientInfo) int {
		return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Address, b.Address))
	})
	return out
}
