package arrival

import (
	"fmt"
	"math"

	"github.com/isthmus-project/isthmus/router/generation"
)

// Open is the end of a stretch that still goes on.
const Open = math.MaxInt64

// Tail is what a home had in a partition behind what was copied of it, when it was lost. It is a stretch of the lost home's log, in which there may be nothing.
type Tail struct {
	Topic      string
	Partition  int32
	Lost       string // cluster
	Generation int64  // that began without it
	At         int64  // when that was decided: ms since 1970, of the coordinator's clock
	// First is where the next home's cut left it. End is where the generation began in which it was home again, or [Open].
	First, End int64
	// Homes are the logs of the homes that followed, until it was home again, in the order of generations.
	Homes []Stretch
}

// Stretch is a part of a home's log that is of one generation: from where that began until where it was left, or [Open]. Of one that was lost in its turn the end is where the
// next cut left it: what is behind is a tail of its own.
type Stretch struct {
	Home       string
	Generation int64
	From, End  int64
}

// Tails are those of all homes of a set that were lost, by the decisions alone: the oldest loss first, then by topic and partition. Only partitions are named that the cut of the loss
// names. Cuts are as in [Request]; an error names the generation, and wraps [ErrCut] where decisions or cuts do not fit.
func Tails(first string, switches []generation.Value, cut func(generation.CutRef) ([]generation.CutTopic, error)) ([]Tail, error) {
	f := &folded{homes: []string{first}}
	var out []Tail
	places := make(map[spot][]int) // indices of the tails of a partition
	for i, v := range switches {
		if err := f.follows(i, v); err != nil {
			return nil, err
		}
		topics, err := cut(v.Cut)
		if err != nil {
			return nil, fmt.Errorf("cut of generation %d: %w", v.Generation, err)
		}
		all, err := spots(topics)
		if err != nil {
			return nil, fmt.Errorf("cut of generation %d: %w: %w", v.Generation, err, ErrCut)
		}
		for _, s := range all {
			for _, k := range places[s.place()] {
				out[k].step(v, s)
			}
			if v.Kind == generation.Unplanned {
				places[s.place()] = append(places[s.place()], len(out))
				out = append(out, Tail{Topic: s.topic, Partition: s.partition, Lost: f.homes[i], Generation: v.Generation, At: v.Proposed, First: s.left, End: Open,
					Homes: []Stretch{{v.Home, v.Generation, s.real, Open}}})
			}
		}
		f.homes = append(f.homes, v.Home)
	}
	return out, nil
}

// step takes a tail over the next change of home.
func (t *Tail) step(v generation.Value, s spot) {
	if t.End != Open {
		return
	}
	t.Homes[len(t.Homes)-1].End = s.left
	if v.Home == t.Lost {
		t.End = max(s.real, t.First)
		return
	}
	t.Homes = append(t.Homes, Stretch{v.Home, v.Generation, s.real, Open})
}
