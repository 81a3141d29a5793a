// Package resume kills the mirror while it copies, cleans the source behind its back (compaction, DeleteRecords, retention)
// past its last checkpoint, and starts it again: nothing that the source still has may be lost, nothing doubled, the order
// kept, and what is gone must be in the ledger, neither less nor more.
//
// It needs real Kafka; sizes and seeds are set as package node says.
package resume
