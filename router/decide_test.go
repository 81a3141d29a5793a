package router

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/topology"
)

func instance(node string, first, last uint16) topology.Router {
	return topology.Router{Name: "shop", Node: node, Listen: "127.0.0.1:9092", Advertise: node + ".example", Slots: topology.Ports{First: first, Last: last},
		Home: "eu", Auth: topology.PassThrough}
}

func restWay(r topology.Router) way { return wayOf(r, 0) }

// TestNames_OfSets: the name in a handshake says the set and the slot, and where both are.
func TestNames_OfSets(t *testing.T) {
	r := instance("a", 9093, 9095)
	r.Slots, r.SNI, r.Sets = topology.Ports{}, "b{slot}.example", []topology.Set{{Name: "fast", SNI: "f{slot}.example"}, {Name: "slow", Slots: topology.Ports{First: 9103, Last: 9104}}}
	for name, want := range map[string]int{"b2.example": 2, "f2.example": 1002, "x2.example": bootstrap, "": bootstrap} {
		if got := slotNamed(r, name); got != want {
			t.Errorf("%q is slot %d, want %d", name, got, want)
		}
	}
	if host, port := address(r, 1, 3); host != "f3.example" || port != 9092 {
		t.Errorf("%s:%d", host, port)
	}
	if host, port := address(r, 2, 1); host != r.Advertise || port != 9104 || wayOf(r, 2).room() != 2 || wayOf(r, 3).room() != 0 {
		t.Errorf("%s:%d", host, port)
	}
}

// TestSpread: slots are dealt out over the live instances; those of one that is gone move, and no other.
func TestSpread(t *testing.T) {
	all := []topology.Router{instance("c", 9093, 9098), instance("a", 9093, 9098), instance("b", 9093, 9094)} // b has two slots only
	for name, tc := range map[string]struct {
		dead string
		want string
	}{
		"all live": {"", "a b c a c c"}, // slot 4 would be b's
		"a gone":   {"a", "b b c c c c"},
		"b gone":   {"b", "a a c a c c"},
		"c gone":   {"c", "a b a a a a"},
		"none":     {"abc", "a b c a c c"},
		"a and c":  {"ac", "b b - - - -"},
	} {
		at := spread(all, func(node string) bool { return !strings.Contains(tc.dead, node) }, restWay, 6)
		var got []string
		for slot := range 6 {
			r, ok := at(slot)
			if !ok {
				r.Node = "-"
			}
			got = append(got, r.Node)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
	if _, ok := spread(all, func(string) bool { return true }, restWay, 2)(2); ok {
		t.Error("a slot beyond all has an instance")
	}
}

// TestDraw: a broker that is not there keeps its slot in the view, but nobody is taken to it.
func TestDraw(t *testing.T) {
	state := identity.State{Cluster: "c", KnownCluster: true, Slots: []identity.Slot{{Index: 0, ID: 1, Node: 1}, {Index: 1, ID: 2, Node: 2}, {Index: 9, ID: 3, Node: 3}}}
	m := broker.Metadata{Brokers: map[int32]broker.Broker{2: {ID: 2, Host: "h", Port: 2}, 3: {ID: 3, Host: "h", Port: 3}, 4: {ID: 4, Host: "h", Port: 4}}}
	at := spread([]topology.Router{instance("a", 9093, 9095)}, func(string) bool { return true }, restWay, 10)
	all, err := draw(state, []known{{last: m}}, nil, func(_, slot int) (topology.Router, bool) { return at(slot) })
	p := all.sides[0]
	if err != nil {
		t.Fatal(err)
	}
	if p.view.Virtual(1) != 1 || p.view.Virtual(2) != 2 || p.view.Virtual(3) != -1 || p.view.Virtual(4) != -1 {
		t.Errorf("%+v", p.view)
	}
	if want := map[int]broker.Broker{1: m.Brokers[2]}; !reflect.DeepEqual(p.bySlot, want) {
		t.Errorf("%v, want %v", p.bySlot, want)
	}
	if !p.has(m.Brokers[4]) || p.has(broker.Broker{ID: 4, Host: "h", Port: 5}) || p.has(broker.Broker{ID: 1}) {
		t.Errorf("there are %v", p.brokers)
	}
	if got := without(state, known{last: m}); !reflect.DeepEqual(got, []int32{4}) {
		t.Errorf("without a slot are %v", got)
	}
}

// TestDraw_AnotherHome: where the home has moved, slots that have a broker of it are told under the ids that they had, and the others are not.
func TestDraw_AnotherHome(t *testing.T) {
	state := identity.State{Slots: []identity.Slot{{Index: 0, ID: 7, Node: 1, Generation: 1}, {Index: 1, ID: 8, Node: 2}}}
	m := broker.Metadata{Brokers: map[int32]broker.Broker{1: {ID: 1, Host: "us"}, 2: {ID: 2, Host: "us"}}}
	r := instance("a", 9093, 9095)
	p, err := draw(state, []known{{generation: 1, last: m}}, nil, func(int, int) (topology.Router, bool) { return r, true })
	if err != nil {
		t.Fatal(err)
	}
	if p.sides[0].view.Virtual(1) != 7 || p.sides[0].view.Virtual(2) != -1 || len(p.told) != 1 || p.tells(0, 1) || p.sides[0].bySlot[0].Host != "us" {
		t.Errorf("%+v", p)
	}
	if got := without(state, known{generation: 1, last: m}); !reflect.DeepEqual(got, []int32{2}) {
		t.Errorf("without a slot are %v", got)
	}
	s := p.sides[0]
	if s.gone(upstream{Broker: broker.Broker{ID: 9}}) || !s.gone(upstream{Broker: broker.Broker{ID: 9}, generation: 1}) || s.gone(upstream{Broker: m.Brokers[1], generation: 1}) {
		t.Error("which connections are to end")
	}
}

// TestDraw_Sets: a set has its own home and ports, its brokers may have the ids of others', and clients are told all of them.
func TestDraw_Sets(t *testing.T) {
	state := identity.State{Slots: []identity.Slot{{Index: 0, ID: 1, Node: 1}, {Set: "fast", Index: 0, ID: 0, Node: 1}}}
	eu, us := broker.Metadata{Brokers: map[int32]broker.Broker{1: {ID: 1, Host: "eu"}}}, broker.Metadata{Brokers: map[int32]broker.Broker{1: {ID: 1, Host: "us"}}}
	r := instance("a", 9093, 9095)
	r.Sets = []topology.Set{{Name: "fast", Slots: topology.Ports{First: 9103, Last: 9105}}}
	p, err := draw(state, []known{{last: eu}, {set: "fast", last: us}}, nil, func(int, int) (topology.Router, bool) { return r, true })
	if err != nil || p.sides[0].bySlot[0].Host != "eu" || p.sides[1].bySlot[0].Host != "us" || p.count() != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if p.sides[0].view.Virtual(1) != 1 || p.sides[1].view.Virtual(1) != 0 {
		t.Error("the brokers of both homes have the same id for clients")
	}
	if s, ok := p.sides[1].view.SlotOf(1); !ok || s.Port != 9103 {
		t.Errorf("%+v", s)
	}
	if numberOf(1, 2) != 1002 || setOf(1002) != 1 || setOf(2) != 0 || setOf(-1) != 0 {
		t.Error("numbers of slots")
	}
}

// TestOffer_Constant: what clients are told does not grow with an upgrade, shrinks with a broker that speaks less, and stays where they do not go together.
func TestOffer_Constant(t *testing.T) {
	speak := func(produce int16) apis.Versions {
		v := apis.Versions{}
		for _, k := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata} {
			v[int16(k)] = apis.Range{Min: 0, Max: 9}
		}
		v[int16(kmsg.Produce)] = apis.Range{Min: 3, Max: produce}
		return v
	}
	key := int16(kmsg.Produce)
	eu, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer eu.Close()
	s := spoken{known: map[int32]apis.Versions{}}
	homes := []*home{{known: known{cluster: eu}, spoken: s}}
	told, err := offer(homes, nil)
	if told != nil || err != nil {
		t.Fatalf("told %v, %v", told, err)
	}
	for i, step := range []struct{ speaks, want int16 }{{8, 8}, {9, 8}, {7, 7}, {9, 7}} {
		s.known[1] = speak(step.speaks)
		if told, err = offer(homes, told); err != nil || told[key].Max != step.want {
			t.Errorf("step %d: told %v, %v", i, told[key], err)
		}
	}
	s.known[2] = apis.Versions{}
	if _, err = offer(homes, told); err == nil || !strings.Contains(err.Error(), "broker 2 of eu") {
		t.Errorf("a broker that speaks nothing: %v", err)
	}
	delete(s.known, 2)
	if two, err := offer(append(homes, &home{known: known{cluster: eu}}), told); err != nil || two[int16(kmsg.Metadata)].Min != 1 {
		t.Errorf("with sets: told %v, %v", two[int16(kmsg.Metadata)], err)
	}
}

func TestGuests(t *testing.T) {
	g := newGuests(Limits{Connections: 3, PerAddress: 2})
	for i, step := range []struct {
		address string
		want    error
	}{{"a", nil}, {"a", nil}, {"a", ErrAddress}, {"b", nil}, {"c", ErrConnections}} {
		if err := g.enter(step.address); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	for _, a := range []string{"a", "a", "b"} {
		g.leave(a)
	}
	if len(g.of) != 0 || g.all != 0 {
		t.Errorf("left over: %v, %d", g.of, g.all)
	}
}

// TestProducers: each number is given once, over blocks, and running out is an error.
func TestProducers(t *testing.T) {
	p := &producers{id: func(c uint32) int64 { return int64(c) }}
	if _, err := p.next(); !errors.Is(err, errNoIDs) || !p.wants() {
		t.Errorf("without a block: %v", err)
	}
	p.add(1)
	p.add(5)
	seen := map[int64]bool{}
	for range 2 * blockSize {
		id, err := p.next()
		if err != nil || seen[id] {
			t.Fatalf("%d, %v", id, err)
		}
		seen[id] = true
	}
	if _, err := p.next(); !errors.Is(err, errNoIDs) {
		t.Errorf("at the end: %v", err)
	}
	p.add(1 << 12) // the number wraps
	if id, err := p.next(); err != nil || id != 0 {
		t.Errorf("%d, %v", id, err)
	}
}
