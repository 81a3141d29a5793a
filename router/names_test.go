package router

import (
	"testing"

	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/topology"
)

func TestSlotOf(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          int
	}{
		{"b{slot}.kafka.example", "b0.kafka.example", 0},
		{"b{slot}.kafka.example", "b12.kafka.example", 12},
		{"b{slot}.kafka.example", "B12.Kafka.Example.", 12},
		{"B{slot}.kafka.example", "b7.kafka.example", 7},
		{"{slot}", "3", 3},
		{"b{slot}.kafka.example", "kafka.example", bootstrap},
		{"b{slot}.kafka.example", "", bootstrap},
		{"b{slot}.kafka.example", "b.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b01.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b+1.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b-1.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b1000.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b99999999999999999999.kafka.example", bootstrap},
		{"b{slot}.kafka.example", "b1.kafka.example.evil", bootstrap},
		{"b{slot}.kafka.example", "xb1.kafka.example", bootstrap},
		{"a{slot}a", "a", bootstrap},
		{"", "b1", bootstrap},
	} {
		if got := slotOf(tc.pattern, tc.name); got != tc.want {
			t.Errorf("%q of %q is slot %d, want %d", tc.name, tc.pattern, got, tc.want)
		}
	}
}

// TestAddress: where clients are sent is read as the slot that they were sent to.
func TestAddress(t *testing.T) {
	byName := topology.Router{Listen: "10.0.0.1:9092", Advertise: "kafka.example", SNI: "b{slot}.kafka.example"}
	if host, port := address(byName, 0, 17); host != "b17.kafka.example" || port != 9092 || slotOf(byName.SNI, host) != 17 || wayOf(byName, 0).room() != identity.MaxSlots {
		t.Errorf("%s:%d, room for %d", host, port, wayOf(byName, 0).room())
	}
	byPort := topology.Router{Listen: "10.0.0.1:9092", Advertise: "kafka.example", Slots: topology.Ports{First: 9093, Last: 9098}}
	if host, port := address(byPort, 0, 2); host != "kafka.example" || port != 9095 || wayOf(byPort, 0).room() != 6 {
		t.Errorf("%s:%d, room for %d", host, port, wayOf(byPort, 0).room())
	}
}
