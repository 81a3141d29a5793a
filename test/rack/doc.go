// Package rack mirrors from a cluster of three brokers in three racks: the mirror reads from the replica in its own rack
// (KIP-392), and brokers of the source die under load.
package rack
