package mirror

import "time"

// tending is what was done last to keep a pump's map small.
type tending struct {
	closed  int       // chunks that may have come since they were merged
	merged  time.Time // when they were looked at
	trimmed time.Time // when the logs' starts were asked for
}
