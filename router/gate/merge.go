package gate

import (
	"cmp"
	"slices"
)

// Merge is what is known of the producers of a partition from two sources: what was known when a generation began, and what its home's log had of it when it ended;
// or that, and what routers know to be acknowledged. Of two that speak of one producer the newer counts, and of the batches of both the newest. Producers
// without a batch since oldest, in milliseconds since 1970, are left out: no broker remembers them. The result is in the order of ids; neither source is changed.
func Merge(one, other []Producer, oldest int64) []Producer {
	out := slices.Concat(one, other)
	slices.SortStableFunc(out, func(a, b Producer) int { return cmp.Compare(a.ID, b.ID) })
	n := 0
	for i := 0; i < len(out); i++ {
		p := out[i]
		for ; i+1 < len(out) && out[i+1].ID == p.ID; i++ {
			p = p.with(out[i+1])
		}
		if p.Time >= oldest {
			out[n] = p
			n++
		}
	}
	return slices.Clip(out[:n])
}

// with is what two know of one producer.
func (p Producer) with(q Producer) Producer {
	if q.Epoch > p.Epoch || q.Epoch == p.Epoch && (p.Last < 0 || q.Last >= 0 && ahead(q.Last, p.Last) > 0) {
		p, q = q, p
	}
	p.Time = max(p.Time, q.Time)
	p.Batches = slices.Concat(q.Batches, p.Batches)
	// Sequences of an epoch wrap, so that only what is near to each other can be put in order; all is near to the last.
	slices.SortStableFunc(p.Batches, func(a, b Written) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(ahead(a.First, p.Last), ahead(b.First, p.Last)), cmp.Compare(b.Base, a.Base))
	})
	p.Batches = slices.CompactFunc(p.Batches, func(a, b Written) bool { return a.Epoch == b.Epoch && a.First == b.First && a.Last == b.Last })
	p.Batches = slices.Clip(p.Batches[max(0, len(p.Batches)-Remembered):])
	return p
}
