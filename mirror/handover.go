package mirror

import (
	"maps"
	"slices"
	"time"
)

// The hand-over of pumps between two nodes. This file is pure: it is told the time, what others said and what our pumps are
// doing, and says what is to be sent and done. handover_io.go does it.
//
//	new owner B                                  owner before A
//
//	elsewhere                                    copying
//	   │ the view says: B's. Ready to copy?          │
//	   ▼                       ask                   ▼
//	asking ─────────────────────────────────────▶ does the view say: not A's?
//	   │                                             │ yes         │ no: it may be late;
//	   │                                             ▼             │ asked again for a second
//	   │                                         draining          ▼
//	   │                                             │          (nothing)
//	   │            released, with the place         ▼
//	   │ ◀────────────────────────────────────── elsewhere
//	   │            not mine, when A copies nothing
//	   ▼
//	starts: at the place that A released, or, when A said nothing for a second and a half, at its checkpoint
//
// An owner that does not know whom to ask (it has just started, or nobody answered in time) finds the partition copied by
// somebody, and yields. So a node that copies what is another's by its view, and is not asked for it, offers it every few
// seconds; the owner then asks.
//
// Messages may be lost, doubled, late or out of order. A question has a number, and only its answer counts; it is repeated
// until it is answered; what was released is remembered for a while and said again. Nothing here excludes anybody from
// copying: the target's log does.

const (
	// askFor is how long the owner before has to answer.
	askFor = 1500 * time.Millisecond
	// askEvery is how often it is asked.
	askEvery = 400 * time.Millisecond
	// hesitateFor is how long a node that is asked for what is its own by its view waits for a newer view.
	hesitateFor = time.Second
	// giftsFor is how long it is remembered what was released.
	giftsFor = 5 * time.Second
	// mostOrders bounds what one node is asked for at a time.
	mostOrders = 1 << 17
)

// standing is what a pump is doing, for somebody who asks for it.
type standing int

const (
	standsOff  standing = iota // nothing is copied here
	standsFor                  // it is copied here, and this node owns it by its view
	standsAway                 // it is copied here, and another node owns it
	standsBack                 // it is about to be released
)

// claim is a pump that this node waits for.
type claim struct {
	pump   PumpID
	from   string
	number uint64
	have   int64 // source offset from which on the map is asked for
	until  time.Time
	next   time.Time // it is asked for then
}

// order is a pump that another node asked for.
type order struct {
	pump   PumpID
	to     string
	number uint64
	have   int64
	until  time.Time
}

// gift is what is handed over: the place, and what the map has grown by.
type gift struct {
	order
	at   time.Time
	have bool // there is a place; without it the checkpoint is the place
	safe Checkpoint
	old  bool // the target's broker may forget our ids; see outflow
	runs []Run
}

// exchange is the hand-over as one node sees it.
type exchange struct {
	claims map[PumpID]*claim
	orders map[PumpID]*order
	gifts  map[PumpID]gift
	number uint64
}

// newExchange counts questions from a number that is unlike that of the node's last life.
func newExchange(first uint64) *exchange {
	return &exchange{claims: make(map[PumpID]*claim), orders: make(map[PumpID]*order), gifts: make(map[PumpID]gift), number: first}
}

// want begins to ask for a pump.
func (x *exchange) want(p PumpID, from string, have int64, now time.Time) {
	if c := x.claims[p]; c != nil && c.from == from {
		return
	}
	x.number++
	delete(x.gifts, p) // what it gave away is no longer the place
	x.claims[p] = &claim{pump: p, from: from, number: x.number, have: have, until: now.Add(askFor), next: now}
}

// drop ends the wait for a pump.
func (x *exchange) drop(p PumpID) { delete(x.claims, p) }

// due lists what has to be asked now, in the order of numbers, and the pumps that were asked for long enough.
func (x *exchange) due(now time.Time) (ask []claim, over []PumpID) {
	for _, p := range slices.SortedFunc(maps.Keys(x.claims), func(a, b PumpID) int { return int(x.claims[a].number) - int(x.claims[b].number) }) {
		switch c := x.claims[p]; {
		case !recent(now, c.until.Add(-askFor), askFor):
			over = append(over, p)
			delete(x.claims, p)
		case !now.Before(c.next):
			c.next = now.Add(askEvery)
			ask = append(ask, *c)
		}
	}
	return ask, over
}

// answered takes the answer to a question, and reports whether it is the one that is waited for.
func (x *exchange) answered(g gift, from string) bool {
	c := x.claims[g.pump]
	if c == nil || c.from != from || c.number != g.number {
		return false
	}
	delete(x.claims, g.pump)
	return true
}

// verdicts of a question.
type verdictOf int

const (
	replyNothing verdictOf = iota // not now
	replyNotMine
	replyAgain   // what was released before
	replyRelease // let the pump go, then say so
)

// asked takes a question, with what the pump is doing.
func (x *exchange) asked(o order, s standing, now time.Time) verdictOf {
	if g, ok := x.gifts[o.pump]; ok && g.to == o.to && s == standsOff && now.Sub(g.at) < giftsFor {
		g.number = o.number
		x.gifts[o.pump] = g
		return replyAgain
	}
	switch s {
	case standsOff:
		delete(x.orders, o.pump)
		return replyNotMine
	case standsAway:
		delete(x.orders, o.pump)
		return replyRelease
	case standsBack:
		return replyNothing // the answer is on its way; if it is lost, the next question gets it
	}
	if was := x.orders[o.pump]; was != nil && was.to == o.to && was.number == o.number || len(x.orders) >= mostOrders {
		return replyNothing
	}
	o.until = now.Add(hesitateFor)
	x.orders[o.pump] = &o
	return replyNothing
}

// waiting lists the questions that wait for a newer view, and drops those that did so for too long.
func (x *exchange) waiting(now time.Time) []order {
	maps.DeleteFunc(x.orders, func(_ PumpID, o *order) bool { return !recent(now, o.until.Add(-hesitateFor), hesitateFor) })
	maps.DeleteFunc(x.gifts, func(_ PumpID, g gift) bool { return !recent(now, g.at, giftsFor) })
	out := make([]order, 0, len(x.orders))
	for _, o := range x.orders {
		out = append(out, *o)
	}
	return out
}

// released notes what was handed over.
func (x *exchange) released(g gift) {
	delete(x.orders, g.pump)
	x.gifts[g.pump] = g
}

// wakeAt is when there may be something to do without anybody having said anything.
func (x *exchange) wakeAt(now time.Time) time.Time {
	at := now.Add(giftsFor)
	first := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	for _, c := range x.claims {
		first(c.next)
		first(c.until)
	}
	for _, o := range x.orders {
		first(o.until)
	}
	return at
}
