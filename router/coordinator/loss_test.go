package coordinator

import (
	"reflect"
	"testing"

	"github.com/isthmus-project/isthmus/router/generation"
)

func TestLossOf(t *testing.T) {
	cut := []generation.CutTopic{{Topic: "orders", Left: []int64{10, 20, 30}}, {Topic: "quiet", Left: []int64{5}}}
	ends := map[string][]int64{"orders": {12, 20, 0, 7}, "late": {3}, "quiet": {5}}
	want := &Loss{Records: 12, Stretch: []Stretch{{"orders", 3, 0, 7}, {"late", 0, 0, 3}, {"orders", 0, 10, 12}}, Silent: []string{"eu-2"}}
	if got := lossOf(ends, []string{"eu-2"}, cut); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
