// Package bench measures the mirror between real Kafka clusters beside a plain
// TCP relay of the same run, and writes docs/benchmarks.md. `make bench` runs it.
package bench
