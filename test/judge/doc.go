// Package judge is the witness of the end-to-end suites: producers that write
// records with unique ids and log what was acknowledged, and a reader that reads
// clusters back with an ordinary consumer and lets the checker judge. It shares
// no code with the mirror.
package judge
