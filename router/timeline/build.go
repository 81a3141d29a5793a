package timeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Run is a stretch of offsets at a generation's home that lies at the home of now with one constant difference and without holes.
type Run struct {
	From  int64 // first offset at the generation's home
	To    int64 // where that lies at the home of now
	Count int64 // in offsets, on either side
}

// Build makes the map for the home of now. runs has, by the number of each generation whose home is another, what of that home's log is here, in any order; of one
// that has nothing here it must have an empty list, since what was not loaded would be skipped.
func Build(t Timeline, runs map[int64][]Run) (*Map, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	now := t.Now()
	found := make([][]Piece, len(t))
	for i, g := range t[:len(t)-1] {
		given, ok := runs[g.Number]
		switch {
		case g.End == g.First: // nothing was written
			continue
		case g.Home == now.Home && len(given) > 0:
			return nil, fmt.Errorf("runs of generation %d were given, but its records are where they were written, at %s", g.Number, g.Home)
		case g.Home == now.Home:
			given = []Run{{From: g.Real, To: g.Real, Count: g.End - g.First}}
		case !ok:
			return nil, fmt.Errorf("the runs of generation %d from %s to %s are missing; an empty list says that nothing was copied", g.Number, g.Home, now.Home)
		}
		var err error
		if found[i], err = g.pieces(given); err != nil {
			return nil, fmt.Errorf("runs of generation %d from %s to %s: %w", g.Number, g.Home, now.Home, err)
		}
	}
	length := math.MaxInt64 - max(now.Real, now.First)
	found[len(t)-1] = []Piece{{Virtual: now.First, Real: now.Real, Count: length}}
	return join(t, found), nil
}

// pieces is where the generation's records are by runs, in the order of real offsets.
func (g Generation) pieces(runs []Run) ([]Piece, error) {
	runs = slices.Clone(runs)
	for _, r := range runs {
		if r.From < 0 || r.To < 0 || r.Count < 1 || max(r.From, r.To, r.Count) >= maxOffset {
			return nil, fmt.Errorf("%d offsets from %d to %d are no run", r.Count, r.From, r.To)
		}
	}
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	out, next := make([]Piece, 0, len(runs)), g.Real // a record that was copied twice is where it was copied first
	for _, r := range runs {
		skip := max(0, next-r.From)
		count := min(r.From+r.Count, g.At(g.End)) - r.From - skip
		if count <= 0 {
			continue
		}
		next = r.From + skip + count
		out = append(out, Piece{Virtual: g.Virtual(r.From + skip), Real: r.To + skip, Count: count})
	}
	if len(g.Missing) > 0 {
		missing := make([]Piece, 0, len(g.Missing))
		for _, m := range g.Missing {
			missing = append(missing, Piece{Real: m.First, Count: m.End - m.First})
		}
		out = flip(subtract(flip(out), missing)) // both by virtual offsets
	}
	slices.SortFunc(out, byReal)
	for i := 1; i < len(out); i++ {
		if out[i].Real < out[i-1].realEnd() {
			return nil, fmt.Errorf("two of them lead to offset %d", out[i].Real)
		}
	}
	return out, nil
}

// join makes one list of the pieces of all generations, each in the order of real offsets.
func join(t Timeline, found [][]Piece) *Map {
	m := &Map{generation: t.Now().Number, first: t[0].First}
	own, rest := slices.Clone(found), make([][]Piece, len(t))
	for i, g := range t {
		if g.Own > g.Real {
			own[i], rest[i] = cut(found[i], g.Virtual(g.Own), math.MaxInt64), cut(found[i], g.First, g.Virtual(g.Own))
		}
	}
	all := slices.Concat(slices.Concat(own, rest)...)
	slices.SortFunc(all, byReal)
	for i := 1; i < len(all); i++ {
		if all[i].Real < all[i-1].realEnd() {
			all, m.moved = share(own, rest)
			break
		}
	}
	slices.SortFunc(all, func(a, b Piece) int { return cmp.Compare(a.Virtual, b.Virtual) })
	m.pieces = all[:0]
	for _, p := range all {
		if n := len(m.pieces); n > 0 && m.pieces[n-1].end() == p.Virtual && m.pieces[n-1].realEnd() == p.Real {
			m.pieces[n-1].Count += p.Count
			continue
		}
		m.pieces = append(m.pieces, p)
	}
	m.pieces = slices.Clone(m.pieces)
	m.index()
	return m
}

// share gives each real offset to one of the generations, oldest first: what is one's own goes to the latest that has it; what is in its log before that, only
// where nobody else has it.
func share(own, rest [][]Piece) (all []Piece, moved int64) {
	var claimed []Piece
	claim := func(pieces []Piece) (lost int64) {
		left := subtract(pieces, claimed)
		all, claimed = append(all, left...), merge(claimed, left)
		return total(pieces) - total(left)
	}
	for _, pieces := range slices.Backward(own) {
		moved += claim(pieces)
	}
	for _, pieces := range rest {
		claim(pieces)
	}
	return all, moved
}

// flip takes virtual offsets for real ones.
func flip(pieces []Piece) []Piece {
	for i, p := range pieces {
		pieces[i].Virtual, pieces[i].Real = p.Real, p.Virtual
	}
	return pieces
}

func byReal(a, b Piece) int { return cmp.Compare(a.Real, b.Real) }

func total(pieces []Piece) (n int64) {
	for _, p := range pieces {
		n += p.Count
	}
	return n
}

// cut is what of pieces lies in virtual offsets from, up to and without to.
func cut(pieces []Piece, from, to int64) []Piece {
	out := make([]Piece, 0, len(pieces))
	for _, p := range pieces {
		skip := max(0, from-p.Virtual)
		if count := min(p.end(), to) - p.Virtual - skip; count > 0 {
			out = append(out, Piece{Virtual: p.Virtual + skip, Real: p.Real + skip, Count: count})
		}
	}
	return out
}

// subtract is what of pieces is at real offsets that are not claimed. Both are in the order of real offsets; pieces do not overlap.
func subtract(pieces, claimed []Piece) []Piece {
	out := make([]Piece, 0, len(pieces))
	for _, p := range pieces {
		for len(claimed) > 0 && claimed[0].realEnd() <= p.Real {
			claimed = claimed[1:]
		}
		for _, c := range claimed {
			if c.Real >= p.realEnd() {
				break
			}
			if c.Real > p.Real {
				out = append(out, Piece{Virtual: p.Virtual, Real: p.Real, Count: c.Real - p.Real})
			}
			skip := max(0, min(p.Count, c.realEnd()-p.Real))
			p = Piece{Virtual: p.Virtual + skip, Real: p.Real + skip, Count: p.Count - skip}
		}
		if p.Count > 0 {
			out = append(out, p)
		}
	}
	return out
}

// merge is both in the order of real offsets; what is next to each other becomes one, since only real offsets count here.
func merge(a, b []Piece) []Piece {
	out := make([]Piece, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].Real < a[0].Real {
			from = &b
		}
		p := (*from)[0]
		*from = (*from)[1:]
		if n := len(out); n > 0 && out[n-1].realEnd() == p.Real {
			out[n-1].Count += p.Count
			continue
		}
		out = append(out, p)
	}
	return out
}
