// Package generation decides which cluster is the home of a router's set. Homes are numbered by generations: the file's is 0, each switch adds one. It also
// keeps what switches and routers have to note for each other: cuts, plans, and reserved virtual offsets.
//
// # Rounds
//
// What comes after generation g is decided in rounds, one after the other. A round decides a switch to generation g+1, or to stay: then the next round
// decides again. So a switch that was aborted is over for good, and nobody finds half of it later and goes on with it.
//
// Each round is one decree of Paxos. The acceptors are the logs of the control clusters, topic __isthmus.routers: records are appended, and what an acceptor has
// promised and accepted follows from their order alone. A majority of the control clusters decides; of one or two all are needed.
//
//	log of eu      prepare 1.a        accept 1.a: us        prepare 2.b    accept 2.b: us    decided: us     prepare 1.c (next round) …
//	log of us      prepare 1.a        (did not arrive)      prepare 2.b    accept 2.b: us    …
//	log of ap      (away)                                   (away)         (away)            decided: us     prepare 1.c
//	               └ a coordinates    └ a wants us,         └ b takes over: it finds us at eu, and must go on with it
//	                                    and is lost           └ counts at two of three, so it is decided
//
//	prepare b      is a promise unless a higher prepare stands before it in the log
//	accept b, v    counts unless a prepare higher than b stands before it in the log
//	v is decided   when accepts of one ballot count in a majority of the logs
//	who prepares   needs a promise of a majority, reads their logs up to its own record, and proposes the value of the highest accept that counts there;
//	               where there is none, what it likes
//
// Why no two values are decided: let v be decided with ballot b, and let c be the lowest ballot above b with which another value is proposed. The majorities of b
// and c have a log in common. There the accept of b counts, so it stands before the prepare of c, and c's coordinator found it. It proposed
// the value of the highest accept it found, which is of b or of a ballot between b and c, and these have the value v. Ballots
// are never equal, since each has a text that nobody else is given. A record's key is never used again, not even to try again, so compaction
// takes none, and the order stays. What is decided is written down as well, so that who was away can be told: a prepare has the decisions before it in front of it.
//
// What this stands on: an acknowledged record stays. Where all replicas of a one-broker cluster lose it (no copy was on another disk), or where the topic is deleted, a
// promise is forgotten. A node that read further than the log now reaches says so and stops counting that cluster.
//
// # Leases
//
// An instance takes writes only while it has a [Lease]: it has read the logs of a majority of the control clusters up to their ends, beginning
// at T, and found no round open. The lease is good until T + [LeaseLength], less a tenth for clocks of other rates. Whoever has prepared a
// round at a majority and waits for LeaseLength knows that no instance has a lease of before: any reading that began later saw a prepare, since majorities meet. An instance that
// finds a round open holds new writes at once, and passes answers on under the lease that it still has. So no acknowledgement is needed; those of all instances only make it faster. It is asked by two clocks when a request is sent on and again when its
// answer is, because the process may have been stopped in between: a write that was late is never acknowledged.
//
// # Versions
//
// The records have a version that claims (router/identity) do not have. A node that knows no switches stops at the first of them, where it would serve
// the home of its file.
package generation
