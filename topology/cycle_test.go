package topology

import (
	"strings"
	"testing"
)

func TestCycle(t *testing.T) {
	const file = `
[fabric]
name = "f"
[[cluster]]
name = "a"
bootstrap = ["127.0.0.1:1"]
[[cluster]]
name = "b"
bootstrap = ["127.0.0.1:2"]
[[cluster]]
name = "c"
bootstrap = ["127.0.0.1:3"]
[[link]]
from = "a"
to = "b"
topics = ["*"]
[[link]]
from = "b"
to = "c"
topics = ["*"]
[[link]]
from = "c"
to = "a"
topics = ["ring", "pair"]
[[link]]
from = "b"
to = "a"
topics = ["pair"]
`
	topo, err := Parse("f.toml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ link, topic, want string }{
		{"a-b", "orders", ""}, {"a-b", "ring", "b-c c-a"}, {"a-b", "pair", "b-a"},
		{"b-c", "ring", "c-a a-b"}, {"b-a", "orders", ""}, {"b-a", "pair", "a-b"}, {"c-a", "ring", "a-b b-c"},
	} {
		l, _ := topo.Link(tc.link)
		var names []string
		for _, back := range topo.Cycle(l, tc.topic) {
			names = append(names, back.Name)
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("topic %s on %s comes back over %q, want %q", tc.topic, tc.link, got, tc.want)
		}
	}
}
