package timeline

import (
	"errors"
	"fmt"
	"slices"
)

// Running is the end of the generation that has not ended.
const Running = -1

// MaxGenerations is how many a timeline has at most; what ended long ago is left out by [Timeline.Since].
const MaxGenerations = 4096

// maxOffset is above all offsets: sums and differences of three of them fit.
const maxOffset = 1 << 61

// ErrImpossible says that a timeline, or a change of it, cannot be. Whoever acted on it might give an offset to two records.
var ErrImpossible = errors.New("impossible timeline")

// Generation is the time of one home.
type Generation struct {
	// Number counts the changes of home of the whole set, from 0 on.
	Number int64
	// Home is the cluster that took the writes.
	Home string
	// First is the virtual offset that it begins at, and Real the home's offset of that.
	First, Real int64
	// Own is the home's offset from which on all of its log is the generation's. Between Real and Own only that is which no other generation has: a tail
	// that came back with its cluster and that no other home had yet. Usually the two are equal.
	Own int64
	// End is the virtual offset behind its last; Running if it goes on.
	End int64
	// Bound is the virtual offset at or above which the generation after it begins. 0 if it goes on.
	Bound int64
	// Missing is what of it some home since had not got when it became home, in order, below End. Its records have lost their virtual offsets and get new ones.
	Missing []Span
}

// Span is a stretch of virtual offsets, End not among them.
type Span struct {
	First, End int64
}

// Virtual is the virtual offset of an offset at the generation's home.
func (g Generation) Virtual(real int64) int64 { return g.First + real - g.Real }

// At is the offset at the generation's home of a virtual offset.
func (g Generation) At(virtual int64) int64 { return g.Real + virtual - g.First }

// Timeline is the generations of one partition, oldest first. It is never changed: each change makes another.
type Timeline []Generation

// Begin is the timeline of a partition that has its first home in the generation of that number. first is its first offset, virtual and real.
func Begin(number int64, home string, first int64) Timeline {
	return Timeline{{Number: number, Home: home, First: first, Real: first, Own: first, End: Running}}
}

// Now is the generation that goes on. The timeline must not be empty.
func (t Timeline) Now() Generation { return t[len(t)-1] }

// Change says how the home changed.
type Change struct {
	// Home is the new one.
	Home string
	// End is the virtual offset behind the last record of the generation before: at a planned change the left home's log end, else behind the last record of it
	// that the new home has.
	End int64
	// Missing is what below End, of any generation, has records that the new home has not got, in any order. At a planned change there is none. Offsets without
	// records may be in it.
	Missing []Span
	// Bound is at a planned change End. Else it is what was reserved: all virtual offsets that were acknowledged or shown before are below it. It
	// is never below End.
	Bound int64
	// First is where the new generation begins: at Bound, or above it if the change is unplanned.
	First int64
	// Real is the new home's offset of First, and Own its log end. The two are equal, unless the new home has records below Own that are in no generation: a
	// tail of the last time that it was home, or of another, that the homes since had not got. Then Real is where [Map.Gaps] of a map in which they are
	// equal begin.
	Real, Own int64
}

// Planned is a change of home for which writing was stopped and the mirror had caught up with all that the left home has: end is the virtual offset behind its
// last record, and logEnd the new home's log end.
func Planned(home string, end, logEnd int64) Change {
	return Change{Home: home, End: end, Bound: end, First: end, Real: logEnd, Own: logEnd}
}

// Next is the timeline after a change of home.
func (t Timeline) Next(c Change) (Timeline, error) {
	if len(t) == 0 {
		return nil, fmt.Errorf("%w: it has no generation to end", ErrImpossible)
	}
	next := append(slices.Clip(slices.Clone(t)), Generation{Number: t.Now().Number + 1, Home: c.Home, First: c.First, Real: c.Real, Own: c.Own, End: Running})
	last := &next[len(t)-1]
	last.End, last.Bound = c.End, c.Bound
	if len(c.Missing) > 0 {
		for i := range next[:len(t)] {
			next[i].miss(c.Missing)
		}
	}
	if err := next.Check(); err != nil {
		return nil, err
	}
	return next, nil
}

// Since leaves out the generations that ended at or below a virtual offset, because nothing is left of them anywhere.
func (t Timeline) Since(virtual int64) Timeline {
	at := slices.IndexFunc(t, func(g Generation) bool { return g.End == Running || g.End > virtual })
	return t[max(0, at):]
}

// Check says what is wrong with a timeline, as ErrImpossible.
func (t Timeline) Check() error {
	if len(t) == 0 {
		return fmt.Errorf("%w: it has no generation", ErrImpossible)
	}
	if len(t) > MaxGenerations {
		return fmt.Errorf("%w: it has %d generations, at most %d are kept", ErrImpossible, len(t), MaxGenerations)
	}
	ended := make(map[string]Generation)
	for i, g := range t {
		if err := g.check(i == len(t)-1); err != nil {
			return fmt.Errorf("%w: generation %d: %w", ErrImpossible, g.Number, err)
		}
		if i == 0 {
			ended[g.Home] = g
			continue
		}
		if before := t[i-1]; g.Number != before.Number+1 {
			return fmt.Errorf("%w: generation %d follows generation %d", ErrImpossible, g.Number, before.Number)
		} else if g.First < before.Bound {
			return fmt.Errorf("%w: generation %d begins at %d, and what was reserved before ends at %d", ErrImpossible, g.Number, g.First, before.Bound)
		}
		if before, ok := ended[g.Home]; ok && before.At(before.End) > g.Own {
			return fmt.Errorf("%w: generation %d has all from offset %d of %s on, and generation %d ended there at %d: the log was cut or made anew", ErrImpossible, g.Number, g.Own, g.Home, before.Number, before.At(before.End))
		}
		ended[g.Home] = g
	}
	return nil
}

// check looks at a generation alone.
func (g Generation) check(last bool) error {
	for _, o := range []int64{g.First, g.Real, g.Own, max(0, g.End), g.Bound} {
		if o < 0 || o >= maxOffset {
			return fmt.Errorf("%d is no offset", o)
		}
	}
	switch {
	case g.Number < 0:
		return errors.New("numbers begin at 0")
	case g.Home == "":
		return errors.New("it has no home")
	case g.Own < g.Real:
		return fmt.Errorf("its own offsets begin at %d, before its first, %d", g.Own, g.Real)
	case g.Number == 0 && (g.First != g.Real || g.Own != g.Real):
		return fmt.Errorf("virtual offset %d is %d at its home, and in generation 0 they are equal", g.First, g.Real)
	case last != (g.End == Running):
		return errors.New("the last goes on, and no other does")
	case last && g.Bound != 0:
		return errors.New("it goes on and has a bound")
	case !last && g.End < g.First:
		return fmt.Errorf("it ends at %d, before its beginning at %d", g.End, g.First)
	case !last && g.Bound < g.End:
		return fmt.Errorf("it ends at %d, above the bound %d that was reserved", g.End, g.Bound)
	case last && len(g.Missing) > 0:
		return errors.New("it goes on, and something of it is missing")
	}
	if len(g.Missing) > MaxMissing {
		return fmt.Errorf("%d stretches are missing, at most %d are kept", len(g.Missing), MaxMissing)
	}
	from := g.First
	for _, m := range g.Missing {
		if m.First < from || m.End <= m.First || m.End >= g.End {
			return fmt.Errorf("what is missing from %d to %d is not in order, or not before its end, %d", m.First, m.End, g.End)
		}
		from = m.End + 1
	}
	return nil
}
