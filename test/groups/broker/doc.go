// Package groups asks real Kafka about groups the way a sync of groups does: classic ones, those of KIP-848 and share groups, their
// offsets, and the log of their commits, on a cluster of three brokers whose coordinators move, and whose log is cleaned.
package groups
