// Package demo is the load and the judge of isthmus demo: producers in three data centers that write the same topics, and a
// verdict on what became of their records.
//
// It knows nothing of the mirror and shares no code with it: it writes with an ordinary producer, reads with an ordinary
// consumer, and judges with package checker, by what is in the logs and by what its producers logged as acknowledged.
package demo
