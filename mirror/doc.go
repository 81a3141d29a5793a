// Package mirror copies topics from one Kafka cluster to another: a link is a
// directed pair of clusters, a flow one topic on it, a pump one partition.
//
// # Guarantees
//
// Every record of a carried topic that the source still holds when the pump
// reaches it is on the target exactly once, in the source's order, byte for byte
// (key, value, headers, timestamp; a LogAppendTime source's visible time becomes
// the copy's create time). This holds through kill -9 of the mirror or of either
// cluster, for any number of owners that run the same pump at once, and without
// local state: what a pump has to know is in compacted topics of the target.
//
// The target log is the lock: a pump writes under one producer id with sequence
// numbers that count the records it copied, so the target's broker takes each
// batch once. See state.go for the states, place.go for how a place is found.
//
// # What it does not do
//
// It does not decode what it can copy, does not carry transaction markers (a
// committed transaction is whole on the target once the link has caught up), and
// does not guess: where the logs and the durable state disagree, one partition
// halts by name, its neighbours go on, and what is missing is in the ledger.
package mirror
