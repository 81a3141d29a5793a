package gossip

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFleet_BecomesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFleet(t, 1, 5, "a", "b", "c")
		f.WAN()
		f.Start()
		defer f.Stop()
		t.Log(f.Until("all see all", 20*time.Second, f.Whole))
	})
}
