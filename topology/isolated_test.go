package topology

import (
	"slices"
	"strings"
	"testing"
)

// TestIsolation: a set's own counts over its router's, which counts over nothing written.
func TestIsolation(t *testing.T) {
	top, err := Load("testdata/isolated.toml")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]Isolation)
	for _, r := range top.Routers {
		got[r.instance()] = r.Isolation("")
		for _, s := range r.Sets {
			got[r.instance()+"/"+s.Name] = r.Isolation(s.Name)
		}
	}
	for what, want := range map[string]Isolation{"shop@eu-1": HoldIsolated, "shop@eu-1/clicks": ContinueIsolated, "shop@eu-1/fast": HoldIsolated, "shop@eu-2/fast": HoldIsolated,
		"logs@eu-1": ContinueIsolated, "logs@eu-1/audit": HoldIsolated} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
	if got := overlaid(t, tier(t), nil).Routers[0].Isolation("fast"); got != ContinueIsolated {
		t.Errorf("where nothing is written: %q", got)
	}
}

// TestIsolation_OfAFabricThatRuns: it may be set for all instances of a router, of one it may not; who sees the plan is told.
func TestIsolation_OfAFabricThatRuns(t *testing.T) {
	file := tier(t)
	before, after := overlaid(t, file, nil), overlaid(t, file, set("router/shop/isolated", `"hold"`))
	var lines []string
	for _, d := range Diff(before, after) {
		if d.Destructive {
			t.Errorf("%v: nothing is lost by it", d)
		}
		lines = append(lines, d.String())
	}
	if want := []string{`router shop@eu-1 isolated: "hold"`, `router shop@us-1 isolated: "hold"`}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	_, _, err := file.Overlay(set("router/shop@eu-1/isolated", `"hold"`))
	if err == nil || !strings.Contains(err.Error(), `has isolated = "hold" in setting router/shop@eu-1/isolated`) {
		t.Errorf("of one instance: %v", err)
	}
}
