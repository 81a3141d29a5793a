package oracle

import (
	"cmp"
	"maps"
	"slices"
)

// reader is a group, or a program that is in none, at one partition.
type reader struct {
	name      string
	partition int32
}

// stretch is what one program reads of a partition between getting it and giving it up.
type stretch struct {
	run       string
	partition int32
}

// readers compares what consumers read with what is stored: nothing skipped, nothing twice, positions only forward.
func (j *judge) readers(history []Event) {
	var (
		next    = make(map[stretch]int)          // which record of the log comes next
		times   = make(map[reader]map[int64]int) // how often each offset was read
		from    = make(map[reader]int64)         // where a program was told to begin
		commits = make(map[reader]int64)         // the group's position
		names   = make(map[string]bool)          // of readers, and whether they are groups
		done    = func(e Event, part int32) reader { return reader{cmp.Or(e.Group, e.Run), part} }
	)
	for _, e := range history {
		at, who := stretch{e.Run, e.Partition}, done(e, e.Partition)
		switch e.Kind {
		case Assigned, Revoked, Lost:
			names[who.name] = e.Group != ""
			for _, part := range e.Partitions {
				delete(next, stretch{e.Run, part})
			}
		case Started:
			names[who.name] = e.Group != ""
			from[who] = e.Offset
		case Committed:
			if before, ok := commits[who]; ok && e.Offset < before && !j.promise.Tail {
				j.say("a position was committed backwards", "%s: partition %d, %d after %d", e.Run, e.Partition, e.Offset, before)
			}
			commits[who] = e.Offset
		case Read:
			names[who.name] = e.Group != ""
			i, ok := slices.BinarySearchFunc(j.stored[e.Partition], e.Offset, func(r Record, offset int64) int { return cmp.Compare(r.Offset, offset) })
			if j.promise.Tail && !ok && len(j.at[e.ID]) > 0 {
				continue // it was read where it was before
			}
			if !ok || j.stored[e.Partition][i].ID != e.ID {
				j.say("read and not stored there", "%s: id %d at partition %d, offset %d", e.Run, e.ID, e.Partition, e.Offset)
				continue
			}
			switch expected, running := next[at]; {
			case running && i < expected:
				j.say("read backwards", "%s: partition %d, offset %d after %d", e.Run, e.Partition, e.Offset, j.stored[e.Partition][expected-1].Offset)
			case running && i > expected:
				j.say("skipped while reading", "%s: partition %d, offset %d after %d", e.Run, e.Partition, e.Offset, j.stored[e.Partition][expected-1].Offset)
			case !running && e.Offset < commits[who] && !j.promise.Tail:
				j.say("read again although committed", "%s: partition %d, offset %d, committed was %d", e.Run, e.Partition, e.Offset, commits[who])
			}
			next[at] = i + 1
			if times[who] == nil {
				times[who] = make(map[int64]int)
			}
			times[who][e.Offset]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, part := range slices.Sorted(maps.Keys(j.stored)) {
			who := reader{name, part}
			for _, r := range j.stored[part] {
				switch n := times[who][r.Offset]; {
				case n == 0 && r.Offset >= from[who] && !j.promise.Unread:
					j.say("never read", "%s: id %d at partition %d, offset %d", name, r.ID, part, r.Offset)
				case n > 1 && !(j.promise.Rereads && names[name]):
					j.say("read twice", "%s: id %d at partition %d, offset %d", name, r.ID, part, r.Offset)
				}
			}
		}
	}
}
