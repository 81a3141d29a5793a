package gate

import "math"

// Sequences count records of a producer in a partition; after 2^31-1 comes 0, also inside a batch.

// after is the sequence n behind one. -1, none, is before 0.
func after(s int32, n int64) int32 { return int32((int64(s) + n) & math.MaxInt32) }

// ahead is how far one is in front of another, the shorter way: negative if it lies behind.
func ahead(a, b int32) int64 {
	d := (int64(a) - int64(b)) & math.MaxInt32
	if d > math.MaxInt32/2 {
		d -= math.MaxInt32 + 1
	}
	return d
}
