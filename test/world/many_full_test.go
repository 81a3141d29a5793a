//go:build !race

package world

// many partitions have a link, every other of which is paused.
const many = 1000
