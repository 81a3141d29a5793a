// Package checker judges whether a mirror did its work. It is given what was written to
// the source logs and what is found in a target log, and names every record that was
// lost, repeated, reordered, made up, changed or put in the wrong place. It does no I/O
// and knows nothing of the mirror, so that it cannot share its mistakes.
//
// Records are told apart by a unique id (uid) that their producer put into them, and are
// the same if their hash is. Feed a checker in this order:
//
//	src := NewSources()
//	src.Add(cluster, record)        // the log of every source, committed records only
//	src.Produced(cluster, record, Acked) // what producers know, if it was kept
//	src.Truncated(cluster, ...)          // what a source lost by its own fault
//	t := src.Target(Config{...})    // one or several targets
//	t.Ledger(Range{...})            // what the mirror says it lost
//	t.Position(Position{...})       // where groups stand, and what the mirror makes of it
//	t.Hop(cluster, record)          // only where a ledger or a position counts in a hub's offsets
//	t.At(cluster, record, apart)    // likewise, where only positions do
//	t.Add(record)                   // the log of the target
//	t.Reread(record)                // the same log, read once more
//	t.Report()
//
// [Check] does the same for histories that fit in slices.
//
// The truth about an origin is the log of its own cluster: records there that say another
// origin, or by which link they came, are copies and are left out. So the logs of all
// clusters of a mesh can be fed as they are, once as sources and once as targets. A
// target must hold every record of every other origin once and in the order of its
// origin; between origins any order is right. The target's own records are looked at for
// loops only.
//
// # What it cannot see
//
// A record that log compaction removed looks lost unless [Config.Compacted] is set, and one that retention removed from
// the source before it was read looks made up, unless [Sources.Produced] tells of it. A
// record that is in the first read of a log and not in the second is not called
// unstable, as retention may have removed it. What was not copied yet is pending and not
// lost, as long as nothing after it was copied; [Config.Complete] says that copying is
// over, and [Config.Idle] that it had the time to be.
//
// A topic that is made again, or a log that loses its end, counts from an offset again that it had before. What is written then belongs to
// another life of the log ([Record.Life]): offsets, order and ledger are those of a life, and none may be copied behind a later one. Who feeds
// the checker says which life a record is of; what is known from producers only belongs to the life they said.
//
// Positions count in one life of a log, and are judged against the target's log as it is. That one of the two was made anew, cut at its beginning
// or given records once more excuses little: a group may stand at any copy of what was copied again, and where the first record that it has not
// read was before that was deleted; and while it has not read what reached both clusters from a third that has it no longer, its position need not be
// known ([Target.At]).
//
// The rules M1 to M12 follow Jepsen's checker for Kafka, turned from one log
// with clients to a pair of logs.
package checker
