package mirror

import (
	"context"
	"time"
)

// regularly calls do at intervals, and whenever wake says so (nil: never), until ctx ends. Each call has the time of a refresh.
func regularly(ctx context.Context, every time.Duration, wake <-chan struct{}, do func(context.Context)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
		call, cancel := context.WithTimeout(ctx, refreshTimeout)
		do(call)
		cancel()
	}
}
