// Package nemesis throws faults at a fabric by a seed and has the checker judge what is left: many kinds of faults, over one another, in several
// topologies. A seed is a schedule, which is printed when the run is not clean, with the command that runs it again.
//
//	make nemesis SEED=7 MINUTES=10
//
// The virtual form runs mirrors over kfake clusters in a testing/synctest bubble, minutes in seconds; the real one runs the program between
// real brokers. ISTHMUS_SEEDS asks for more seeds, ISTHMUS_NEMESIS_SEED for the first (else "fresh" ones are new each time),
// ISTHMUS_NEMESIS_MINUTES for how long each is, and ISTHMUS_NEMESIS_SHRINK=1 for the fewest steps that still fail.
package nemesis
