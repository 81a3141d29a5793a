package mirror

import (
	"cmp"
	"math"
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

// covers reports whether all facts of n are in r.
func (r Run) covers(n Run) bool {
	return r.Target-r.Source == n.Target-n.Source && r.Source <= n.Source && n.sourceEnd() <= r.sourceEnd()
}

// OffsetMap is all runs of one pump in the order of their source offsets. A
// dense stream is one run. It is not safe for concurrent use.
//
// The runs lie in blocks, coded as differences; the last few are open, because
// the last run grows. A lookup finds the block by its extent, and reads that.
//
// Usually targets rise with sources; after an order-break they may not, and the
// map says so (unordered) and answers by looking at all blocks' extents.
type OffsetMap struct {
	blocks    []block
	tail      []Run // empty in an empty map only
	origins   []string
	n         int
	records   int64
	sourceEnd int64 // the greatest of any run
	// formerEnd is the target offset before which copies may lie of what the source had and lost with its log, or the end of that: see [Incarnation.leaves].
	formerEnd int64
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
	if n := len(m.tail); n > 0 {
		last := &m.tail[n-1]
		switch {
		case last.continues(r):
			last.Records += r.Records
			m.records += r.Records
			m.sourceEnd = max(m.sourceEnd, r.sourceEnd())
			return
		case last.covers(r): // the same chunk, or the same stretch of another owner's
			return
		case r.Source < m.sourceEnd:
			for _, piece := range m.unknown(r) {
				m.insert(piece)
			}
			return
		}
		m.unordered = m.unordered || r.breaks(*last)
	}
	m.push(r)
}

// holed reports whether the source had offsets without records between runs: not those that were copied without being
// mapped, which the counts tell, and not those that the ledger names as gone.
func (m *OffsetMap) holed(gone []span) bool {
	next := make(map[string]int64) // count by origin
	var last Run
	for r := range m.all() {
		if last.Records > 0 {
			gap := r.Source - last.sourceEnd()
			if was, ok := next[r.Origin]; ok {
				gap -= max(0, r.Count-was)
			}
			for _, g := range gone {
				gap -= max(0, min(g.first+g.records, r.Source)-max(g.first, last.sourceEnd()))
			}
			if gap > 0 {
				return true
			}
		}
		next[r.Origin], last = r.Count+r.Records, r
	}
	return false
}

// insert puts a run that is not known in its place in the source's order. Only the neighbours of what is put in can be
// out of order with it, and an order once broken stays so.
func (m *OffsetMap) insert(r Run) {
	lo, hi, runs := m.window(r.Source)
	m.n -= len(runs)
	at := sort.Search(len(runs), func(i int) bool {
		if runs[i].Source != r.Source {
			return runs[i].Source > r.Source
		}
		return runs[i].Target > r.Target
	})
	runs = slices.Insert(runs, at, r)
	for _, i := range []int{at, at + 1} {
		m.unordered = m.unordered || i > 0 && i < len(runs) && runs[i].breaks(runs[i-1])
	}
	for _, i := range []int{at + 1, at} { // join with both neighbours
		if i > 0 && i < len(runs) && runs[i-1].continues(runs[i]) {
			runs[i-1].Records += runs[i].Records
			runs = slices.Delete(runs, i, i+1)
		}
	}
	m.replace(lo, hi, runs)
	m.n += len(runs)
	m.records += r.Records
	m.sourceEnd = max(m.sourceEnd, r.sourceEnd())
}

// unknown returns the parts of r that no run with the same difference holds.
func (m *OffsetMap) unknown(r Run) []Run {
	left := []Run{r}
	for k := range m.overlapping(r.Source, r.sourceEnd()) {
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
		out = r.counted(out, origin, from, to)
	}
	return out
}

func (r Run) counted(out []Run, origin string, from, to int64) []Run {
	first, end := max(r.Count, from), min(r.Count+r.Records, to)
	if r.Origin != origin || first >= end {
		return out
	}
	return append(out, r.slice(r.Source+first-r.Count, r.Source+end-r.Count))
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

// Forward returns the target offset of the first copied record at or after the
// source offset: the highest target position from which a reader misses nothing
// that this pump copied from there on. ok is false when nothing at or after the
// offset has been copied yet.
func (m *OffsetMap) Forward(source int64) (target int64, ok bool) {
	return m.lookup(bySource, source, "")
}

// Inverse returns the source offset of the first copied record that lies at or
// after the target offset; ok is false when there is none.
func (m *OffsetMap) Inverse(target int64) (source int64, ok bool) {
	return m.lookup(byTarget, target, "")
}

// lookup returns the smallest offset on the other side of all records at or after one on a side: of an origin, or, if that is empty, of all.
// In order that is the first of them.
func (m *OffsetMap) lookup(side int, at int64, origin string) (best int64, ok bool) {
	other, mask := 1-side, m.maskOf(origin)
	for k := m.firstBlock(side, at); k < len(m.blocks); k++ {
		b := &m.blocks[k]
		if b.origins&mask == 0 || b.to[side] <= at || ok && b.from[other] >= best {
			continue
		}
		for r := m.open(b); r.next(); {
			if r.last.end(side) <= at || origin != "" && r.last.Origin != origin {
				continue
			}
			if to := r.last.across(side, at); !ok || to < best {
				best, ok = to, true
			}
			if !m.unordered {
				return best, ok
			}
		}
	}
	for i := range m.tail {
		if r := &m.tail[i]; r.end(side) > at && (origin == "" || r.Origin == origin) {
			if to := r.across(side, at); !ok || to < best {
				best, ok = to, true
			}
		}
	}
	return best, ok
}

// across is where on the other side the first record of a run lies that is at or after an offset of a side.
func (r *Run) across(side int, at int64) int64 {
	return r.start(1-side) + max(0, at-r.start(side))
}

// End returns the target offset after the last record in the map, and false for
// an empty map.
func (m *OffsetMap) End() (end int64, ok bool) {
	if m.unordered {
		for k := range m.blocks {
			end = max(end, m.blocks[k].to[byTarget])
		}
	}
	for _, r := range m.tail {
		end = max(end, r.targetEnd())
	}
	return end, len(m.tail) > 0
}

// endOr is the target offset after the last record, or one that is known to be behind it.
func (m *OffsetMap) endOr(from int64) int64 {
	end, _ := m.End()
	return max(end, from)
}

// First returns the first source offset of the map, and false for an empty map.
func (m *OffsetMap) First() (source int64, ok bool) {
	switch {
	case len(m.blocks) > 0:
		return m.blocks[0].from[bySource], true
	case len(m.tail) > 0:
		return m.tail[0].Source, true
	}
	return 0, false
}

// SourceOf returns the source offset of the record at a target offset, and false if the map does not know the record.
func (m *OffsetMap) SourceOf(target int64) (source int64, ok bool) {
	for r := range m.within(m.firstBlock(byTarget, target), func(e *extent) (bool, bool) {
		return e.from[byTarget] <= target && target < e.to[byTarget], !m.unordered && e.from[byTarget] > target
	}) {
		if r.Target <= target && target < r.targetEnd() {
			return r.Source + target - r.Target, true
		}
	}
	return 0, false
}

// Since returns the runs that hold source offsets at or after from, the first
// one cut so that it starts there. The result is the caller's own.
func (m *OffsetMap) Since(from int64) (out []Run) {
	for r := range m.overlapping(from, math.MaxInt64) {
		if r.sourceEnd() > from {
			out = append(out, r.slice(from, r.sourceEnd()))
		}
	}
	return out
}

// counted appends the runs' parts that hold an origin's records counted from, up to and without to.
func (m *OffsetMap) counted(out []Run, origin string, from, to int64) []Run {
	for r := range m.within(0, func(e *extent) (bool, bool) { return e.counted < to && e.countedTo > from, false }) {
		out = r.counted(out, origin, from, to)
	}
	return out
}

// DropBefore forgets the runs of which neither side is kept any longer: they
// end at or before the log start of the source and of the target.
func (m *OffsetMap) DropBefore(sourceStart, targetStart int64) {
	m.keep(func(e *extent) bool { return e.from[bySource] < sourceStart && e.from[byTarget] < targetStart }, func(r Run) Run {
		if r.sourceEnd() <= sourceStart && r.targetEnd() <= targetStart {
			r.Records = 0
		}
		return r
	})
}

// dropFrom forgets what lies at and behind a source offset.
func (m *OffsetMap) dropFrom(source int64) {
	m.keep(func(e *extent) bool { return e.to[bySource] > source }, func(r Run) Run { return r.slice(r.Source, source) })
}

// Len returns the number of runs.
func (m *OffsetMap) Len() int { return m.n }

// Records returns the number of records that the runs hold.
func (m *OffsetMap) Records() int64 { return m.records }
