package gossip

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// seeds is how many seeds a suite runs: 2, or as many as ISTHMUS_SEEDS says.
func seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("ISTHMUS_SEEDS"), 10, 16); err == nil && n > 0 {
		return n
	}
	return 2
}

// full tells whether the long form of a suite is asked for.
func full() bool { return os.Getenv("ISTHMUS_SEEDS") != "" }

// oneSeed is eachSeed for suites that take long: one seed is enough where the long form is not asked for.
func oneSeed(t *testing.T, nodes int, dcs []string, f func(t *testing.T, fleet *Fleet)) {
	if full() {
		eachSeed(t, nodes, dcs, f)
		return
	}
	runSeed(t, 1, nodes, dcs, f)
}

// eachSeed runs f in a bubble for each seed, on a fleet that has become whole.
func eachSeed(t *testing.T, nodes int, dcs []string, f func(t *testing.T, fleet *Fleet)) {
	for seed := uint64(1); seed <= seeds(); seed++ {
		runSeed(t, seed, nodes, dcs, f)
	}
}

func runSeed(t *testing.T, seed uint64, nodes int, dcs []string, f func(t *testing.T, fleet *Fleet)) {
	t.Run(fmt.Sprintf("%d nodes, seed %d", nodes, seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fleet := NewFleet(t, seed, nodes, dcs...)
			fleet.WAN()
			fleet.Start()
			defer fleet.Stop()
			fleet.Until("all nodes see each other", time.Minute, fleet.Whole)
			time.Sleep(20 * time.Second) // all names are settled, all reports known
			f(t, fleet)
		})
	})
}
