package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// spot is one record of one partition: where it is and which.
type spot struct {
	offset int64
	uid    string
}

// partitionLog is one partition of one cluster as an ordinary consumer reads it.
type partitionLog struct {
	spots []spot // by offset
	end   int64
}

// readLogs reads topics of a site, by topic and partition.
func readLogs(ctx context.Context, s *Site, topics ...string) (map[string]map[int32]*partitionLog, error) {
	ends, err := s.Ends(ctx, topics...)
	if err != nil {
		return nil, err
	}
	logs := make(map[string]map[int32]*partitionLog)
	for topic, partitions := range ends {
		logs[topic] = make(map[int32]*partitionLog)
		for p, end := range partitions {
			logs[topic][p] = &partitionLog{end: end}
		}
	}
	err = judge.Read(ctx, s.Client(), topics, func(r checker.Record) error {
		l := logs[r.Topic][r.Partition]
		l.spots = append(l.spots, spot{r.Offset, r.UID})
		return nil
	})
	return logs, err
}

// at is the record at an offset, "" if there is none.
func (l *partitionLog) at(offset int64) string {
	i, ok := slices.BinarySearchFunc(l.spots, offset, func(s spot, o int64) int { return cmp.Compare(s.offset, o) })
	if !ok {
		return ""
	}
	return l.spots[i].uid
}

// truth knows, from two logs alone, where a reader of one goes on in the other.
type truth struct {
	from, to *partitionLog
	// common are the records that both logs hold, by their place in from; first is the earliest place in to of this
	// record or any later one.
	common []shared
	// last is the last place in to of a common record, -1 if there is none.
	last int64
}

type shared struct{ from, first int64 }

// newTruth compares two logs of which nothing is on its way any more. Records that only one of them holds belong to no
// reader of both.
func newTruth(from, to *partitionLog) *truth {
	places := make(map[string]int64, len(to.spots))
	for _, s := range to.spots {
		places[s.uid] = s.offset
	}
	t := &truth{from: from, to: to, last: -1}
	for _, s := range from.spots {
		if at, ok := places[s.uid]; ok {
			t.common = append(t.common, shared{s.offset, at})
			t.last = max(t.last, at)
		}
	}
	for i := len(t.common) - 2; i >= 0; i-- {
		t.common[i].first = min(t.common[i].first, t.common[i+1].first)
	}
	return t
}

// What can be wrong with a translation; every finding of check wraps one.
var (
	errWrongPlace = errors.New("wrong place")
	errNotExact   = errors.New("called exact, and is not")
	errExact      = errors.New("exact, and not called so")
)

// check judges an answer for a reader that has everything before offset. Right is the highest position that skips nothing:
// the first record in to that the reader does not have. Where it has them all, any place behind the last of them is right.
func (t *truth) check(offset, result int64, exact bool) error {
	asked, found := t.from.at(offset), t.to.at(result)
	same := asked != "" && asked == found
	i, _ := slices.BinarySearchFunc(t.common, offset, func(s shared, o int64) int { return cmp.Compare(s.from, o) })
	switch {
	case i < len(t.common) && result != t.common[i].first:
		want := t.common[i].first
		return fmt.Errorf("%w: offset %d (%q) became %d (%q), want %d (%q)", errWrongPlace, offset, asked, result, found, want, t.to.at(want))
	case i == len(t.common) && (result <= t.last || result > t.to.end):
		return fmt.Errorf("%w: offset %d (%q) became %d, want a place from %d to %d", errWrongPlace, offset, asked, result, t.last+1, t.to.end)
	case exact && !same:
		return fmt.Errorf("%w: offset %d (%q) became %d (%q)", errNotExact, offset, asked, result, found)
	case same && !exact:
		return fmt.Errorf("%w: offset %d became %d, where the same record %q is", errExact, offset, result, asked)
	}
	return nil
}
