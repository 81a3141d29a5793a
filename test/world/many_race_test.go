//go:build race

package world

// many partitions have a link, every other of which is paused: fewer, for the race detector makes all of it slow.
const many = 200
