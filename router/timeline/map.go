package timeline

import (
	"iter"
	"math"
	"slices"
	"sort"
)

// Piece is a stretch of virtual offsets that lies at the home of now with one constant difference. Not every offset in it has a record.
type Piece struct {
	Virtual int64 // the first
	Real    int64 // where that lies
	Count   int64 // in offsets
}

func (p Piece) end() int64     { return p.Virtual + p.Count }
func (p Piece) realEnd() int64 { return p.Real + p.Count }

// Map is where the records of a partition are at the home of now. It is made by [Build], is never changed, and may be used by many at once.
// Its last piece is the log of the generation that goes on, and has no end.
type Map struct {
	pieces []Piece // in the order of virtual offsets
	// reach has the greatest real end of each piece and those before it, floor the least real offset of each piece and those behind it. Both are nil
	// where real offsets never go back.
	reach, floor []int64

	generation int64
	first      int64 // virtual offset that the timeline begins at
	moved      int64
}

// index is made once all pieces are there.
func (m *Map) index() {
	ordered := true
	for i := 1; i < len(m.pieces); i++ {
		ordered = ordered && m.pieces[i].Real >= m.pieces[i-1].realEnd()
	}
	if ordered {
		return
	}
	m.reach, m.floor = make([]int64, len(m.pieces)), make([]int64, len(m.pieces))
	reach, floor := int64(0), int64(math.MaxInt64)
	for i, p := range m.pieces {
		reach = max(reach, p.realEnd())
		m.reach[i] = reach
	}
	for i, p := range slices.Backward(m.pieces) {
		floor = min(floor, p.Real)
		m.floor[i] = floor
	}
}

// Generation is the number of the one that goes on.
func (m *Map) Generation() int64 { return m.generation }

// Len is the number of pieces, at least one.
func (m *Map) Len() int { return len(m.pieces) }

// All gives the pieces in the order of virtual offsets.
func (m *Map) All() iter.Seq[Piece] { return slices.Values(m.pieces) }

// Moved is how many offsets of the home's log are in two generations, and count for the later one: they came late to its home. Who read them in the
// earlier one may read them again.
func (m *Map) Moved() int64 { return m.moved }

// Gaps are the stretches of the home's offsets, from and up to and without to, that are in no piece, as pieces without virtual offsets. They are records that were not
// written through a router, or the tail of a home that was lost and came back; see [Change].
func (m *Map) Gaps(from, to int64) []Piece {
	if from >= to {
		return nil
	}
	claimed := slices.Clone(m.pieces)
	slices.SortFunc(claimed, byReal)
	gaps := subtract([]Piece{{Real: from, Count: to - from}}, claimed)
	for i := range gaps {
		gaps[i].Virtual = 0
	}
	return gaps
}

// Place is where a Fetch goes on, and what of its answer may be shown.
type Place struct {
	// Virtual is the first virtual offset at or behind the one asked for that may have a record, and Real the home's offset of it.
	Virtual, Real int64
	// From and End are the real offsets of the piece. What the answer has before From or from End on is of another piece: shown, it would come twice or
	// out of order. End is math.MaxInt64 in the generation that goes on.
	From, End int64
	// Next is the virtual offset to look for when the answer has nothing to show before End. Clients that get an empty answer ask for the same
	// again, so who is there must go on by itself.
	Next int64
}

// Place finds virtual offset v, in the home's log from its offset logStart on. False says that v lies before all that is kept: out of range, as at a broker.
func (m *Map) Place(v, logStart int64) (Place, bool) {
	v = min(max(v, 0), maxOffset)
	kept := m.Start(logStart)
	i := max(m.at(v), m.real(logStart)) // all before the latter is deleted
	for m.reach != nil && i < len(m.pieces)-1 && m.pieces[i].realEnd() <= logStart {
		i++
	}
	p := m.pieces[i]
	skip := max(0, v-p.Virtual, logStart-p.Real)
	at := Place{Virtual: p.Virtual + skip, Real: p.Real + skip, From: p.Real, End: p.realEnd(), Next: p.end()}
	if i == len(m.pieces)-1 {
		at.End, at.Next = math.MaxInt64, math.MaxInt64
	}
	return at, v >= kept
}

// at is the first piece that ends behind a virtual offset.
func (m *Map) at(v int64) int {
	return min(len(m.pieces)-1, sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].end() > v }))
}

// real is the first piece, in the order of virtual offsets, that ends behind a real offset.
func (m *Map) real(real int64) int {
	return min(len(m.pieces)-1, sort.Search(len(m.pieces), func(i int) bool {
		if m.reach != nil {
			return m.reach[i] > real
		}
		return m.pieces[i].realEnd() > real
	}))
}

// Least is the least virtual offset of all that lies at or behind a real offset: the highest position from which a reader misses none of it. It is the answer for
// the high watermark, the last stable offset, the log's end, the offset of an acknowledged batch, an offset that the home found by time, and the low watermark after
// records were deleted. Where real places do not jump it is exact.
func (m *Map) Least(real int64) int64 {
	p := m.pieces[m.real(real)]
	return p.Virtual + max(0, real-p.Real)
}

// Start is the virtual log start where the home's is at logStart. As long as nothing was deleted here it is where the timeline begins: what was not copied any
// more when this home began looks like compacted.
func (m *Map) Start(logStart int64) int64 {
	if i := m.real(logStart); i > 0 || logStart > m.pieces[0].Real {
		return m.Least(logStart)
	}
	return min(m.first, m.pieces[0].Virtual)
}

// Below is the greatest real offset before which nothing lies that is at or behind virtual offset v. DeleteRecords may delete up to it, and it is the real
// position of who has read all before v: tools see it, and who goes on there without the map reads some again and skips nothing.
func (m *Map) Below(v int64) int64 {
	v = min(max(v, 0), maxOffset)
	i := m.at(v)
	p := m.pieces[i]
	real := p.Real + max(0, v-p.Virtual)
	if m.floor != nil && i+1 < len(m.pieces) {
		real = min(real, m.floor[i+1])
	}
	return real
}

// Offset is the virtual offset of one in the place's piece; others become the piece's nearer end, as first offsets of aborted transactions that reach over it.
func (p Place) Offset(real int64) int64 { return p.Virtual + min(max(real, p.From), p.End) - p.Real }

// Show says what of a batch may be shown.
type Show int

// What becomes of a batch of an answer.
const (
	// Whole is a batch all of whose offsets are in the piece.
	Whole Show = iota
	// Part is one that reaches over an end of the piece: only its records from From up to and without End may be shown, so it must be packed anew.
	Part
	// Before is one that lies before the piece. It is left out.
	Before
	// Behind is one that lies behind the piece: nothing from here on is shown.
	Behind
)

// Batch says what of a batch may be shown whose first and last real offsets are those.
func (p Place) Batch(first, last int64) Show {
	switch {
	case first >= p.End:
		return Behind
	case last < p.From:
		return Before
	case first < p.From || last >= p.End:
		return Part
	}
	return Whole
}
