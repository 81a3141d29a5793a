package mirror

import (
	"fmt"
	"hash/maphash"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// owed are records that one log has and the other, which is cleaned, has not: it may have lost them for a later record of the
// same key, and nothing else. Which were lost rightly shows when the later one is seen.
type owed struct {
	seed maphash.Seed
	lost map[uint64]debt // by key: the target has them no longer
	gone map[uint64]debt // the source has them no longer
	over int64           // beyond what is remembered: not proved
}

// debt is one of them. A record from at on, in the log that lost it, may be the reason.
type debt struct {
	at             int64
	source, target int64 // where the record is, or would be
}

// What notes say of what a cleaner took.
const (
	whyLost = "cleaned away on the target"
	whyGone = "cleaned away at the source"
)

// owedMost bounds the keys that are remembered.
const owedMost = 1 << 18

func newOwed() owed {
	return owed{seed: maphash.MakeSeed(), lost: make(map[uint64]debt), gone: make(map[uint64]debt)}
}

// Whoever deletes a key may be cleaned away without a successor, and with it goes the reason why what was before it is gone.

// lostByTarget passes a record of the source that the target should have.
func (c *comparer) lostByTarget(s batch.Record) {
	key := maphash.Bytes(c.seed, s.Key)
	delete(c.gone, key)
	c.remember(c.lost, key, s, debt{at: c.tnext, source: s.Offset, target: c.tnext})
	c.passSource(s, whyLost)
}

// goneAtSource passes a record of the target that is the copy of source offset from.
func (c *comparer) goneAtSource(t batch.Record, from int64) {
	key := maphash.Bytes(c.seed, t.Key)
	delete(c.lost, key)
	c.remember(c.gone, key, t, debt{at: from, source: from, target: t.Offset})
	c.passTarget(t, from, whyGone)
}

func (c *comparer) remember(in map[uint64]debt, key uint64, r batch.Record, d debt) {
	_, known := in[key]
	switch {
	case r.Value == nil:
		delete(in, key)
	case !known && len(in) >= owedMost:
		c.over++
	default:
		in[key] = d
	}
}

// superseded settles a key that both logs have now.
func (c *comparer) superseded(key []byte) {
	if len(c.lost)+len(c.gone) > 0 {
		h := maphash.Bytes(c.seed, key)
		delete(c.lost, h)
		delete(c.gone, h)
	}
}

// settle takes a record of the log that lost some, whoever wrote it.
func (o *owed) settle(in map[uint64]debt, r batch.Record) {
	key := maphash.Bytes(o.seed, r.Key)
	if d, ok := in[key]; ok && r.Offset >= d.at {
		delete(in, key)
	}
}

// earliest is where to look from for what settles the debts.
func earliest(in map[uint64]debt) (at int64) {
	at = -1
	for _, d := range in {
		if at < 0 || d.at < at {
			at = d.at
		}
	}
	return at
}

// unpaid is the first record that was lost without a later one of its key.
func (o *owed) unpaid() *Difference {
	var first *Difference
	for _, d := range o.lost {
		if first == nil || d.source < first.Source {
			first = &Difference{DifferenceMissing, d.source, -1, fmt.Sprintf("the target has no later record of its key either, from target offset %d on", d.at)}
		}
	}
	for _, d := range o.gone {
		if first == nil || d.source < first.Source {
			first = &Difference{DifferenceExtra, d.source, d.target, "the source has neither the record nor a later one of its key"}
		}
	}
	return first
}
