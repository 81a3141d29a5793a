package isolation

import (
	"runtime"
	"testing"

	"github.com/isthmus-project/isthmus/test/node"
)

// One processor: see DESIGN.md, "Non-obvious", on timers in bubbles.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	node.Main(m)
}
