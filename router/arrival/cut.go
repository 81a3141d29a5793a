package arrival

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// Cut makes the cut of a planned switch to a cluster: before are the timelines of the generation that ends (see [Timelines]), nil in generation 0; left and real are the ends
// of the logs of all partitions that there are at the home that is left, and of the same at the new one, by topic and partition. Partitions that only
// the new home has are left out.
//
// All below left must be at the new home below real, and all below real that the new home had from elsewhere must be at the left one below left:
// what is in only one of them would be seen again, or by nobody. So, when routers write no more: ask for the end of the new log, wait until the mirror has brought all
// before that to the left home, ask for the left end, wait until the mirror has brought all before that to the new home, and ask for the end of the new log again. If
// that is the one from the beginning, or the new home is written to by routers only, these are the ends; else once more.
//
// Cut sees to it that the timelines can go on so, because once it is decided there is no way back: its error names the partitions, and wraps
// [timeline.ErrImpossible] where a log was cut off or made anew since its generation began.
func Cut(before map[string][]timeline.Timeline, to string, left, real map[string][]int64) ([]generation.CutTopic, error) {
	var out []generation.CutTopic
	var failed []error
	for _, topic := range slices.Sorted(maps.Keys(left)) {
		ends, there := left[topic], real[topic]
		if len(there) < len(ends) {
			failed = append(failed, fmt.Errorf("topic %s has %d partitions, and %d at %s", topic, len(ends), len(there), to))
			continue
		}
		if len(ends) == 0 {
			continue
		}
		t := generation.CutTopic{Topic: topic, Left: slices.Clone(ends), Real: slices.Clone(there[:len(ends)])}
		for p, end := range ends {
			s := spot{topic: topic, partition: int32(p), left: end, real: there[p]}
			var line timeline.Timeline
			if lines := before[topic]; p < len(lines) {
				line = lines[p]
			}
			virtual, err := s.next(line, to)
			if err != nil {
				failed = append(failed, s.named(err))
			}
			t.Virtual = append(t.Virtual, virtual)
		}
		out = append(out, t)
	}
	if n := len(failed); n > mostErrors {
		failed = append(failed[:mostErrors], fmt.Errorf("and %d more", n-mostErrors))
	}
	if err := errors.Join(failed...); err != nil {
		return nil, fmt.Errorf("cut to %s: %w", to, err)
	}
	return out, nil
}

// next is the virtual offset at which the next generation of a partition begins.
func (s spot) next(line timeline.Timeline, to string) (int64, error) {
	if s.left < 0 || s.real < 0 {
		return 0, fmt.Errorf("its log ends at %d, and at %d at %s: one of them is not known", s.left, s.real, to)
	}
	if line == nil {
		return s.left, nil
	}
	now := line.Now()
	virtual := now.Virtual(s.left)
	if s.left < now.Own {
		return 0, fmt.Errorf("%w: the log at %s ends at %d, and generation %d began there at %d: it was cut off, or the topic was made anew", timeline.ErrImpossible, now.Home, s.left, now.Number, now.Own)
	}
	_, err := line.Next(timeline.Planned(to, virtual, s.real))
	return virtual, err
}
