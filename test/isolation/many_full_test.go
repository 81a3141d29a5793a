//go:build !race

package isolation

// many lose their leader.
const many = 1000 // partitions
