// Package identity keeps what a virtual cluster is for its clients: its id, its brokers, and the producer ids it may give. It is durable in the
// compacted topic __isthmus.routers of the home, and the same for all instances of a router, also those that start at once.
//
// # Election
//
// Who wants something to be so appends a claim, with a key that nobody else writes, and reads the log up to it and behind it. Whether a claim
// counts follows from the claims before it alone (see [State.Apply]), so all readers agree, and the first in offset order wins. A claim that lost is taken back
// by who made it; compaction never takes one that counts, because its key is never written again.
package identity
