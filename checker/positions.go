package checker

import (
	"cmp"
	"fmt"
	"math"
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
	// Target is that at the target, -1 if the mirror does not say one.
	Target int64
	// Start is where the target's log began then: what was before it is deleted, and a position there is one at the beginning.
	Start int64
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
	// both has each record of the log, and held where those are at the target that are in both, in the order of the target.
	both map[key]*copies
	held []int64
	// former are the origins of which the log has records that they have no longer, which came here and there on ways of their own. Up to the first
	// record behind those that an origin still has, or to the end, nobody needs to know where a group goes on.
	former map[string]int64
}

// copies are the offsets of what is one record, at the source and at the target.
type copies struct{ source, target []int64 }

// Position takes a group's position, in the order in which they were true. It returns ErrLate after the first Hop or Add.
// Hop has to tell of all records of the log that it counts in, also of that cluster's own.
func (t *Target) Position(p Position) error {
	if t.begun {
		return fmt.Errorf("add position of group %s in %s/%d: %w", p.Group, p.Topic, p.Partition, ErrLate)
	}
	l := t.positions.logs[p.log()]
	if l == nil {
		l = &positionLog{at: p.log(), here: p.Topic, both: map[key]*copies{}, former: map[string]int64{}}
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

// At takes a record of a log that positions count in, for these alone: Hop is for records that passed there on their way here, and for their
// ledger. apart says that the record came to that cluster and to this one on ways of their own. If its origin has it no longer, as the topic was
// made anew there or the log truncated, nothing says any more which offset here belongs to which one there: until a group has read what the origin
// has now, its position need not be known. One that is said skips nothing all the same.
func (t *Target) At(cluster string, r Record, apart bool) {
	t.begun = true
	if len(t.positions.order) == 0 {
		return
	}
	at := place{cluster, r.Topic, r.Partition, r.Life}
	if l := t.positions.logs[at]; l != nil && apart {
		_, origin, _ := t.src.find(r.UID, r.Origin)
		until, known := l.former[origin]
		switch orphan := t.orphan(r); {
		case orphan:
			l.former[origin] = math.MaxInt64
		case known && until == math.MaxInt64:
			l.former[origin] = r.Offset
		}
	}
	t.positions.hop(at, t.src.hash(r.UID), r.Offset)
}

// orphan reports whether the origin of a record lost it with its log, or the end of that.
func (t *Target) orphan(r Record) bool {
	i, _, ok := t.src.find(r.UID, r.Origin)
	for ; ok && i != none; i = t.src.entries.at(i).next {
		if e := t.src.entries.at(i); !t.src.over(t.src.places[e.place]) && !t.src.forgotten(e) {
			return false
		}
	}
	return ok
}

// hop notes where a record lies in a log that groups have read.
func (s *positions) hop(at place, uid key, offset int64) {
	l := s.logs[at]
	if l == nil {
		return
	}
	if l.both[uid] == nil {
		l.both[uid] = new(copies)
	}
	l.both[uid].source = append(l.both[uid].source, offset)
}

// add notes where a record of the target lies in the logs that groups have read.
func (s *positions) add(r Record, uid key) {
	for _, l := range s.order {
		if l.here != r.Topic || l.at.partition != r.Partition {
			continue
		}
		if c := l.both[uid]; c != nil {
			c.target = append(c.target, r.Offset)
			l.held = append(l.held, r.Offset)
		}
	}
}

// limits say where a group may stand at the target that stands somewhere at the source. A record that is as often here as there has its copies in
// the order of the originals, and the two limits are one. One that was copied once more is on one side more often than on the other: then its
// copies may be the first or the last of them.
type limits struct {
	// must is where the first record lies that has to be read, of what the target still has; might where the first one lies or lay of which a
	// copy may not have been read.
	must, might []limit
}

// limit is the target offset of the first of all records that are at a source offset or behind it.
type limit struct{ source, target int64 }

// limits are those while the target's log begins at an offset.
func (l *positionLog) limits(start int64) (v limits) {
	for _, c := range l.both {
		here, there := len(c.target), len(c.source)
		for i, source := range c.source {
			if might := max(0, min(here, there)-there+i); might < here {
				v.might = append(v.might, limit{source, c.target[might]})
			}
			if must := max(here, there) - there + i; must < here && c.target[must] >= start {
				v.must = append(v.must, limit{source, c.target[must]})
			}
		}
	}
	for _, all := range [][]limit{v.must, v.might} {
		slices.SortFunc(all, func(a, b limit) int { return cmp.Compare(a.source, b.source) })
		for i := len(all) - 2; i >= 0; i-- {
			all[i].target = min(all[i].target, all[i+1].target)
		}
	}
	return v
}

// behind is the limit of a group that stands at a source offset; without one it may stand anywhere.
func behind(all []limit, source int64) int64 {
	i := sort.Search(len(all), func(i int) bool { return all[i].source >= source })
	if i == len(all) {
		return math.MaxInt64
	}
	return all[i].target
}

// between counts the records of both logs that lie at the target from one offset up to another.
func (l *positionLog) between(from, to int64) int64 {
	at := func(offset int64) int {
		return sort.Search(len(l.held), func(i int) bool { return l.held[i] >= offset })
	}
	return int64(at(to) - at(from))
}

// open reports whether nobody needs to know where a group goes on that stands at a source offset.
func (l *positionLog) open(source int64) bool {
	for _, until := range l.former {
		if source < until {
			return true
		}
	}
	return false
}

// judge judges the positions against where the records are by now. find is told what is wrong with one.
func (l *positionLog) judge(rereads int64, find func(p Position, detail string)) {
	before := map[string]Position{}
	began := map[int64]limits{}
	for _, p := range l.all {
		was, known := before[p.Group]
		if !p.Active {
			before[p.Group] = p
		}
		v, ok := began[p.Start]
		if !ok {
			v = l.limits(p.Start)
			began[p.Start] = v
		}
		// What lies before the first record that may not have been read need not be read again.
		must, might := behind(v.must, p.Source), behind(v.might, p.Source)
		switch again := l.between(max(p.Target, p.Start), might); {
		case p.Active && p.Target != p.Own:
			find(p, fmt.Sprintf("its members are active there and had committed %d", p.Own))
		case p.Active:
		case p.Target < 0 && l.open(p.Source):
			delete(before, p.Group)
		case p.Target < 0:
			find(p, "is not translated")
		case p.End > 0 && p.Target > p.End:
			find(p, fmt.Sprintf("the log ends at %d", p.End))
		case p.Target > must:
			find(p, fmt.Sprintf("skips what was not read: the first of that is at %d", must))
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
