package mirror

import (
	"cmp"
	"slices"
	"sort"
)

// Run is a maximal stretch of source offsets that maps to target offsets by one
// constant difference. Count is the number of records of Origin that the pump
// had copied before the run, so any run can serve as an anchor when a place has
// to be found again; Epoch is the incarnation it was written in.
type Run struct {
	Source  int64 // first source offset
	Target  int64 // first target offset
	Records int64 // length, in offsets on either side (a run has no holes)
	Origin  string
	Epoch   int16
	Count   int64
}

func (r Run) sourceEnd() int64 { return r.Source + r.Records }
func (r Run) targetEnd() int64 { return r.Target + r.Records }

// continues reports whether n is the seamless continuation of r.
func (r Run) continues(n Run) bool {
	return r.sourceEnd() == n.Source && r.targetEnd() == n.Target &&
		r.Origin == n.Origin && r.Epoch == n.Epoch && r.Count+r.Records == n.Count
}

// OffsetMap is the list of all runs of one pump in the order of their source
// offsets. A dense stream is one run. It is not safe for concurrent use.
//
// Usually targets rise with sources; after an order-break they may not, and the
// map says so (ordered is false) and answers by scanning.
type OffsetMap struct {
	runs    []Run
	records int64
	// unordered is set once a run was added whose target lies before that of
	// an earlier source offset, or whose sources were copied before.
	unordered bool
}

// Add records that the run was acknowledged at the target. Facts that are
// already known are ignored, so that two owners' maps can be merged.
func (m *OffsetMap) Add(r Run) {
	if r.Records <= 0 {
		return
	}
	if n := len(m.runs); n > 0 {
		last := &m.runs[n-1]
		switch {
		case last.continues(r):
			last.Records += r.Records
			m.records += r.Records
			return
		case m.unordered || r.Source < last.sourceEnd() || r.Target < last.targetEnd():
			m.insert(r)
			return
		}
	}
	m.runs = append(m.runs, r)
	m.records += r.Records
}

// holed reports whether the source had offsets without records between runs: not those that were copied without being
// mapped, which the counts tell, and not those that the ledger names as gone.
func (m *OffsetMap) holed(gone []span) bool {
	next := make(map[string]int64) // count by origin
	for i, r := range m.runs {
		if i > 0 {
			from := m.runs[i-1].sourceEnd()
			gap := r.Source - from
			if was, ok := next[r.Origin]; ok {
				gap -= max(0, r.Count-was)
			}
			for _, g := range gone {
				gap -= max(0, min(g.first+g.records, r.Source)-max(g.first, from))
			}
			if gap > 0 {
				return true
			}
		}
		next[r.Origin] = r.Count + r.Records
	}
	return false
}

// insert handles everything that is not an append: known facts are dropped
// piecewise, the rest is put in source order. Only the neighbours of what is put
// in can be out of order with it, and an order once broken stays so.
func (m *OffsetMap) insert(r Run) {
	for _, piece := range m.unknown(r) {
		at := sort.Search(len(m.runs), func(i int) bool {
			if m.runs[i].Source != piece.Source {
				return m.runs[i].Source > piece.Source
			}
			return m.runs[i].Target > piece.Target
		})
		m.runs = slices.Insert(m.runs, at, piece)
		m.records += piece.Records
		m.unordered = m.unordered || m.breaks(at) || m.breaks(at+1)
		for _, i := range []int{at + 1, at} { // join with both neighbours
			if i > 0 && i < len(m.runs) && m.runs[i-1].continues(m.runs[i]) {
				m.runs[i-1].Records += m.runs[i].Records
				m.runs = slices.Delete(m.runs, i, i+1)
			}
		}
	}
}

// breaks reports whether run i lies before the end of the one before it.
func (m *OffsetMap) breaks(i int) bool {
	return i > 0 && i < len(m.runs) &&
		(m.runs[i].Source < m.runs[i-1].sourceEnd() || m.runs[i].Target < m.runs[i-1].targetEnd())
}

// unknown returns the parts of r that no run with the same difference holds.
func (m *OffsetMap) unknown(r Run) []Run {
	left, near := []Run{r}, m.runs
	if !m.unordered {
		from := sort.Search(len(near), func(i int) bool { return near[i].sourceEnd() > r.Source })
		near = near[from:]
		near = near[:sort.Search(len(near), func(i int) bool { return near[i].Source >= r.sourceEnd() })]
	}
	for _, k := range near {
		if k.Target-k.Source != r.Target-r.Source || k.sourceEnd() <= r.Source || k.Source >= r.sourceEnd() {
			continue
		}
		var next []Run
		for _, p := range left {
			if k.sourceEnd() <= p.Source || k.Source >= p.sourceEnd() {
				next = append(next, p)
				continue
			}
			if k.Source > p.Source {
				next = append(next, p.slice(p.Source, k.Source))
			}
			if k.sourceEnd() < p.sourceEnd() {
				next = append(next, p.slice(k.sourceEnd(), p.sourceEnd()))
			}
		}
		left = next
	}
	return left
}

// countedOf appends the runs' parts that hold an origin's records counted from, up to and without to.
func countedOf(out, runs []Run, origin string, from, to int64) []Run {
	for _, r := range runs {
		first, end := max(r.Count, from), min(r.Count+r.Records, to)
		if r.Origin == origin && first < end {
			out = append(out, r.slice(r.Source+first-r.Count, r.Source+end-r.Count))
		}
	}
	return out
}

// inSourceOrder sorts runs by their source offsets and takes overlaps away.
func inSourceOrder(out []Run) []Run {
	slices.SortFunc(out, func(a, b Run) int { return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target)) })
	next := int64(-1)
	for i := range out {
		out[i] = out[i].slice(max(out[i].Source, next), out[i].sourceEnd())
		next = max(next, out[i].sourceEnd())
	}
	return slices.DeleteFunc(out, func(r Run) bool { return r.Records <= 0 })
}

// slice returns the part of r whose source offsets lie in [from, to).
func (r Run) slice(from, to int64) Run {
	from, to = max(from, r.Source), min(to, r.sourceEnd())
	skip := from - r.Source
	return Run{Source: from, Target: r.Target + skip, Records: to - from,
		Origin: r.Origin, Epoch: r.Epoch, Count: r.Count + skip}
}

// judge looks at the whole order anew.
func (m *OffsetMap) judge() {
	m.unordered = false
	for i := range m.runs {
		if m.breaks(i) {
			m.unordered = true
			return
		}
	}
}

// Forward returns the target offset of the first copied record at or after the
// source offset: the highest target position from which a reader misses nothing
// that this pump copied from there on. ok is false when nothing at or after the
// offset has been copied yet.
func (m *OffsetMap) Forward(source int64) (target int64, ok bool) {
	if m.unordered {
		return m.scan(func(r Run) (int64, bool) {
			return max(r.Target, r.Target+source-r.Source), source < r.sourceEnd()
		})
	}
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].sourceEnd() > source })
	if i == len(m.runs) {
		return 0, false
	}
	r := m.runs[i]
	return r.Target + max(0, source-r.Source), true
}

// Inverse returns the source offset of the first copied record that lies at or
// after the target offset; ok is false when there is none.
func (m *OffsetMap) Inverse(target int64) (source int64, ok bool) {
	if m.unordered {
		return m.scan(func(r Run) (int64, bool) {
			return max(r.Source, r.Source+target-r.Target), target < r.targetEnd()
		})
	}
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].targetEnd() > target })
	if i == len(m.runs) {
		return 0, false
	}
	r := m.runs[i]
	return r.Source + max(0, target-r.Target), true
}

// scan returns the smallest position that any qualifying run offers.
func (m *OffsetMap) scan(f func(Run) (int64, bool)) (best int64, ok bool) {
	for _, r := range m.runs {
		if at, hit := f(r); hit && (!ok || at < best) {
			best, ok = at, true
		}
	}
	return best, ok
}

// End returns the target offset after the last record in the map, and false for
// an empty map.
func (m *OffsetMap) End() (int64, bool) {
	if len(m.runs) == 0 {
		return 0, false
	}
	if !m.unordered {
		return m.runs[len(m.runs)-1].targetEnd(), true
	}
	var end int64
	for _, r := range m.runs {
		end = max(end, r.targetEnd())
	}
	return end, true
}

// Since returns the runs that hold source offsets at or after from, the first
// one cut so that it starts there. The result is the caller's own.
func (m *OffsetMap) Since(from int64) []Run {
	i := 0
	if !m.unordered {
		i = sort.Search(len(m.runs), func(i int) bool { return m.runs[i].sourceEnd() > from })
	}
	out := make([]Run, 0, len(m.runs)-i)
	for _, r := range m.runs[i:] {
		if r.sourceEnd() > from {
			out = append(out, r.slice(from, r.sourceEnd()))
		}
	}
	return out
}

// DropBefore forgets the runs of which neither side is kept any longer: they
// end at or before the log start of the source and of the target.
func (m *OffsetMap) DropBefore(sourceStart, targetStart int64) {
	m.runs = slices.DeleteFunc(m.runs, func(r Run) bool {
		gone := r.sourceEnd() <= sourceStart && r.targetEnd() <= targetStart
		if gone {
			m.records -= r.Records
		}
		return gone
	})
	m.judge()
}

// Len returns the number of runs.
func (m *OffsetMap) Len() int { return len(m.runs) }

// Records returns the number of records that the runs hold.
func (m *OffsetMap) Records() int64 { return m.records }
