package topology

import (
	"slices"
	"testing"
	"time"
)

// TestLeavesDead: a set's own counts over its router's, and nobody is moved by itself where nothing is written.
func TestLeavesDead(t *testing.T) {
	top, err := Load("testdata/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	shop := top.Routers[0]
	for set, want := range map[string]Failover{"": {"us", 5 * time.Second}, "clicks": {"ap", 30 * time.Second}, "fast": {"us", 5 * time.Second}} {
		if got := shop.LeavesDead(set); got != want {
			t.Errorf("set %q: %+v, want %+v", set, got, want)
		}
	}
	if got := top.DCs(); !slices.Equal(got, []string{"frankfurt", "singapore", "virginia"}) {
		t.Errorf("%v", got)
	}
	usual, err := Load("testdata/tail.toml")
	if err != nil || usual.Routers[0].LeavesDead("") != (Failover{}) || usual.Routers[0].LeavesDead("fast") != (Failover{}) {
		t.Errorf("%+v, %v", usual.Routers[0].Failover, err)
	}
}
