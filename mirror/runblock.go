package mirror

import (
	"bytes"
	"iter"
	"math"
	"slices"
	"sort"
)

// blockRuns is how many runs are in a block at most: a lookup reads one block, and each costs the memory of its extent.
const blockRuns = 32

// The two sides of a run.
const (
	bySource = iota
	byTarget
)

func (r *Run) start(side int) int64 {
	if side == bySource {
		return r.Source
	}
	return r.Target
}

func (r *Run) end(side int) int64 { return r.start(side) + r.Records }

// extent is what the runs of a block lie between. Both sides are by bySource and byTarget.
type extent struct {
	from, to [2]int64
	// Counts, of whatever origin.
	counted, countedTo int64
}

func (e *extent) add(r Run) {
	for side := range e.from {
		e.from[side], e.to[side] = min(e.from[side], r.start(side)), max(e.to[side], r.end(side))
	}
	e.counted, e.countedTo = min(e.counted, r.Count), max(e.countedTo, r.Count+r.Records)
}

func extentOf(runs []Run) extent {
	r := runs[0]
	e := extent{from: [2]int64{r.Source, r.Target}, to: [2]int64{r.sourceEnd(), r.targetEnd()}, counted: r.Count, countedTo: r.Count + r.Records}
	for _, r := range runs[1:] {
		e.add(r)
	}
	return e
}

// block is a few runs that follow each other, coded. It is never changed.
type block struct {
	extent
	runs    int
	records int64
	origins uint64 // of the runs, by mask
	data    []byte
}

// mask has the bit of an origin by its index in the table of the map. All those that are beyond share the last one.
func mask(origin int) uint64 { return 1 << min(origin, 63) }

// maskOf is what the blocks have that hold an origin's runs: all, if it is empty.
func (m *OffsetMap) maskOf(origin string) uint64 {
	if origin == "" {
		return math.MaxUint64
	}
	if at := slices.Index(m.origins, origin); at >= 0 {
		return mask(at)
	}
	return 0
}

func (m *OffsetMap) block(runs []Run) block {
	w := runWriter{origins: m.origins, b: make([]byte, 0, 4*blockRuns)}
	records, origins := int64(0), uint64(0)
	for _, r := range runs {
		w.add(r)
		records += r.Records
		origins |= mask(w.origin)
	}
	m.origins = w.origins
	return block{extentOf(runs), len(runs), records, origins, bytes.Clone(w.b)}
}

func (m *OffsetMap) open(b *block) runReader { return runReader{origins: m.origins, b: b.data} }

// push appends a run behind all others.
func (m *OffsetMap) push(r Run) {
	if len(m.tail) == blockRuns {
		m.blocks = append(m.blocks, m.block(m.tail))
		m.tail = m.tail[:0]
	}
	m.tail = append(m.tail, r)
	m.n++
	m.records += r.Records
	m.sourceEnd = max(m.sourceEnd, r.sourceEnd())
}

// all goes over the runs in the order of their source offsets.
func (m *OffsetMap) all() iter.Seq[Run] {
	return m.within(0, func(*extent) (bool, bool) { return true, false })
}

// within goes over the runs of the blocks from one on that are wanted, to one that is too far; what is not in a block yet comes last.
func (m *OffsetMap) within(first int, want func(*extent) (wanted, tooFar bool)) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for k := first; k < len(m.blocks); k++ {
			b := &m.blocks[k]
			wanted, tooFar := want(&b.extent)
			if tooFar {
				return
			}
			if !wanted {
				continue
			}
			for r := m.open(b); r.next(); {
				if !yield(r.last) {
					return
				}
			}
		}
		for _, r := range m.tail {
			if !yield(r) {
				return
			}
		}
	}
}

// overlapping goes over the runs of which source offsets may lie in [from, to), and a few more.
func (m *OffsetMap) overlapping(from, to int64) iter.Seq[Run] {
	return m.within(m.firstBlock(bySource, from), func(e *extent) (bool, bool) { return e.to[bySource] > from, e.from[bySource] >= to })
}

// list is all runs, for who needs them at hand: a large map is large as a list.
func (m *OffsetMap) list() []Run { return slices.AppendSeq(make([]Run, 0, m.n), m.all()) }

// firstBlock is the first block that may hold a run which ends behind an offset.
func (m *OffsetMap) firstBlock(side int, at int64) int {
	if m.unordered {
		return 0
	}
	return sort.Search(len(m.blocks), func(k int) bool { return m.blocks[k].to[side] > at })
}

// window is the part of the map that a run is to be put into: the first of the blocks and the one behind the last (the tail is the one behind
// all blocks), and their runs. Its neighbours in the order are in it.
func (m *OffsetMap) window(source int64) (lo, hi int, runs []Run) {
	starts := func(k int) int64 {
		if k < len(m.blocks) {
			return m.blocks[k].from[bySource]
		}
		return m.tail[0].Source
	}
	parts := len(m.blocks) + 1
	lo = max(0, sort.Search(parts, func(k int) bool { return starts(k) >= source })-1)
	hi = min(parts, sort.Search(parts, func(k int) bool { return starts(k) > source })+1)
	for k := lo; k < min(hi, len(m.blocks)); k++ {
		for r := m.open(&m.blocks[k]); r.next(); {
			runs = append(runs, r.last)
		}
	}
	if hi == parts {
		runs = append(runs, m.tail...)
	}
	return lo, hi, runs
}

// replace puts runs in the place of a window's.
func (m *OffsetMap) replace(lo, hi int, runs []Run) {
	if hi > len(m.blocks) {
		hi = len(m.blocks)
		open := min(blockRuns, len(runs))
		if n := len(runs) - open; n > 0 { // what stays open is less than a block, so that the next runs find room
			open = max(1, min(open, blockRuns/2))
		}
		m.tail = append(m.tail[:0], runs[len(runs)-open:]...)
		runs = runs[:len(runs)-open]
	}
	parts := (len(runs) + blockRuns - 1) / blockRuns
	blocks := make([]block, 0, parts)
	for k := range parts {
		blocks = append(blocks, m.block(runs[k*len(runs)/parts:(k+1)*len(runs)/parts]))
	}
	m.blocks = slices.Replace(m.blocks, lo, hi, blocks...)
}

// keep takes what is left of each run, and no run that is empty: all of the blocks that are not touched. What is left has the order it had.
func (m *OffsetMap) keep(touched func(*extent) bool, left func(Run) Run) {
	was := *m
	*m = OffsetMap{origins: was.origins, unordered: was.unordered, formerEnd: was.formerEnd}
	for k := range was.blocks {
		b := &was.blocks[k]
		if !touched(&b.extent) {
			if len(m.tail) > 0 {
				m.blocks, m.tail = append(m.blocks, m.block(m.tail)), m.tail[:0]
			}
			m.blocks = append(m.blocks, *b)
			m.n, m.records, m.sourceEnd = m.n+b.runs, m.records+b.records, max(m.sourceEnd, b.to[bySource])
			continue
		}
		for r := was.open(b); r.next(); {
			if n := left(r.last); n.Records > 0 {
				m.push(n)
			}
		}
	}
	for _, r := range was.tail {
		if r = left(r); r.Records > 0 {
			m.push(r)
		}
	}
	m.reopen()
	if m.unordered {
		m.judge()
	}
}

// reopen takes the last block apart if there is nothing behind it: the last run of a map is never coded, because it may grow.
func (m *OffsetMap) reopen() {
	if n := len(m.blocks); len(m.tail) == 0 && n > 0 {
		for r := m.open(&m.blocks[n-1]); r.next(); {
			m.tail = append(m.tail, r.last)
		}
		m.blocks = slices.Delete(m.blocks, n-1, n)
	}
}

// judge looks at the whole order anew.
func (m *OffsetMap) judge() {
	m.unordered = false
	var last Run
	for r := range m.all() {
		if last.Records > 0 && r.breaks(last) {
			m.unordered = true
			return
		}
		last = r
	}
}

// breaks reports whether a run lies before the end of the one before it.
func (r Run) breaks(before Run) bool {
	return r.Source < before.sourceEnd() || r.Target < before.targetEnd()
}
