// Package bench measures the mirror between real Kafka clusters beside a plain
// TCP relay and MirrorMaker 2, all in one run on one machine, and writes
// docs/benchmarks.md. `make bench` runs it.
//
// ISTHMUS_BENCH is "1" for the whole table, or a regular expression of the rows
// to measure ("lz4, 13"), which are then printed only. ISTHMUS_BENCH_BINARIES
// is a list of built binaries, as PATH is one: each row is measured with each of
// them in turn, to compare two builds in one run. ISTHMUS_BENCH_RUNS is how
// often each row is measured; the table shows the run of median CPU time.
package bench
