//go:build race

package secure

import "time"

// standstill is for how long records may wait while secrets are rotated: longer, for the race detector makes every handshake slow.
const standstill = 5 * time.Second
