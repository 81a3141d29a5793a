//go:build brokenmirror

package nemesis

import (
	"strings"
	"testing"
	"time"
)

// TestBroken runs one plan for each mirror, which has to find what it was told to do wrong; "" and "nothing" are sound.
func TestBroken(t *testing.T) {
	both := Plan{Length: 20 * time.Second, Name: "both ways", Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Sharing: Alone,
		Nodes: 1, Brokers: 1, Partitions: 1}
	// Paths take time: what goes round and round would leave none to anything else.
	for _, c := range both.Clusters {
		both.Steps = append(both.Steps, Step{Kind: Slow, Cluster: c, N: 20, For: time.Hour})
	}
	for broken, rules := range map[string][]string{"sequence": {"lost", "torn-transaction"}, "loops": {"loop"}, "lives": {"mistranslated"}, "": nil, "nothing": nil} {
		t.Run(broken, func(t *testing.T) {
			t.Setenv("ISTHMUS_BROKEN", broken)
			p := both
			p.Abrupt = broken == "loops" // it would never rest
			if !p.Abrupt {
				for at := 3 * time.Second; at < p.Length; at += 3 * time.Second {
					p.Steps = append(p.Steps, Step{Kind: Kill, At: at, For: time.Second})
				}
			}
			if broken == "lives" || broken == "" {
				p.Links = p.Links[:1]
				p.Steps = append(p.Steps, Step{Kind: Recreate, Node: -1, Cluster: "eu", Topic: "orders", At: 12 * time.Second})
			}
			found := strings.Join(run(t, p), "\n")
			caught := len(rules) == 0 && found == ""
			for _, r := range rules {
				caught = caught || strings.Contains(found, r+":")
			}
			if !caught {
				t.Errorf("the mirror was broken by %q, and the checker found, instead of one of %q:\n%s", broken, rules, found)
			}
		})
	}
}
