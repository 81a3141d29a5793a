package arrival

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// Mirror tells where the mirror put records, and how far it is.
type Mirror interface {
	Runs
	// Reached is the source offset behind all that the link from → to is durably known to have copied of a partition, or passed over.
	Reached(ctx context.Context, from, to, topic string, partition int32) (int64, error)
}

// Lost is a home that cannot be asked, and the one that takes its place.
type Lost struct {
	From, To string
	Number   int64 // of the generation that ends
	// Own are the ends of the new home's logs, by topic and partition: of all topics that go there.
	Own map[string][]int64
	// First is where the next generation of a partition begins, which is known to have gone to a virtual offset.
	First func(topic string, partition int, end int64) int64
	// Back tells whether a link brings a topic from the new home to the lost one: then clients know what the new home had from elsewhere.
	Back func(topic string) bool
}

// CutOff makes the cut of a switch that does not wait for the home that is left. It says what the new home has of all before it by what the links have brought there, durably: nobody
// can tell later, because they go on when the lost home comes back. What the new home has besides, it has in the new generation, so that whoever has not seen it does then. before are as
// of [Cut]. The error names partitions, some of them if there are many.
func CutOff(ctx context.Context, before map[string][]timeline.Timeline, lost Lost, mirror Mirror) ([]generation.CutTopic, error) {
	var all []spot
	out := make([]generation.CutTopic, 0, len(lost.Own))
	index := make(map[string]int, len(lost.Own))
	for _, topic := range slices.Sorted(maps.Keys(lost.Own)) {
		n := len(lost.Own[topic])
		if n == 0 {
			continue
		}
		index[topic] = len(out)
		out = append(out, generation.CutTopic{Topic: topic, Virtual: make([]int64, n), Real: slices.Clone(lost.Own[topic]), Left: make([]int64, n), Had: make([]generation.Had, n)})
		for p, own := range lost.Own[topic] {
			all = append(all, spot{topic: topic, partition: int32(p), real: own})
		}
	}
	err := each(ctx, all, func(ctx context.Context, s spot) error {
		at, err := lost.cut(ctx, s, s.line(before, lost.Number, lost.From), mirror)
		t := &out[index[s.topic]]
		if err == nil {
			t.Virtual[s.partition], t.Left[s.partition], t.Had[s.partition] = at.virtual, at.left, *at.had
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cut off %s: %w", lost.From, err)
	}
	return out, nil
}

// cut finds what is to be said of a partition.
func (l Lost) cut(ctx context.Context, s spot, line timeline.Timeline, mirror Mirror) (spot, error) {
	had := make(map[string][]timeline.Run)
	for _, g := range line {
		if _, known := had[g.Home]; known || g.Home == l.To || g.End == g.First {
			continue
		}
		reached, err := mirror.Reached(ctx, g.Home, l.To, s.topic, s.partition)
		if err != nil {
			return s, err
		}
		all, err := mirror.Copied(ctx, g.Home, l.To, s.topic, s.partition)
		if err != nil {
			return s, err
		}
		had[g.Home] = below(within(all, 0, reached), reached, s.real)
		if g.Home == l.From {
			s.left = reached
		}
	}
	now := line.Now()
	end := now.Real
	for _, r := range had[now.Home] {
		end = max(end, r.From+r.Count)
	}
	s.virtual = l.First(s.topic, int(s.partition), max(now.First, now.Virtual(s.left)))
	c := timeline.Change{Home: l.To, End: now.Virtual(end), Bound: s.virtual, First: s.virtual, Real: s.real, Own: s.real}
	for _, g := range line {
		if g.End == timeline.Running {
			g.End = c.End
		}
		if g.Home != l.To {
			c.Missing = append(c.Missing, g.Uncopied(had[g.Home], g.Real, g.At(g.End))...)
		}
	}
	c.Missing = timeline.Coarsen(c.Missing, timeline.MaxMissing)
	var err error
	if c.Real, err = unknown(line, c, had, l.Back(s.topic)); err == nil {
		_, err = line.Next(c)
	}
	s.had = &generation.Had{End: c.End, From: c.Real}
	for _, m := range c.Missing {
		s.had.Missing = append(s.had.Missing, m.First, m.End)
	}
	return s, err
}

// unknown is the first offset at the new home, of all or since it has anything of the timeline, that is in no generation before: the new one has it.
func unknown(line timeline.Timeline, c timeline.Change, had map[string][]timeline.Run, all bool) (int64, error) {
	next, err := line.Next(c)
	if err != nil {
		return 0, err
	}
	first := c.Own
	if all {
		first = 0
	}
	runs := make(map[int64][]timeline.Run)
	for _, g := range next[:len(next)-1] {
		if g.Home == c.Home {
			first = min(first, g.Real)
			continue
		}
		runs[g.Number] = within(had[g.Home], g.Real, g.At(g.End))
	}
	for _, all := range had {
		for _, r := range all {
			first = min(first, r.To)
		}
	}
	m, err := timeline.Build(next, runs)
	if err != nil {
		return 0, err
	}
	if gaps := m.Gaps(first, c.Own); len(gaps) > 0 {
		return gaps[0].Real, nil
	}
	return c.Own, nil
}

// Unseen adds to the cut of a planned switch what the new home has and the one that is left has not, of a home that was lost earlier and is away still, or not all brought since: it is in the
// generation that begins. Without such a home it does nothing. back is as of [Lost].
func Unseen(ctx context.Context, r Request, from, to string, before map[string][]timeline.Timeline, cut []generation.CutTopic, back func(topic string) bool, runs Runs) error {
	if lost := r.lost(); lost == "" || lost == from || lost == to {
		return nil
	}
	f, err := fold(ctx, r)
	if err != nil {
		return err
	}
	f.runs = runs
	all, err := spots(cut)
	if err != nil {
		return err
	}
	index := make(map[string]*generation.CutTopic)
	for i := range cut {
		t := &cut[i]
		index[t.Topic], t.Had = t, make([]generation.Had, len(t.Virtual))
	}
	return each(ctx, all, func(ctx context.Context, s spot) error {
		line := s.line(before, int64(len(r.Switches)), from)
		c := timeline.Planned(to, s.virtual, s.real)
		next, err := line.Next(c)
		if err != nil {
			return err
		}
		brought, err := f.runsOf(ctx, s, next)
		if err != nil {
			return err
		}
		known := make(map[string][]timeline.Run)
		for _, g := range next[:len(next)-1] {
			known[g.Home] = append(known[g.Home], below(brought[g.Number], g.At(g.End), s.real)...)
		}
		first, err := unknown(line, c, known, back(s.topic))
		index[s.topic].Had[s.partition] = generation.Had{End: s.virtual, From: first}
		return err
	})
}

// lost is the home that was left last without being asked, if it was not home since.
func (r Request) lost() (lost string) {
	for _, v := range r.Switches {
		switch {
		case v.Kind == generation.Unplanned:
			lost = v.From
		case v.Home == lost:
			lost = ""
		}
	}
	return lost
}

// below are the parts of runs before an offset of the cluster that they come from, and one of that which they lead to.
func below(runs []timeline.Run, from, to int64) []timeline.Run {
	out := make([]timeline.Run, 0, len(runs))
	for _, r := range runs {
		if r.Count = min(r.Count, from-r.From, to-r.To); r.Count > 0 {
			out = append(out, r)
		}
	}
	return out
}

// Needed is how far the mirror must have brought the logs of homes before the one that is left, by home, topic and partition, for a home to have all that clients know: what it lacks it would
// get later, as something new.
func Needed(before map[string][]timeline.Timeline, to string) map[string]map[string][]int64 {
	out := make(map[string]map[string][]int64)
	for topic, lines := range before {
		for p, line := range lines {
			for _, g := range line {
				if g.Home == to || g.End == timeline.Running || g.End == g.First {
					continue
				}
				if out[g.Home] == nil {
					out[g.Home] = make(map[string][]int64)
				}
				if out[g.Home][topic] == nil {
					out[g.Home][topic] = make([]int64, len(lines))
				}
				out[g.Home][topic][p] = max(out[g.Home][topic][p], g.At(g.End))
			}
		}
	}
	return out
}
