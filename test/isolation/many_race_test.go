//go:build race

package isolation

// many lose their leader: fewer, for the race detector makes all of it slow.
const many = 100 // partitions
