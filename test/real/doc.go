// Package real tests the mirror as it is run: the built binary in a process of its own, between real Apache Kafka
// clusters, killed, frozen and robbed of its disk while records flow. What is right is decided by what an ordinary
// consumer reads, never by what the mirror says.
//
// The suites are skipped unless real Kafka was asked for; their sizes and seeds are set as package node says.
package real
