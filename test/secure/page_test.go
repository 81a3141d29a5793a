package secure

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

var example = regexp.MustCompile("(?s)```toml\n(.*?)```")

// TestPage_ExamplesParse: every example can be pasted, and every mechanism has one.
func TestPage_ExamplesParse(t *testing.T) {
	mechanisms := []string{topology.Plain, topology.ScramSHA256, topology.ScramSHA512, topology.OAuthBearer, topology.AWSMSKIAM, topology.GSSAPI, "TLS", "mTLS"}
	for _, m := range example.FindAllStringSubmatch(readPage(t), -1) {
		text := "[fabric]\nname = \"page\"\n" + m[1]
		ofCluster := strings.Contains(text, "[[cluster]]")
		if !ofCluster {
			text += "[[cluster]]\nname = \"some\"\nbootstrap = [\"kafka.example:9092\"]\n"
		}
		topo, err := topology.Parse("security.md", []byte(text))
		if err != nil {
			t.Errorf("an example of %s is not right: %v\n%s", page, err, m[1])
			continue
		}
		if !ofCluster {
			continue
		}
		shown := "TLS"
		switch c := topo.Clusters[0]; {
		case c.SASL != nil:
			shown = c.SASL.Mechanism
		case !c.TLS.Cert.IsZero():
			shown = "mTLS"
		}
		mechanisms = slices.DeleteFunc(mechanisms, func(name string) bool { return name == shown })
	}
	if len(mechanisms) > 0 {
		t.Errorf("%s has no example of %s", page, strings.Join(mechanisms, ", "))
	}
}

// TestPage_RightsAreUnderstood is what can be said of the table without a broker.
func TestPage_RightsAreUnderstood(t *testing.T) {
	for _, r := range readRights(t, readPage(t)) {
		r.acl(t, "somebody", "orders")
		if r.cluster == "source" && r.name != "Read" && !strings.HasPrefix(r.name, "Describe") {
			t.Errorf("%s wants %s: the source is only read", page, r)
		}
		if !r.shownIn(strings.ReplaceAll("... "+r.seen+" ...", "…", "anything at all")) || r.shownIn("something else") {
			t.Errorf("%s: %q of %s does not match what it should", page, r.seen, r)
		}
	}
}
