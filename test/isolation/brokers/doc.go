// Package brokers gets single partitions into trouble, and takes one of three real brokers away from a mirror process that copies to them and
// from them: by kill -9, by freezing it and, in the full numbers, by filling its disk. It measures what the partitions of the other two
// notice: nothing. Sizes are set as package node says.
package brokers
