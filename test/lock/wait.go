package lock

import (
	"testing"
	"time"
)

// got takes the next value of a channel, and fails the test if none comes.
func got[T any](t testing.TB, limit time.Duration, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(limit):
		t.Fatalf("waited %v until %s", limit, what)
	}
	return v
}
