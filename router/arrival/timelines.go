package arrival

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// ErrCut says that a cut does not fit what was decided before.
var ErrCut = errors.New("the cut does not fit")

// mostPartitions bounds the numbers of partitions that are believed.
const mostPartitions = 100_000

// Timelines are those of all partitions that the last cut names, by topic and partition; nil is a partition without one. In generation 0 there are none.
func Timelines(ctx context.Context, r Request) (map[string][]timeline.Timeline, error) {
	f, err := fold(ctx, r)
	if err != nil {
		return nil, r.failed(err)
	}
	for topic, lines := range f.lines {
		for p, line := range lines {
			if line == nil {
				continue
			}
			if err := line.Check(); err != nil {
				return nil, r.failed(spot{topic: topic, partition: int32(p)}.named(err))
			}
		}
	}
	return f.lines, nil
}

// folded is what all switches come to.
type folded struct {
	runs  Runs
	homes []string // by generation
	// cutOff is the newest generation that did not wait for all before; 0 for none.
	cutOff int64
	lines  map[string][]timeline.Timeline
	last   []spot // of the last cut
}

// fold makes timelines of cuts. Those of planned switches are not checked as a whole: who uses them does.
func fold(ctx context.Context, r Request) (*folded, error) {
	f := &folded{homes: []string{r.First}}
	if len(r.Switches) == 0 {
		return f, nil
	}
	last, err := r.cut(ctx, r.Switches[len(r.Switches)-1])
	if err != nil {
		return nil, err
	}
	wanted := make(map[spot]bool, len(last)) // the timelines of others are over
	for _, s := range last {
		if r.There == nil || int(s.partition) < r.There[s.topic] {
			wanted[s.place()] = true
		}
	}
	for i, v := range r.Switches {
		if err := f.follows(i, v); err != nil {
			return nil, err
		}
		cut := last
		if i < len(r.Switches)-1 {
			if cut, err = r.cut(ctx, v); err != nil {
				return nil, err
			}
		}
		cut = slices.DeleteFunc(cut, func(s spot) bool { return !wanted[s.place()] })
		if err := f.step(v, cut); err != nil {
			return nil, fmt.Errorf("cut of generation %d, from %s to %s: %w", v.Generation, f.homes[i], v.Home, err)
		}
		if f.homes = append(f.homes, v.Home); v.Kind == generation.Unplanned {
			f.cutOff = v.Generation
		}
	}
	return f, nil
}

// cut reads the cut of a switch.
func (r Request) cut(ctx context.Context, v generation.Value) ([]spot, error) {
	topics, err := r.Cut(ctx, v.Cut)
	if err != nil {
		return nil, fmt.Errorf("cut of generation %d: %w", v.Generation, err)
	}
	all, err := spots(topics)
	if err != nil {
		return nil, fmt.Errorf("cut of generation %d: %w: %w", v.Generation, err, ErrCut)
	}
	return all, nil
}

// follows looks whether a decision can be the next.
func (f *folded) follows(i int, v generation.Value) error {
	home := f.homes[i]
	switch {
	case v.Kind != generation.Planned && v.Kind != generation.Back && v.Kind != generation.Unplanned:
		return fmt.Errorf("decision %d is %q, which is no switch: %w", i+1, v.Kind, ErrCut)
	case v.Generation != int64(i+1):
		return fmt.Errorf("decision %d is that of generation %d: %w", i+1, v.Generation, ErrCut)
	case v.Home == "" || v.Home == home || v.From != "" && v.From != home:
		return fmt.Errorf("generation %d goes from %s to %s, and the home before is %s: %w", v.Generation, v.From, v.Home, home, ErrCut)
	}
	return nil
}

// spots are the partitions of a cut, each once.
func spots(topics []generation.CutTopic) (all []spot, err error) {
	for _, t := range topics {
		n := len(t.Virtual)
		if t.Topic == "" || t.First < 0 || t.First+n > mostPartitions || len(t.Real) != n || len(t.Left) != n || len(t.Had) > 0 && len(t.Had) != n {
			return nil, fmt.Errorf("topic %.100q from partition %d on: %d virtual offsets, %d real ones, %d of the home that is left", t.Topic, t.First, n, len(t.Real), len(t.Left))
		}
		for i := range n {
			s := spot{t.Topic, int32(t.First + i), t.Virtual[i], t.Real[i], t.Left[i], nil}
			if len(t.Had) > 0 {
				s.had = &t.Had[i]
			}
			all = append(all, s)
		}
	}
	slices.SortFunc(all, spot.compare)
	for i := 1; i < len(all); i++ {
		if all[i].compare(all[i-1]) == 0 {
			return nil, all[i].named(errors.New("it is there twice"))
		}
	}
	return all, nil
}

// step takes the partitions of a cut over a change of home. The timelines of others are over.
func (f *folded) step(v generation.Value, cut []spot) error {
	before := f.lines
	f.last = cut
	f.lines = make(map[string][]timeline.Timeline, len(before))
	for _, s := range f.last { // in order, so that the last of a topic says how many there are
		if lines := f.lines[s.topic]; int(s.partition) >= len(lines) {
			f.lines[s.topic] = append(lines, make([]timeline.Timeline, int(s.partition)+1-len(lines))...)
		}
	}
	var failed []error
	for _, s := range f.last {
		next, err := change(v, s, s.line(before, v.Generation-1, f.homes[v.Generation-1]))
		if err != nil {
			if failed = append(failed, s.named(err)); len(failed) == mostErrors {
				break
			}
		}
		f.lines[s.topic][s.partition] = next
	}
	return errors.Join(failed...)
}

// change takes one partition over a change of home.
func change(v generation.Value, s spot, line timeline.Timeline) (timeline.Timeline, error) {
	switch {
	case v.Kind == generation.Unplanned && s.had == nil:
		return nil, fmt.Errorf("it does not say what %s had: %w", v.Home, ErrCut)
	case v.Kind == generation.Unplanned:
		c := timeline.Change{Home: v.Home, End: s.had.End, Bound: s.virtual, First: s.virtual, Real: s.had.From, Own: s.real}
		for i := 0; i+1 < len(s.had.Missing); i += 2 {
			c.Missing = append(c.Missing, timeline.Span{First: s.had.Missing[i], End: s.had.Missing[i+1]})
		}
		return line.Next(c)
	}
	if at := line.Now().Virtual(s.left); at != s.virtual {
		return nil, fmt.Errorf("the next generation begins at virtual offset %d, and the end of the log that is left, %d, is %d: %w", s.virtual, s.left, at, ErrCut)
	}
	c := timeline.Planned(v.Home, s.virtual, s.real)
	if s.had != nil {
		c.Real = s.had.From
	}
	return planned(line, c), nil
}

// planned is [timeline.Timeline.Next] of a planned change, without a look at all that was before: that would be one for each of all changes. The line
// is taken over.
func planned(line timeline.Timeline, c timeline.Change) timeline.Timeline {
	last := &line[len(line)-1]
	last.End, last.Bound = c.End, c.Bound
	return append(line, timeline.Generation{Number: last.Number + 1, Home: c.Home, First: c.First, Real: c.Real, Own: c.Own, End: timeline.Running})
}
