package router

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// connection is one that is open.
type connection struct {
	end     context.CancelFunc
	slot    int // -1 is bootstrap
	address string
	subject string // of its certificate
	since   time.Time
	seen    *relay.Seen
	relay   *relay.Relay
	to      atomic.Pointer[upstream] // nil before it is dialled
	view    atomic.Pointer[rewrite.View]
}

// viewOf is the virtual cluster over the home that the connection goes to, which may be one that was left: then it is what it was last.
func (c *connection) viewOf(p *picture) *rewrite.View {
	s := p.sides[c.set()]
	if to := c.to.Load(); to != nil && to.generation != s.generation {
		return c.view.Load()
	}
	if c.view.Load() != s.view {
		c.view.Store(s.view)
	}
	return s.view
}

// upstream is the broker that a connection goes to, and the set and the generation whose home that is of.
type upstream struct {
	broker.Broker
	set        int
	generation int64
	home       string
}

// set is the set whose home it goes to.
func (c *connection) set() int {
	if to := c.to.Load(); to != nil {
		return to.set
	}
	return setOf(c.slot)
}

// connections are those that are open, and what is known of those that were.
type connections struct {
	keys relay.Keys    // of all
	turn atomic.Uint32 // which broker bootstrap tries first

	mu      sync.Mutex
	all     map[*connection]struct{}
	past    map[int]taken // of those that ended, by slot
	opened  map[int]int64 // by slot
	told    map[error]time.Time
	refused map[string]int64     // by reason
	ends    map[relay.Side]int64 // by whose fault it was
	dials   map[string]dialled   // by broker, as labels name it
}

// taken is what connections took.
type taken struct {
	in, out         int64 // bytes
	full, throttled time.Duration
	waited          time.Duration // held, because a home was changing
}

// plus adds what others took.
func (t taken) plus(o taken) taken {
	return taken{t.in + o.in, t.out + o.out, t.full + o.full, t.throttled + o.throttled, t.waited + o.waited}
}

// add adds what one connection took.
func (t taken) add(s *relay.Seen) taken {
	t.in += s.In.Load()
	t.out += s.Out.Load()
	t.full += time.Duration(s.Full.Load())
	t.throttled += time.Duration(s.Throttled.Load())
	t.waited += time.Duration(s.Waited.Load())
	return t
}

// dialled is how often a broker was, and how often that failed.
type dialled struct{ all, failed int64 }

func newConnections() connections {
	return connections{all: make(map[*connection]struct{}), past: make(map[int]taken), opened: make(map[int]int64), told: make(map[error]time.Time),
		refused: make(map[string]int64), ends: make(map[relay.Side]int64), dials: make(map[string]dialled)}
}

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[c] = struct{}{}
	s.opened[c.slot]++
}

// nobody is the side of a connection that ended as it should.
const nobody relay.Side = "none"

// remove is for each that was added, with the error that it ended with.
func (s *connections) remove(c *connection, err error) {
	side := nobody
	if e := (*relay.Error)(nil); errors.As(err, &e) {
		side = e.Side
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
	s.past[c.slot] = s.past[c.slot].add(c.seen)
	s.ends[side]++
}

// refuse counts a connection that is not taken, and reports whether it is time to say so.
func (s *connections) refuse(reason error, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[word(reason)]++
	if now.Sub(s.told[reason]) < time.Minute {
		return false
	}
	s.told[reason] = now
	return true
}

// Why connections are not taken, and a word for each.
var (
	reasons = []error{ErrConnections, ErrAddress, ErrNotReady, ErrTLS, ErrHandshake, relay.ErrLogin, relay.ErrHomeLogin}
	words   = []string{"connections", "address", "not_ready", "tls", "handshake", "login", "home_login"}
)

// otherReason is for those that are not listed.
const otherReason = "other"

func word(reason error) string {
	for i, err := range reasons {
		if errors.Is(reason, err) {
			return words[i]
		}
	}
	return otherReason
}

// dialled counts an attempt to reach a broker.
func (s *connections) dialled(broker string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dials[broker]
	d.all++
	if err != nil {
		d.failed++
	}
	s.dials[broker] = d
}

// list is those that are open now.
func (s *connections) list() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*connection, 0, len(s.all))
	for c := range s.all {
		out = append(out, c)
	}
	return out
}

// endGone ends, in order, the connections whose broker is not there any more, and says how many they are. Those that go to a home that was left are not among them: they
// leave it when they are asked for something.
func (s *connections) endGone(p *picture) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if b := c.to.Load(); b != nil && p.sides[b.set].gone(*b) {
			c.end()
			n++
		}
	}
	return n
}
