package node

import (
	"reflect"
	"testing"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/topology"
)

const threeClusters = `
[fabric]
name = "shop"
[[cluster]]
name = "eu"
bootstrap = ["eu:9092"]
[[cluster]]
name = "us"
bootstrap = ["us:9092"]
[[cluster]]
name = "asia"
bootstrap = ["asia:9092"]
[[link]]
from = "eu"
to = "us"
topics = ["orders-*"]
[[link]]
from = "us"
to = "eu"
topics = ["payments"]
`

func TestTouchesOf_NamesNoMoreThanChanges(t *testing.T) {
	topo, err := topology.Parse("test.toml", []byte(threeClusters))
	if err != nil {
		t.Fatal(err)
	}
	source := topology.Source{Name: "test.toml", Text: []byte(threeClusters)}
	for _, tc := range []struct {
		key, value string
		want       []admin.Touch
	}{
		{"link/eu-us/topics", `["orders-*", "stock"]`, []admin.Touch{{Link: "eu-us", Topics: []string{"stock"}}}},
		{"link/eu-us", "removed", []admin.Touch{{Link: "eu-us", Topics: []string{"orders-*"}}}},
		{"cluster/asia/bootstrap", `["asia:9093"]`, nil},
		{"cluster/eu/bootstrap", `["eu:9093"]`, []admin.Touch{
			{Link: "eu-us", Topics: []string{"orders-*"}}, {Link: "us-eu", Topics: []string{"payments"}},
			{Link: "eu-us", Topics: []string{"orders-*"}}, {Link: "us-eu", Topics: []string{"payments"}}}},
		{"pause/eu-us/orders-*/3", "{}", nil}, // the API knows its partition
		{"log/level", "debug", nil},
	} {
		plan, err := source.Set(nil, []topology.Setting{{Key: tc.key, Value: []byte(tc.value)}})
		if err != nil {
			t.Errorf("%s: %v", tc.key, err)
			continue
		}
		var got []admin.Touch
		for _, d := range plan.Changes {
			got = append(got, touchesOf(d, topo, plan.Next)...)
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s touches %v, want %v", tc.key, got, tc.want)
		}
	}
}
