package topology

import (
	"fmt"
	"strings"
	"testing"
)

// TestWays_OfGroups: the links that keep a group's positions have to be a tree; what other links carry does not matter.
func TestWays_OfGroups(t *testing.T) {
	file := func(links ...string) string {
		var b strings.Builder
		b.WriteString("[fabric]\nname = \"f\"\n")
		for _, c := range []string{"a", "b", "c", "d"} {
			fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s.example:9092\"]\n", c, c)
		}
		for _, l := range links {
			ends, rest, _ := strings.Cut(l, " ")
			if !strings.Contains(rest, "topics") {
				rest += "\ntopics = [\"*\"]"
			}
			fmt.Fprintf(&b, "[[link]]\nfrom = %q\nto = %q\n%s\n", ends[:1], ends[2:], rest)
		}
		return b.String()
	}
	const all = ` groups = ["*"]`
	for name, tc := range map[string]struct {
		links []string
		fault string // "" = none
	}{
		"both ways":                       {links: []string{"a>b" + all, "b>a" + all}},
		"a tree":                          {links: []string{"a>b" + all, "b>a" + all, "b>c" + all, "d>b" + all}},
		"a mesh, over one":                {links: []string{"a>b" + all, "b>a" + all, "a>c" + all, "c>a" + all, "b>c", "c>b"}},
		"a triangle":                      {links: []string{"a>b" + all, "b>c" + all, "c>a" + all}, fault: `the link "a-b" would keep groups that come to b over c-a, b-c as well`},
		"two ways":                        {links: []string{"a>b" + all, "b>d" + all, "a>c" + all, "c>d" + all}, fault: `the link "a-b" would keep groups that come to b over a-c, c-d, b-d as well`},
		"a triangle of other groups":      {links: []string{`a>b groups = ["x-*"]`, `b>c groups = ["y-*"]`, `c>a groups = ["z-*"]`}},
		"a triangle of groups that share": {links: []string{`a>b groups = ["x-*"]`, `b>c groups = ["x-1", "y"]`, `c>a groups = ["*"]`}, fault: "would keep groups"},
		"a triangle, but for one": {links: []string{`a>b groups = ["*"]
groups_exclude = ["x-*"]`, `b>c groups = ["x-*"]`, `c>a groups = ["x-*"]`}},
		"a triangle, but for others": {links: []string{`a>b groups = ["*"]
groups_exclude = ["y-*"]`, `b>c groups = ["x-*"]`, `c>a groups = ["x-*"]`}, fault: "would keep groups"},
		"a triangle of other topics": {links: []string{"a>b" + all + "\ntopics = [\"x\"]", "b>c" + all + "\ntopics = [\"y\"]", "c>a" + all + "\ntopics = [\"z\"]"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.toml", []byte(file(tc.links...)))
			switch {
			case tc.fault == "" && err != nil:
				t.Error(err)
			case tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
				t.Errorf("%v, want %s", err, tc.fault)
			case err != nil && strings.Count(err.Error(), "would keep groups") != 1:
				t.Errorf("told more than once: %v", err)
			}
		})
	}
}
