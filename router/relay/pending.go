package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/quota"
	"github.com/isthmus-project/isthmus/router/written"
)

// kind says where an answer comes from.
type kind uint8

const (
	forward kind = iota // from upstream
	local               // made here; ready
	held                // not known yet: the request waits here
)

// owed is an answer that a client waits for.
type owed struct {
	key, version int16
	correlation  int32
	kind         kind
	ticket       uint64              // set by push
	answer       []byte              // of local: the whole frame
	edit         func(kmsg.Response) // of forward: puts what is of other sets into the answer; nil: nothing
	effect
	places  *places         // of a Fetch: where it was asked for; nil where offsets are the home's own
	after   <-chan struct{} // of forward: the answer is held back until it is closed, for a while
	claim   *claim          // of a request that may end a login
	reply   *reply          // of a request of our own: who waits for the answer
	account *quota.Account
	wait    time.Duration // that the client is told, because of the request
}

// effect is what a request that is forwarded may do at the home.
type effect struct {
	writes     bool  // it is counted in Seen.Writes
	clears     bool  // it is behind a request without an answer that is counted
	generation int64 // of the home
	written    *written.Book
}

// counted is how much of Seen.Writes the answer ends.
func (o *owed) counted() (n int32) {
	if o.writes {
		n++
	}
	if o.clears {
		n++
	}
	return n
}

// pending is what a connection owes its client, oldest first. Kafka answers in the order of the requests, so an answer passes only
// when it is at the head, and whoever made it pass is the only one to write to the client until it is done:
//
//	          settle                      settle
//	forward ◀──────── held ◀── push       held ────────▶ local ◀── push
//	   ▲ push                                              │
//	   │ answered, at the head                             │ take, at the head
//	   └──────────────────▶ passing ◀──────────────────────┘
//	                           │ done
//	                           ▼
//	                          gone
//
// A request without an answer (acks = 0) is never in it. Nothing goes upstream behind a held request, because that is to go first.
// Requests are told apart by tickets, not by correlation ids, which are the client's and may repeat; those of
// upstream's answers are checked. The zero value takes nothing; limits are set by newPending. It does no I/O and has no lock.
type pending struct {
	queue    []owed
	passing  bool // the head
	tickets  uint64
	bytes    int // of local answers
	most     int // entries
	mostHere int // bytes
}

func newPending(most, mostBytes int) pending { return pending{most: most, mostHere: mostBytes} }

// What upstream's answers can be wrong in. Both end the connection: it is not known any more which answer is whose.
var (
	errUnasked = errors.New("an answer to no request")
	errFull    = errors.New("too many answers are pending")
	errOrder   = errors.New("a request may not overtake one that is held")
)

// room reports whether another answer may become due. Who has no room stops reading.
func (p *pending) room() bool { return len(p.queue) < p.most && p.bytes < p.mostHere }

// push notes an answer that became due, before any byte of a request that is forwarded may have been read upstream to its end.
func (p *pending) push(o owed) (ticket uint64, err error) {
	if !p.room() {
		return 0, errFull
	}
	if o.kind == forward && p.holds() {
		return 0, errOrder
	}
	p.tickets++
	o.ticket = p.tickets
	p.bytes += len(o.answer)
	p.queue = append(p.queue, o)
	return o.ticket, nil
}

// holds reports whether a request is held.
func (p *pending) holds() bool {
	for i := range p.queue {
		if p.queue[i].kind == held {
			return true
		}
	}
	return false
}

// settle says what becomes of a held request: it is forwarded now, which must be done for the oldest first, or it has its answer.
func (p *pending) settle(ticket uint64, as kind, answer []byte) error {
	first := true
	for i := range p.queue {
		o := &p.queue[i]
		switch {
		case o.kind != held:
		case o.ticket != ticket:
			first = false
		case as == forward && !first:
			return errOrder
		default:
			p.bytes += len(answer) - len(o.answer)
			o.kind, o.answer = as, answer
			return nil
		}
	}
	return fmt.Errorf("settle request %d: it is not held", ticket)
}

// answered lets the head pass to an answer from upstream.
func (p *pending) answered(correlation int32) (owed, error) {
	if len(p.queue) == 0 || p.passing || p.queue[0].kind != forward {
		return owed{}, fmt.Errorf("correlation id %d: %w", correlation, errUnasked)
	}
	if o := p.queue[0]; o.correlation != correlation {
		return owed{}, fmt.Errorf("correlation id %d where %d is next: %w", correlation, o.correlation, errUnasked)
	}
	p.passing = true
	return p.queue[0], nil
}

// take lets the head pass if it is an answer made here.
func (p *pending) take() (owed, bool) {
	if len(p.queue) == 0 || p.passing || p.queue[0].kind != local {
		return owed{}, false
	}
	p.passing = true
	return p.queue[0], true
}

// done ends the passing of the head.
func (p *pending) done() {
	if !p.passing {
		return
	}
	p.passing = false
	p.bytes -= len(p.queue[0].answer)
	n := copy(p.queue, p.queue[1:])
	p.queue[n] = owed{}
	p.queue = p.queue[:n]
}

// waits reports whether upstream owes an answer.
func (p *pending) waits() bool {
	for i := range p.queue {
		if p.queue[i].kind == forward {
			return true
		}
	}
	return false
}
