// Package secure tests the mirror between real Apache Kafka brokers that ask who it is and check what it may do: every
// mechanism of docs/security.md, every wrong credential by its message, certificates and passwords that change while
// records flow, and the table of rights of that page, row by row.
//
// All tests share one pair of clusters with a listener for each mechanism; their plain listener is the tests' own. The
// suites call kafka.Require, so they are skipped unless real Kafka was asked for. Certificates are made at the start of
// each run, nothing is stored.
package secure
