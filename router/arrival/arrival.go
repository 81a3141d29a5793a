package arrival

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// Runs tells where the mirror put records.
type Runs interface {
	// Runs is what of the log of cluster from is at cluster at, for a partition of a topic (its name is the same at both): all that was copied and made durable
	// until the call, by the link from → at, and, turned round, by the link at → from. They are in the order of From and do not overlap. No link either
	// way is an error.
	Runs(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error)
	// Copied is that of it which the link from → at has brought itself: nobody but cluster at is asked. No such link is an error.
	Copied(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error)
	// Producers is what that link has copied of the clients' producers, whose ids have the salt of the generation that they wrote in; Base of a batch is where it is at cluster at.
	Producers(ctx context.Context, from, at, topic string, partition int32) ([]gate.Producer, error)
}

// Request is a home that was decided on.
type Request struct {
	Router, Set string
	First       string // the home of generation 0
	// Switches are all that were decided of the set, in the order of their generations (1, 2, …), without those that stay; the last is the one
	// arrived at. Empty: generation 0.
	Switches []generation.Value
	Cut      func(ctx context.Context, ref generation.CutRef) ([]generation.CutTopic, error)
	// There is how many partitions each topic has at the home arrived at. What was deleted there since is left out: the mirror tells nothing of it any more.
	// Nil is all that the last cut names.
	There map[string]int
	// Along says that clients are taken along from the generation before; else nothing is known of producers.
	Along bool
	// Left is the home that is left, if it can be asked. If it is nil the last switch was unplanned, or nothing is known of producers either.
	Left *broker.Cluster
	// Earlier are other clusters that were home and can be asked, the home arrived at among them: they know producers that were silent in the
	// generation that ended. One that does not answer soon is passed over.
	Earlier []*broker.Cluster
	Salted  func(id int64) (int64, error) // gate.Salted in the generation arrived at
	Now     time.Time
}

// Arrived is what there is to know of a home.
type Arrived struct {
	// Positions are nil in generation 0.
	Positions *positions.Book
	// Producers are nil in generation 0. Where nobody could be asked they gate nothing, and tell the ids that the home sees.
	Producers *gate.Book
}

// Build makes what a router needs of the home of the last switch. All that the mirror has copied from the homes before must be known to runs: what it does
// not tell of looks like compacted. An error names the partitions, some of them if there are many, and the call may be made again; it wraps
// [timeline.ErrImpossible] or [ErrCut] where that does not help.
func Build(ctx context.Context, r Request, runs Runs) (Arrived, error) {
	if len(r.Switches) == 0 {
		return Arrived{}, nil
	}
	f, err := fold(ctx, r)
	if err != nil {
		return Arrived{}, r.failed(err)
	}
	f.runs = runs
	var a Arrived
	lost := r.Along && r.Switches[len(r.Switches)-1].Kind == generation.Unplanned // what is known of producers has to be placed then
	both, asked := errgroup.WithContext(ctx)
	both.Go(func() error {
		maps, err := f.place(asked)
		a.Positions = positions.New(maps)
		return err
	})
	both.Go(func() (err error) {
		if !lost {
			a.Producers, err = gates(asked, r, f)
		}
		return err
	})
	err = both.Wait()
	if err == nil && lost {
		a.Producers, err = gatesOfLost(ctx, r, f, a.Positions)
	}
	if err != nil {
		return Arrived{}, r.failed(err)
	}
	return a, nil
}

// failed says what was built.
func (r Request) failed(err error) error {
	set := ""
	if r.Set != "" {
		set = fmt.Sprintf(" of set %s", r.Set)
	}
	return fmt.Errorf("arrive at generation %d%s of router %s: %w", len(r.Switches), set, r.Router, err)
}

// place makes the maps of all partitions for the home of now.
func (f *folded) place(ctx context.Context) (map[string][]*timeline.Map, error) {
	maps := make(map[string][]*timeline.Map, len(f.lines))
	var all []spot
	for topic, lines := range f.lines {
		maps[topic] = make([]*timeline.Map, len(lines))
		for p, line := range lines {
			if line != nil {
				all = append(all, spot{topic: topic, partition: int32(p)})
			}
		}
	}
	slices.SortFunc(all, spot.compare)
	err := each(ctx, all, func(ctx context.Context, s spot) error {
		m, err := f.mapOf(ctx, s, f.lines[s.topic][s.partition])
		maps[s.topic][s.partition] = m
		return err
	})
	return maps, err
}

// mapOf makes the map of one partition.
func (f *folded) mapOf(ctx context.Context, s spot, line timeline.Timeline) (*timeline.Map, error) {
	runs, err := f.runsOf(ctx, s, line)
	if err != nil {
		return nil, err
	}
	return timeline.Build(line, runs)
}

// runsOf finds what [timeline.Build] needs.
func (f *folded) runsOf(ctx context.Context, s spot, line timeline.Timeline) (map[int64][]timeline.Run, error) {
	home := line.Now().Home
	runs, found := make(map[int64][]timeline.Run), make(map[source][]timeline.Run)
	for _, g := range line[:len(line)-1] {
		if g.Home == home || g.End == g.First {
			continue
		}
		from := source{g.Home, f.reduced(g)}
		all, known := found[from]
		if !known {
			find := f.runs.Runs
			if from.reduced {
				find = f.runs.Copied
			}
			var err error
			if all, err = find(ctx, g.Home, home, s.topic, s.partition); err != nil {
				return nil, err
			}
			found[from] = all
		}
		runs[g.Number] = within(all, g.Real, g.At(g.End))
	}
	return runs, nil
}

// source is where runs of a generation come from.
type source struct {
	home    string
	reduced bool
}

// reduced reports whether all that a generation still has was brought from its home by links alone: so it is since a home that did not wait for it, and had nothing else to go by. Its own
// home may be away since then.
func (f *folded) reduced(g timeline.Generation) bool {
	return g.Number < f.cutOff && g.Home != f.homes[f.cutOff]
}

// within is those of runs that have something from one offset up to and without to another; it is never nil. Runs are in the order of From, without
// overlaps.
func within(runs []timeline.Run, from, to int64) []timeline.Run {
	first := sort.Search(len(runs), func(i int) bool { return runs[i].From+runs[i].Count > from })
	end := first + sort.Search(len(runs)-first, func(i int) bool { return runs[first+i].From >= to })
	if first == end {
		return []timeline.Run{}
	}
	return runs[first:end]
}
