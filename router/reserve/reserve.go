// Package reserve says which virtual offsets a router has to reserve before it serves them, so that a generation that begins without asking the home before begins above all
// that was ever shown. All of it is pure.
//
//	0 ───────── shown ──────────▶ end          bound: reserved in the logs of the control clusters
//	                               └── Ahead/2 ──┴── from here on the next bound is asked for, Ahead behind the end
//
// Below Free nothing has to be reserved, so that small topics need no records.
package reserve

import "github.com/isthmus-project/isthmus/router/generation"

const (
	// Free is the bound of a partition of which nothing is reserved.
	Free = 1 << 24
	// Ahead is how far in front of the log's end a bound is put: what a partition takes in a long time, and yet little in 63 bits.
	Ahead = 1 << 24
)

// Bound is what is reserved of a partition, by what was read of a topic.
func Bound(reserved []int64, partition int) int64 {
	if partition < len(reserved) && reserved[partition] > Free {
		return reserved[partition]
	}
	return Free
}

// Due is what is to be reserved now for virtual ends of logs, by topic and partition.
func Due(reserved, ends map[string][]int64) (out []generation.Bound) {
	for topic, all := range ends {
		var offsets []int64
		for p, end := range all {
			if end < Bound(reserved[topic], p)-Ahead/2 {
				continue
			}
			if offsets == nil {
				offsets = make([]int64, len(all))
			}
			offsets[p] = end + Ahead
		}
		if offsets != nil {
			out = append(out, generation.Bound{Topic: topic, Offsets: offsets})
		}
	}
	return out
}

// Full reports whether some partition has come so near to its bound that no more may be written before the next is reserved: near is what may be written until it is looked
// again.
func Full(reserved, ends map[string][]int64, near int64) bool {
	for topic, all := range ends {
		for p, end := range all {
			if end+near >= Bound(reserved[topic], p) {
				return true
			}
		}
	}
	return false
}

// First is where an unplanned generation begins in a partition, of which it is known that all below end was shown. It is that far above it that also where nothing could be reserved in
// time no offset is used twice, unless more than Ahead were behind end.
func First(reserved []int64, partition int, end int64) int64 {
	return max(Bound(reserved, partition), end+Ahead)
}
