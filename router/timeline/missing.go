package timeline

import (
	"cmp"
	"slices"
)

// MaxMissing is how many stretches of a generation are known as missing at most. If there are more, those near to each other become one.
const MaxMissing = 1024

// miss takes stretches out of an ended generation.
func (g *Generation) miss(spans []Span) {
	var all []Span
	for _, s := range slices.Concat(g.Missing, spans) {
		if s = (Span{First: max(s.First, g.First), End: min(s.End, g.End)}); s.First < s.End {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	g.Missing = nil
	for _, s := range all {
		if n := len(g.Missing); n > 0 && s.First <= g.Missing[n-1].End {
			g.Missing[n-1].End = max(g.Missing[n-1].End, s.End)
			continue
		}
		g.Missing = append(g.Missing, s)
	}
	if n := len(g.Missing); n > 0 && g.Missing[n-1].End == g.End {
		g.End, g.Missing = g.Missing[n-1].First, slices.Clip(g.Missing[:n-1])
	}
	if g.Missing = Coarsen(g.Missing, MaxMissing); len(g.Missing) == 0 {
		g.Missing = nil
	}
}

// Coarsen joins the stretches, in order, that are nearest to each other until at most limit are left. The records between lose their virtual offsets without need, and
// are seen again.
func Coarsen(spans []Span, limit int) []Span {
	if len(spans) <= limit {
		return spans
	}
	between := make([]int, len(spans)-1) // indices, by what lies behind each
	for i := range between {
		between[i] = i
	}
	slices.SortFunc(between, func(a, b int) int {
		return cmp.Or(cmp.Compare(spans[a+1].First-spans[a].End, spans[b+1].First-spans[b].End), cmp.Compare(a, b))
	})
	joins := make([]bool, len(spans))
	for _, i := range between[:len(spans)-limit] {
		joins[i+1] = true
	}
	out := make([]Span, 0, limit)
	for i, s := range spans {
		if joins[i] {
			out[len(out)-1].End = s.End
			continue
		}
		out = append(out, s)
	}
	return out
}

// Uncopied is what of a generation, from the offsets from up to and without to of its home's log, no run brings to another cluster: what is missing there if that
// becomes home. Offsets without records are in it too, so from should be as high as it is known that all before was copied: the mirror's position, if
// all of that log is of origins that this one mirror carries.
func (g Generation) Uncopied(runs []Run, from, to int64) []Span {
	from = max(from, g.Real)
	if g.End != Running {
		to = min(to, g.At(g.End))
	}
	if from >= to {
		return nil
	}
	copied := make([]Piece, 0, len(runs))
	for _, r := range runs {
		copied = append(copied, Piece{Real: r.From, Count: r.Count})
	}
	slices.SortFunc(copied, byReal)
	var out []Span
	for _, p := range subtract([]Piece{{Real: from, Count: to - from}}, copied) {
		out = append(out, Span{First: g.Virtual(p.Real), End: g.Virtual(p.realEnd())})
	}
	return out
}
