package checker

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// Position is where a consumer group stands at one cluster, and what the mirror makes of that at the target: a position that it has set there, or
// what it answers when it is asked.
type Position struct {
	Group string
	// Cluster is where the group has read, Topic the name there, Life that of the log.
	Cluster, Topic string
	Partition      int32
	Life           int32
	// Source is the offset there of the first record that the group has not read.
	Source int64
	// Target is that at the target, -1 if the mirror knows none.
	Target int64
	// End was the end of the target's log when Target was read or later, 0 where that is not looked at.
	End int64
	// Active says that members of the group read at the target, and that they last committed Own there.
	Active bool
	Own    int64
}

// log is the one that the position counts in.
func (p Position) log() place { return place{p.Cluster, p.Topic, p.Partition, p.Life} }

// positions judges those of all groups.
type positions struct {
	logs  map[place]*positionLog
	order []*positionLog
}

// positionLog is a log that groups have read, beside the target's.
type positionLog struct {
	at   place
	here string // the topic's name at the target
	all  []Position
	// source has the offsets of each record in the log, and how many of its copies were seen.
	source map[key]*copies
	pairs  []pair // in the order of the target
}

// copies are the offsets of what is one record, and how many of them have a copy.
type copies struct {
	offsets []int64
	seen    int
}

// pair is a record at both ends.
type pair struct{ source, target int64 }

// Position takes a group's position, in the order in which they were true. It returns ErrLate after the first Hop or Add.
// Hop has to tell of all records of the log that it counts in, also of that cluster's own.
func (t *Target) Position(p Position) error {
	if t.begun {
		return fmt.Errorf("add position of group %s in %s/%d: %w", p.Group, p.Topic, p.Partition, ErrLate)
	}
	l := t.positions.logs[p.log()]
	if l == nil {
		l = &positionLog{at: p.log(), here: p.Topic, source: map[key]*copies{}}
		if t.cfg.Rename != nil {
			l.here = t.cfg.Rename(p.Cluster, p.Topic)
		}
		if t.positions.logs == nil {
			t.positions.logs = map[place]*positionLog{}
		}
		t.positions.logs[p.log()] = l
		t.positions.order = append(t.positions.order, l)
	}
	l.all = append(l.all, p)
	return nil
}

// hop notes where a record lies in a log that groups have read.
func (s *positions) hop(at place, uid key, offset int64) {
	l := s.logs[at]
	if l == nil {
		return
	}
	if l.source[uid] == nil {
		l.source[uid] = new(copies)
	}
	l.source[uid].offsets = append(l.source[uid].offsets, offset)
}

// add notes where a record of the target lies in the logs that groups have read. Of one that is written more than once, copies come in the order
// of the originals.
func (s *positions) add(r Record, uid key) {
	for _, l := range s.order {
		if l.here != r.Topic || l.at.partition != r.Partition {
			continue
		}
		if c := l.source[uid]; c != nil && c.seen < len(c.offsets) {
			l.pairs = append(l.pairs, pair{c.offsets[c.seen], r.Offset})
			c.seen++
		}
	}
}

// judge judges the positions against where the records are by now. find is told what is wrong with one.
func (l *positionLog) judge(rereads int64, find func(p Position, detail string)) {
	bySource := slices.SortedFunc(slices.Values(l.pairs), func(a, b pair) int { return cmp.Compare(a.source, b.source) })
	// first[i] is the first target offset of bySource[i:].
	first := make([]int64, len(bySource))
	for i, p := range slices.Backward(bySource) {
		first[i] = p.target
		if i+1 < len(first) {
			first[i] = min(first[i], first[i+1])
		}
	}
	before := map[string]Position{}
	for _, p := range l.all {
		was, known := before[p.Group]
		if !p.Active {
			before[p.Group] = p
		}
		from := sort.Search(len(bySource), func(i int) bool { return bySource[i].source >= p.Source })
		// Records from there on are not read; what lies before the first of them at the target need not be read again.
		begin := sort.Search(len(l.pairs), func(i int) bool { return l.pairs[i].target >= p.Target })
		end := len(l.pairs)
		if from < len(first) {
			end = sort.Search(len(l.pairs), func(i int) bool { return l.pairs[i].target >= first[from] })
		}
		switch again := int64(end - begin); {
		case p.Active && p.Target != p.Own:
			find(p, fmt.Sprintf("its members are active there and had committed %d", p.Own))
		case p.Active:
		case p.Target < 0:
			find(p, "is not translated")
		case p.End > 0 && p.Target > p.End:
			find(p, fmt.Sprintf("the log ends at %d", p.End))
		case from < len(first) && p.Target > first[from]:
			find(p, fmt.Sprintf("skips what was not read: the first of that is at %d", first[from]))
		case again > rereads:
			find(p, fmt.Sprintf("%d records that were read come again", again))
		case known && p.Source >= was.Source && p.Target < was.Target:
			find(p, fmt.Sprintf("went back from %d, and at the source from %d to %d", was.Target, was.Source, p.Source))
		}
	}
}

// translated judges all positions.
func (t *Target) translated(out *Report) {
	for _, l := range t.positions.order {
		out.Positions += int64(len(l.all))
		l.judge(t.cfg.Rereads, func(p Position, detail string) {
			out.add(Mistranslated, t.cfg.Examples, Example{"group " + p.Group, p.Cluster, p.Topic, p.Partition, p.Source, p.Target, detail})
		})
	}
}
