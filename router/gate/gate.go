package gate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// patience is how often a gap of an unsure producer is closed before it is let pass. Clients come back with their oldest batch in the first or second try.
const patience = 2

// Keep is how long a gate counts. Clients give up a batch after minutes. Far sooner than any can have sent 2^30 records to a partition, after
// which a new batch would look like one of long ago, the gate must be dropped.
const Keep = time.Hour

// Gate is that of one partition in one generation. It has memory for the producers that the left log knew and for no others, and gives it back as the home
// takes them over. It is not safe for concurrent use.
type Gate struct {
	entries []entry // by id
	batches []Written
	live    int
}

// entry is a producer that the left log knew.
type entry struct {
	id, time int64
	conn     uint64 // on which its last batch was forwarded
	batches  uint32 // its first in Gate.batches
	last     int32
	sent     int32 // last sequence that was forwarded on conn, and once something was acknowledged, that
	low      int32 // the least that a gap began with
	epoch    int16
	sentIn   int16 // epoch of sent
	n        uint8 // of batches
	acked    uint8 // batches that the home acknowledged, up to Remembered
	tries    uint8
	begun    bool // something was forwarded
	unsure   bool
	gone     bool
}

// New is the gate of a partition for what the left log knew. Producers may be in any order; two with one id, or what cannot be, is an error.
func New(left []Producer) (*Gate, error) {
	g := &Gate{entries: make([]entry, 0, len(left)), live: len(left)}
	n := 0
	for _, p := range left {
		n += len(p.Batches)
	}
	g.batches = make([]Written, 0, n)
	for _, p := range left {
		if err := p.check(); err != nil {
			return nil, err
		}
		g.entries = append(g.entries, entry{id: p.ID, time: p.Time, batches: uint32(len(g.batches)), n: uint8(len(p.Batches)), epoch: p.Epoch, last: p.Last, unsure: p.Unsure})
		g.batches = append(g.batches, p.Batches...)
	}
	slices.SortFunc(g.entries, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	for i := 1; i < len(g.entries); i++ {
		if g.entries[i].id == g.entries[i-1].id {
			return nil, fmt.Errorf("producer %d is there twice", g.entries[i].id)
		}
	}
	return g, nil
}

// check says what of a producer cannot be.
func (p Producer) check() error {
	if p.ID < 0 || p.Epoch < 0 || p.Last < -1 || len(p.Batches) > Remembered {
		return fmt.Errorf("producer %d: epoch %d, last sequence %d, %d batches", p.ID, p.Epoch, p.Last, len(p.Batches))
	}
	for _, w := range p.Batches {
		if w.Epoch < 0 || w.Epoch > p.Epoch || w.First < 0 || w.Last < 0 || ahead(w.Last, w.First) < 0 || w.Base < -1 || w.Base == math.MaxInt64 || w.Epoch == p.Epoch && (p.Last < 0 || ahead(w.Last, p.Last) > 0) {
			return fmt.Errorf("producer %d, epoch %d, last sequence %d: sequences %d to %d of epoch %d at offset %d", p.ID, p.Epoch, p.Last, w.First, w.Last, w.Epoch, w.Base)
		}
	}
	return nil
}

// Left is how many producers are still remembered. At 0 nothing is gated any more.
func (g *Gate) Left() int { return g.live }

// Batch decides about a batch that came on a connection. conn tells connections of clients apart, also those that ended; forwarded ones must reach the home in order, and none
// behind one that the home refused.
func (g *Gate) Batch(conn uint64, b Batch) Decision {
	if !b.gated() {
		return forward(Ungated)
	}
	e := g.find(b.ID)
	if e == nil {
		return forward(Unknown)
	}
	d := g.decide(e, b)
	switch {
	case d.Outcome == Answer || d.Reason == Straddles || d.Reason == OldEpoch:
		return d
	case e.acked > 0:
		return forward(Open)
	case e.begun && e.conn == conn && e.sentIn == b.Epoch && after(e.sent, 1) == b.First:
		d = forward(Begun)
	case d.Outcome == Close && e.unsure && e.stays(b.First):
		d = forward(LostTail)
	}
	if d.Outcome == Forward {
		e.begun, e.conn, e.sent, e.sentIn = true, conn, b.last(), b.Epoch
	}
	return d
}

func (g *Gate) decide(e *entry, b Batch) Decision {
	p := Producer{ID: e.id, Epoch: e.epoch, Last: e.last, Batches: g.batches[e.batches : e.batches+uint32(e.n)]}
	return Decide(&p, b)
}

// stays tells whether a gap that begins behind it has come often enough with nothing before it.
func (e *entry) stays(first int32) bool {
	if e.tries == 0 || ahead(first, e.low) < 0 {
		e.low = first
	}
	e.tries = min(e.tries, patience) + 1
	return e.tries > patience && first == e.low
}

// Acked is called for each batch of a client that the home acknowledged in this generation, fresh or as a duplicate. Those that were answered here prove nothing
// of the home, and do not count.
func (g *Gate) Acked(b Batch) {
	e := g.find(b.ID)
	if e == nil || e.acked > 0 && e.sentIn == b.Epoch && ahead(b.last(), e.sent) <= 0 || g.decide(e, b).Outcome == Answer {
		return
	}
	e.sent, e.sentIn = b.last(), b.Epoch
	if e.acked++; e.acked >= Remembered { // a client has no more than that in flight, so none of the left log's comes again
		e.gone = true
		g.live--
		g.shrink()
	}
}

// Refused is called for a batch that was forwarded and that the home did not take. What stands behind it is held against the left log again: only the same batch may go next.
func (g *Gate) Refused(b Batch) {
	if e := g.find(b.ID); e != nil && e.acked == 0 {
		e.begun = false
	}
}

// Known is called when the home turned out to know a producer in this generation, though no acknowledgement came by here.
func (g *Gate) Known(id int64) {
	if e := g.find(id); e != nil && e.acked == 0 {
		e.acked, e.sent, e.sentIn = 1, e.last, e.epoch
	}
}

func (g *Gate) find(id int64) *entry {
	i, ok := slices.BinarySearchFunc(g.entries, id, func(e entry, id int64) int { return cmp.Compare(e.id, id) })
	if !ok || g.entries[i].gone {
		return nil
	}
	return &g.entries[i]
}

// shrink gives back memory once half of it is of producers that are gone, so each is moved once at most on the way down.
func (g *Gate) shrink() {
	if g.live*2 > len(g.entries) {
		return
	}
	entries, batches := make([]entry, 0, g.live), make([]Written, 0, g.live*Remembered)
	for _, e := range g.entries {
		if e.gone {
			continue
		}
		kept := g.batches[e.batches : e.batches+uint32(e.n)]
		e.batches = uint32(len(batches))
		entries, batches = append(entries, e), append(batches, kept...)
	}
	g.entries, g.batches = entries, batches
}
