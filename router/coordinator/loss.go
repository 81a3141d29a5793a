package coordinator

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// Loss is what a home that was not asked acknowledged to clients of the router and did not get to the one that takes its place, as far as instances know: a bound, so there may be less.
type Loss struct {
	Records int64     // in all
	Stretch []Stretch // the longest first
	Silent  []string  // instances that did not say: what only their clients were told is not in it
}

// Stretch is some offsets of the lost home, from First up to and without End.
type Stretch struct {
	Topic      string
	Partition  int32
	First, End int64
}

// missing asks the instances what was acknowledged, and holds it against a cut.
func (a *attempt) missing(ctx context.Context, s switchover.State, cut []generation.CutTopic) *Loss {
	if a.deps.Written == nil {
		return nil
	}
	ends, silent := a.deps.Written(ctx, s.Set, s.Proposal.Generation)
	return lossOf(ends, silent, cut)
}

// lossOf is what lies between what the new home has and the ends.
func lossOf(ends map[string][]int64, silent []string, cut []generation.CutTopic) *Loss {
	t := &Loss{Silent: silent}
	left := make(map[string][]int64, len(cut))
	for _, c := range cut {
		left[c.Topic] = c.Left
	}
	for topic, all := range ends {
		for p, end := range all {
			first := int64(0) // of a topic that the new home has not got at all
			if has := left[topic]; p < len(has) {
				first = has[p]
			}
			if end > first {
				t.Records += end - first
				t.Stretch = append(t.Stretch, Stretch{topic, int32(p), first, end})
			}
		}
	}
	slices.SortFunc(t.Stretch, func(a, b Stretch) int {
		return cmp.Or(cmp.Compare(b.End-b.First, a.End-a.First), strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return t
}
