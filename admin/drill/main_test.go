package drill

import (
	"runtime"
	"testing"
)

// One processor: see DESIGN.md, "Non-obvious", on timers in bubbles.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	m.Run()
}
