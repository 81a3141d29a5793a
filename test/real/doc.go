// Package real tests the mirror as it is run: the built binary in a process of its own, between real Apache Kafka
// clusters, killed, frozen and robbed of its disk while records flow. What is right is decided by what an ordinary
// consumer reads, never by what the mirror says.
//
// The suites call kafka.Require, so they are skipped unless real Kafka was asked for. Two settings of their own:
//
//	ISTHMUS_SOAK=1       the full numbers (millions of records, many kills); else small ones for every CI run
//	ISTHMUS_REAL_SEED=N  the seed of schedules and samples; else the clock's, and printed
//	ISTHMUS_BIN=PATH     the binary to test; else it is built once
package real
