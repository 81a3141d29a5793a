// Package positions is where the records of a set's topics are at its home of now, for the offsets that clients know them by: a [timeline.Map] for each partition, and
// what is learned of them while they are served.
package positions
