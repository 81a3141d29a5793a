// Package sync tests on real brokers, which check rights, that what is kept alike beside the records is there within seconds: new topics
// and partitions, settings, rules about who may do what, quotas. Hand is how a person changes a cluster, for other suites too.
package sync
