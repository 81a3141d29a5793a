package real

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestRelease_PassesEverything runs all that needs nothing special of its brokers between the same clusters of the newest release.
func TestRelease_PassesEverything(t *testing.T) {
	kafka.Require(t)
	sites := node.StartSites(t, "eu", "us", "ap")
	eu, us := sites["eu"], sites["us"]
	t.Run("partition forgotten and set again", func(t *testing.T) { session(t, eu) })
	t.Run("two owners", func(t *testing.T) {
		owners(t, eu, us, "owners", node.Pick(6*time.Second, time.Minute), node.Pick(4*time.Second, 30*time.Second))
	})
	t.Run("shapes", func(t *testing.T) { shapes(t, sites) })
	t.Run("reroute", func(t *testing.T) { reroute(t, sites) })
	t.Run("faults", func(t *testing.T) {
		faults(t, eu, us, "faults", node.Pick(20_000, 2_000_000), node.Pick(map[string]int{"mirror": 2, "disk": 2, "source": 1, "target": 1},
			map[string]int{"mirror": 8, "disk": 2, "source": 3, "target": 3}))
	})
}
