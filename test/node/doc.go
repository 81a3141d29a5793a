// Package node runs the built binary between real Kafka clusters, for the suites that kill it, freeze it and take its
// disk: sites (clusters under their names in the topology), nodes (mirror processes), waiting for what a node says of
// itself, loads, and the two judges: what ordinary consumers read against the checker, and every translation against
// both logs.
//
// Suites that use it call kafka.Require or start sites first, and have a TestMain that calls Main. Settings:
//
//	ISTHMUS_SOAK=1       the full numbers (millions of records, many kills); else small ones for every CI run
//	ISTHMUS_REAL_SEED=N  the seed of schedules and samples; else the clock's, and printed
//	ISTHMUS_BIN=PATH     the binary to test; else it is built once
package node
