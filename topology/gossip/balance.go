package gossip

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Pair are the clusters of a link.
type Pair struct{ From, To string }

// Round is what the balancer looks at once in a while.
type Round struct {
	View  *View
	Links []Pair // of the running topology
	Now   time.Time
	// Exists tells whether there is a pump of that hash, as far as this node knows: true where it cannot know. nil = all do.
	Exists func(pump uint64) bool
}

// Move is one pump that the balancer moved, for the log.
type Move struct {
	Pump     uint64
	From, To string // nodes
	Bytes    float64
	Why      string
}

// MaxPins bounds the list of pins.
const MaxPins = 1024

// What is too much for a node, as a multiple of its share of the load. It gives away from tooMuch on until it has little more than its
// share, so that noise between the two moves nothing.
const (
	tooMuch    = 1.2
	enough     = 1.05 // what a node that gives away wants to come down to
	room       = 1.1  // what a node may come to by what it is given
	better     = 0.1  // how much better off than the giver the taker has to be where there is no room
	negligible = 0.0005
)

// The times of the balancer.
const (
	balanceQuiet = time.Minute      // after a change of who may own: loads move by themselves then
	balanceRest  = 30 * time.Second // after moves, until the reports tell of them
	pumpRest     = 5 * time.Minute  // of one pump after a move; twice as long after each further one, up to
	pumpRestMost = time.Hour
	pinMemory    = 10 * time.Minute // that a node is waited for which is gone, with its pins
)

// movesAtOnce is how many pumps one round moves at most.
const movesAtOnce = 8

const (
	// roundsLagging is how many rounds in a row a pump must lag before it is moved.
	roundsLagging = 3
	// fresh is how much of what is believed of a node's load is of the last round: loads are noisy.
	fresh = 0.2
)

// Balancer turns the loads that nodes report into pins. It runs on the sequencer, which remembers when it moved what; another one
// that takes over begins quietly. One goroutine uses it.
//
// A node's share of the load between two clusters is by its weight there, as for pumps without pins: the balancer does not give
// work to far nodes to make all equal. A pump is never divided, so a node with one that is more than its share keeps just that.
type Balancer struct {
	able  string               // who may own what, as in the last round
	last  time.Time            // round
	quiet time.Time            // nothing moves before
	heat  map[string]heat      // by node
	lags  map[uint64]int       // rounds in a row, by pump
	moved map[uint64]rested    // pumps that were moved lately
	gone  map[string]time.Time // since when, of nodes with pins
}

// heat is what is believed of a node.
type heat struct {
	ratio  float64 // of its load to its share, smoothed
	giving bool    // it had too much, and has not got rid of it
}

// rested is how long a pump stays where it was moved to.
type rested struct {
	until time.Time
	rest  time.Duration
}

// NewBalancer returns a balancer that has not seen anything.
func NewBalancer() *Balancer {
	return &Balancer{moved: make(map[uint64]rested), gone: make(map[string]time.Time)}
}

// Round looks at the view's loads and returns the pins that should be in force, by pump, and what they move. If they are the
// view's there is nothing to gossip. It is to be asked every ten seconds.
func (b *Balancer) Round(r Round) ([]Pin, []Move) {
	t := newTable(r)
	b.expire(t, r)
	if r.Now.Sub(b.last) >= balanceQuiet { // the first one, or the first since another node was the sequencer
		b.able, b.heat, b.lags = "", make(map[string]heat), make(map[uint64]int)
	}
	b.last = r.Now
	if able := t.able(); able != b.able {
		b.able, b.quiet = able, r.Now.Add(balanceQuiet)
	}
	b.count(t)
	var moves []Move
	if !r.Now.Before(b.quiet) {
		moves = b.moves(t, r.Now)
	}
	if len(moves) > 0 {
		b.quiet = r.Now.Add(balanceRest)
		for _, n := range t.nodes { // the reports will say so soon
			b.heat[n.name] = heat{min(n.ratio(0), 100), b.heat[n.name].giving}
		}
	}
	pins := make([]Pin, 0, len(t.pins))
	for pump, node := range t.pins {
		pins = append(pins, Pin{Pump: pump, Node: node})
	}
	slices.SortFunc(pins, func(a, b Pin) int { return cmp.Compare(a.Pump, b.Pump) })
	return pins, moves
}

// expire drops pins that nothing needs any more.
func (b *Balancer) expire(t *table, r Round) {
	for name := range b.gone {
		if m, ok := r.View.Member(name); ok && m.Status == Alive {
			delete(b.gone, name)
		}
	}
	for pump, node := range t.pins {
		m, _ := r.View.Member(node)
		if m.Status != Alive && b.gone[node].IsZero() {
			b.gone[node] = r.Now
		}
		since := b.gone[node]
		switch {
		case !since.IsZero() && r.Now.Sub(since) > pinMemory, r.Exists != nil && !r.Exists(pump):
			delete(t.pins, pump)
		case t.steady && t.home(pump) == node:
			delete(t.pins, pump) // it would be there anyhow
		}
	}
	for pump, m := range b.moved {
		if r.Now.Sub(m.until) > pumpRestMost {
			delete(b.moved, pump)
		}
	}
}

// count notes who has too much, and what lags. What lasts for one round only is noise.
func (b *Balancer) count(t *table) {
	hot, lags := make(map[string]heat), make(map[uint64]int)
	for _, n := range t.nodes {
		h, known := b.heat[n.name]
		now := min(n.ratio(0), 100) // of a node that has a load and no share of any
		if !known {
			h.ratio = now
		}
		h.ratio += fresh * (now - h.ratio)
		h.giving = h.ratio > tooMuch || h.giving && h.ratio > room
		hot[n.name] = h
		for _, l := range n.heavy {
			if l.Lagging {
				lags[l.Pump] = b.lags[l.Pump] + 1
			}
		}
	}
	b.heat, b.lags = hot, lags
}

// moves changes the table's pins: first what lags, then what is too much.
func (b *Balancer) moves(t *table, now time.Time) (moves []Move) {
	move := func(from *balanced, l Load, to *balanced, why string) {
		t.move(from, l, to)
		rest := min(max(pumpRest, 2*b.moved[l.Pump].rest), pumpRestMost)
		b.moved[l.Pump] = rested{now.Add(rest), rest}
		moves = append(moves, Move{Pump: l.Pump, From: from.name, To: to.name, Bytes: l.Bytes, Why: why})
	}
	may := func(l Load) bool { return !now.Before(b.moved[l.Pump].until) && t.mayPin(l.Pump) }
	if len(t.pins) >= MaxPins {
		moves = t.unpin()
	}
	for _, n := range t.nodes {
		for _, l := range n.heavy {
			if !l.Lagging || b.lags[l.Pump] < roundsLagging || !may(l) || len(moves) == movesAtOnce {
				continue
			}
			if to := t.taker(n, l, func(to *balanced) bool {
				return !to.lags() && (to.ratio(l.Bytes) < tooMuch || to.ratio(l.Bytes) < n.ratio(0))
			}); to != nil {
				move(n, l, to, "it lags behind")
				break // the others may be well without it
			}
		}
	}
	for _, n := range t.byRatio() {
		for b.heat[n.name].giving && len(moves) < movesAtOnce {
			l, to := t.relief(n, may)
			if to == nil {
				break
			}
			move(n, l, to, "its node has more than its share")
		}
	}
	return moves
}

// relief is the pump that a node should give away next, and to whom: the largest one that it need not take back, where there is room.
func (t *table) relief(n *balanced, may func(Load) bool) (Load, *balanced) {
	excess := n.load - enough*n.share
	if excess <= 0 {
		return Load{}, nil
	}
	for _, fits := range []func(Load, *balanced) bool{
		func(l Load, to *balanced) bool { return l.Bytes <= excess && to.ratio(l.Bytes) <= room },
		func(l Load, to *balanced) bool { return to.ratio(l.Bytes) < n.ratio(0)-better },
	} {
		for _, l := range n.heavy { // the largest first
			if l.Bytes < negligible*n.share || !may(l) {
				continue
			}
			if to := t.taker(n, l, func(to *balanced) bool { return !to.lags() && fits(l, to) }); to != nil {
				return l, to
			}
		}
	}
	return Load{}, nil
}

// taker is the node that is best off with a pump of another one, of those that fit.
func (t *table) taker(from *balanced, l Load, fits func(*balanced) bool) (best *balanced) {
	least := math.Inf(1)
	for _, n := range t.nodes {
		if n != from && t.allows(l.Pump, n.name) && fits(n) && n.ratio(l.Bytes) < least {
			best, least = n, n.ratio(l.Bytes)
		}
	}
	return best
}
