package node

import (
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

const twoHomes = `[fabric]
name = "shop"
[[cluster]]
name = "eu"
dc = "frankfurt"
bootstrap = ["eu:9092"]
[[cluster]]
name = "us"
dc = "virginia"
bootstrap = ["us:9092"]
[[stay]]
topics = ["patients-*"]
dcs = ["frankfurt"]
[[node]]
name = "eu-1"
[[router]]
name = "shop"
node = "eu-1"
listen = "127.0.0.1:9092"
advertise = "127.0.0.1"
slots = "9093-9095"
home = "us"
[[router.set]]
name = "clinic"
topics = ["patients-*"]
home = "eu"
slots = "9103-9105"
`

// TestHomes: each set with its home, where it must not go, and all clusters; of a router that is not there only these.
func TestHomes(t *testing.T) {
	top, err := topology.Parse("two.toml", []byte(twoHomes))
	if err != nil {
		t.Fatal(err)
	}
	h := homesOf(top, "shop")
	if len(h.Sets) != 2 || h.Sets[0].Set != "" || h.Sets[0].Home != "us" || h.Sets[1].Set != "clinic" || h.Sets[1].Home != "eu" || strings.Join(h.Clusters, " ") != "eu us" {
		t.Errorf("%+v", h)
	}
	if len(h.Sets[0].Not) != 0 || len(h.Sets[1].Not) != 1 || !strings.Contains(h.Sets[1].Not["us"], `[[stay]] keeps "patients-*" in frankfurt, and cluster "us" is in virginia`) {
		t.Errorf("not: %v, %v", h.Sets[0].Not, h.Sets[1].Not)
	}
	if h := homesOf(top, "mars"); len(h.Sets) != 0 || len(h.Clusters) != 2 {
		t.Errorf("of no router: %+v", h)
	}
}
