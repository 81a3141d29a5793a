//go:build !race

package secure

import "time"

// standstill is for how long records may wait while secrets are rotated.
const standstill = time.Second
