package checker

import (
	"fmt"
	"slices"
	"sort"
)

// LedgerKind is what the mirror says of a range of records.
type LedgerKind uint8

const (
	// Missing records are not on the target. The range must hold no others.
	Missing LedgerKind = iota
	// Repeated records may be on the target more often than at the source.
	Repeated
	// Reordered records may be on the target behind later ones.
	Reordered
	// Perhaps records may be missing: which of the range are cannot be known any more.
	Perhaps
	// Survived records are on the target and no longer at the source, which lost them: see Sources.Truncated.
	Survived
	// Recreated is that the topic was made anew after this life, see Sources.Remade, and that copying left it at First: what it held from there
	// on, whatever Last says, may be missing.
	Recreated
)

// Range is one entry of the mirror's loss ledger.
type Range struct {
	// Cluster is the one in whose log the offsets count.
	Cluster string
	// Topic is the name there.
	Topic     string
	Partition int32
	// Life is that of the records, see Record.
	Life int32
	// First and Last are offsets, both included.
	First, Last int64
	Kind        LedgerKind
}

// ledgerKey says of which log and in which way a list of ranges speaks.
type ledgerKey struct {
	place
	kind LedgerKind
}

// span is a range of offsets, both ends included.
type span struct{ first, last int64 }

// ledger holds ranges, sorted and merged when they are first asked for.
type ledger struct {
	spans map[ledgerKey][]span
	dirty map[ledgerKey]bool
}

func (l *ledger) add(r Range) error {
	if r.First < 0 || r.Last < r.First {
		return fmt.Errorf("add ledger range of %s/%d: impossible range %d to %d", r.Topic, r.Partition, r.First, r.Last)
	}
	if l.spans == nil {
		l.spans, l.dirty = map[ledgerKey][]span{}, map[ledgerKey]bool{}
	}
	k := ledgerKey{place{r.Cluster, r.Topic, r.Partition, r.Life}, r.Kind}
	l.spans[k] = append(l.spans[k], span{r.First, r.Last})
	l.dirty[k] = true
	return nil
}

// covers reports whether a range of the kind holds the offset.
func (l *ledger) covers(at place, kind LedgerKind, offset int64) bool {
	if len(l.spans) == 0 {
		return false
	}
	k := ledgerKey{at, kind}
	if l.dirty[k] {
		l.spans[k] = merge(l.spans[k])
		delete(l.dirty, k)
	}
	spans := l.spans[k]
	i := sort.Search(len(spans), func(i int) bool { return spans[i].last >= offset })
	return i < len(spans) && spans[i].first <= offset
}

// has reports whether there is any range of the kind.
func (l *ledger) has(at place, kind LedgerKind) bool { return len(l.spans[ledgerKey{at, kind}]) > 0 }

// left reports whether copying left a life of a log at the offset or before, and ever whether it left it at all.
func (l *ledger) left(at place, offset int64) (here, ever bool) {
	for _, s := range l.spans[ledgerKey{at, Recreated}] {
		here, ever = here || s.first <= offset, true
	}
	return here, ever
}

// merge sorts spans and joins those that overlap.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s.first <= last.last {
			last.last = max(last.last, s.last)
		} else {
			out = append(out, s)
		}
	}
	return out
}
