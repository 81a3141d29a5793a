package topology

import (
	"slices"
	"strings"
	"testing"
)

// TestTailPolicy: a set's own counts over its router's, which counts over nothing written.
func TestTailPolicy(t *testing.T) {
	top, err := Load("testdata/tail.toml")
	if err != nil {
		t.Fatal(err)
	}
	shop, logs := top.Routers[0], top.Routers[1]
	for what, c := range map[string][2]TailPolicy{"shop": {shop.TailPolicy(""), DivertTail}, "shop/clicks": {shop.TailPolicy("clicks"), ListTail}, "shop/fast": {shop.TailPolicy("fast"), DivertTail},
		"logs": {logs.TailPolicy(""), DeliverTail}, "logs/audit": {logs.TailPolicy("audit"), DeliverTail}} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", what, c[0], c[1])
		}
	}
}

// TestTailPolicy_OfAFabricThatRuns: it may be set for all instances of a router, of one it may not.
func TestTailPolicy_OfAFabricThatRuns(t *testing.T) {
	file := tier(t)
	before, after := overlaid(t, file, nil), overlaid(t, file, set("router/shop/tail", `"list"`))
	var lines []string
	for _, d := range Diff(before, after) {
		lines = append(lines, d.String())
	}
	if want := []string{`router shop@eu-1 tail: "list"`, `router shop@us-1 tail: "list"`}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	_, _, err := file.Overlay(set("router/shop@eu-1/tail", `"list"`))
	if err == nil || !strings.Contains(err.Error(), `has tail = "list" in setting router/shop@eu-1/tail`) {
		t.Errorf("of one instance: %v", err)
	}
}
