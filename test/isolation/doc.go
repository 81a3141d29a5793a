// Package isolation measures that partitions do not suffer from each other: a target broker that is dead, silent or slow holds its own
// partitions only, a hot partition leaves room for its neighbours, who catches up does not delay who is up to date, and rates are
// kept. Rates are compared within one run, in a bubble; what kfake cannot show is tried on real Kafka.
package isolation
