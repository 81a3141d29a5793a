package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestRoutePlans_AreTheRoutes: over random graphs and patterns every plan has just the routes that carry, and each name that some
// pattern takes is in one plan.
func TestRoutePlans_AreTheRoutes(t *testing.T) {
	patterns := []string{`"a"`, `"a*"`, `"*b"`, `"b"`, `"*"`}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 11))
		top := fabric(t, `"*"`, append(random(r, 2+r.IntN(6), 1+r.IntN(14)), "c0-c1")...)
		text := top.Export()
		for strings.Contains(text, `topics = ["*"]`) {
			text = strings.Replace(text, `topics = ["*"]`, "topics = ["+patterns[r.IntN(len(patterns))]+"]", 1)
			if r.IntN(8) == 0 {
				break
			}
		}
		top = parsed(t, text)
		plans, left := top.RoutePlans()
		if left > 0 || len(plans) == 0 {
			t.Fatalf("seed %d: %d plans, %d left", seed, len(plans), left)
		}
		sets := make(map[string]bool)
		for _, p := range plans {
			checkPlan(t, top, p)
			sets[fmt.Sprint(p.Carried)] = true
		}
		for _, topic := range []string{"a", "ab", "b", "xb", "axb", "x"} {
			one, _ := top.RoutePlans(topic)
			if len(one) > 1 || len(one) == 1 && !sets[fmt.Sprint(one[0].Carried)] {
				t.Errorf("seed %d: topic %s has a plan that is not among all", seed, topic)
			}
		}
		if again, _ := top.RoutePlans(); fmt.Sprint(again) != fmt.Sprint(plans) {
			t.Errorf("seed %d: other plans the second time", seed)
		}
		if t.Failed() {
			t.Fatal(text)
		}
	}
}

// checkPlan compares a plan with what links carry.
func checkPlan(t *testing.T, top *Topology, p RoutePlan) {
	t.Helper()
	routes := make(map[[2]string][]string)
	for _, r := range p.Routes {
		if routes[[2]string{r.Origin, r.Target}] != nil {
			t.Errorf("%s: two routes from %s to %s", p.Sample, r.Origin, r.Target)
		}
		routes[[2]string{r.Origin, r.Target}] = r.Links
	}
	for _, from := range top.Clusters {
		reached := reachable(top, from.Name, p.Sample)
		for _, to := range top.Clusters {
			if got := len(routes[[2]string{from.Name, to.Name}]) > 0; got != (reached[to.Name] && from.Name != to.Name) {
				t.Errorf("%s: a route from %s to %s: %v", p.Sample, from.Name, to.Name, got)
			}
		}
	}
	for _, l := range top.Links {
		i := slices.IndexFunc(p.Carried, func(c Carried) bool { return c.Link == l.Name })
		if (i >= 0) != l.Matches(p.Sample) {
			t.Errorf("%s: link %s is told: %v", p.Sample, l.Name, i >= 0)
			continue
		}
		for _, c := range top.Clusters {
			if i >= 0 && slices.Contains(p.Carried[i].Origins, c.Name) != top.Carries(l, c.Name, p.Sample) {
				t.Errorf("%s: whether %s carries what %s produced", p.Sample, l.Name, c.Name)
			}
		}
	}
	for _, cycle := range p.Cycles {
		for i, name := range cycle {
			l, _ := top.Link(name)
			if next, _ := top.Link(cycle[(i+1)%len(cycle)]); l.To != next.From || !l.Matches(p.Sample) {
				t.Errorf("%s: %q is no cycle", p.Sample, cycle)
			}
		}
	}
}

func TestRoutePlans_AreBounded(t *testing.T) {
	var topics []string
	for i := range 300 {
		topics = append(topics, fmt.Sprintf("[[link]]\nname = \"l%d\"\nfrom = \"a\"\nto = \"b\"\ntopics = [\"t%d\"]\n", i, i))
	}
	plans, left := parsed(t, file([]string{"a", "b"}, strings.Join(topics, ""))).RoutePlans()
	if len(plans) != maxRoutePlans || left != 300-maxRoutePlans {
		t.Errorf("%d plans, %d left", len(plans), left)
	}
	if plans, _ := parsed(t, file([]string{"a", "b"}, "")).RoutePlans(); len(plans) > 0 {
		t.Errorf("plans without links: %+v", plans)
	}
}

// TestRoutePlans_NamesThatFitTwo: a topic of two patterns may go another way than those of either.
func TestRoutePlans_NamesThatFitTwo(t *testing.T) {
	top := parsed(t, file([]string{"a", "b", "c"}, `
[[link]]
from = "a"
to = "b"
topics = ["eu-*"]
[[link]]
from = "b"
to = "c"
topics = ["*-log"]
`))
	plans, _ := top.RoutePlans()
	var got []string
	for _, p := range plans {
		got = append(got, fmt.Sprint(p.Topics, len(p.Routes)))
	}
	if want := []string{"[eu-*] 1", "[*-log] 1", "[eu-log] 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
