package identity

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestClaim_RoundTrip(t *testing.T) {
	for _, c := range []Claim{
		{Router: "shop", Kind: KindCluster, Proposal: "p1", By: "eu-1", Cluster: "real"},
		{Router: "shop", Kind: KindSlot, Proposal: "p2", By: "eu-1", Slot: 0, ID: 0, Node: 0},
		{Router: "shop", Kind: KindProducers, Proposal: "p3", By: "eu-1", Block: 7},
		{Router: "shop", Kind: KindSlot, Proposal: "p4", By: "eu-1", Slot: 1, ID: 2, Node: 7, Generation: 3},
	} {
		value, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c.V = 1; c.Generation > 0 {
			c.V = 3
		}
		if got, mine, err := Decode("shop", []byte(c.Key()), value); err != nil || !mine || got != c {
			t.Errorf("%+v came back as %+v, %v, %v", c, got, mine, err)
		}
		if _, mine, err := Decode("sho", []byte(c.Key()), value); mine || err != nil {
			t.Errorf("the claim of another router is taken: %v", err)
		}
	}
}

// TestClaim_OfAnotherVersion: a newer one stops whoever reads it, also where nothing else of it is understood; what is no claim does not.
func TestClaim_OfAnotherVersion(t *testing.T) {
	for name, tc := range map[string]struct {
		key, value string
		want       error
	}{
		"newer":           {"shop/slot/p", `{"v":4,"router":"shop","kind":"slot","proposal":"p"}`, ErrVersion},
		"newer, all else": {"shop/what/p", `{"v":99,"what":[1]}`, ErrVersion},
		"no JSON":         {"shop/slot/p", `slot`, ErrForeign},
		"no version":      {"shop/slot/p", `{"router":"shop","kind":"slot","proposal":"p"}`, ErrForeign},
		"another key":     {"shop/slot/q", `{"v":1,"router":"shop","kind":"slot","proposal":"p"}`, ErrForeign},
		"another router":  {"shop/slot/p", `{"v":1,"router":"other","kind":"slot","proposal":"p"}`, ErrForeign},
		"another type":    {"shop/slot/p", `{"v":1,"router":"shop","kind":"slot","proposal":"p","slot":"x"}`, ErrForeign},
		"no proposal":     {"shop/slot/", `{"v":1,"router":"shop","kind":"slot"}`, ErrForeign},
		"too long":        {"shop/slot/p", `{"v":1,"cluster":"` + strings.Repeat("x", MaxClaimBytes) + `"}`, ErrForeign},
	} {
		if _, mine, err := Decode("shop", []byte(tc.key), []byte(tc.value)); !mine || !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v, want %v", name, mine, err, tc.want)
		}
	}
}

func TestState_FirstWins(t *testing.T) {
	for name, tc := range map[string]struct {
		claims []Claim
		counts []bool
		want   State
	}{
		"cluster": {[]Claim{{Kind: KindCluster, Cluster: "a"}, {Kind: KindCluster, Cluster: "b"}}, []bool{true, false}, State{Cluster: "a", KnownCluster: true}},
		"no id":   {[]Claim{{Kind: KindCluster}, {Kind: KindCluster, Cluster: "b"}}, []bool{true, false}, State{KnownCluster: true}},
		"slots": {[]Claim{{Kind: KindSlot, Slot: 0, ID: 1, Node: 1}, {Kind: KindSlot, Slot: 0, ID: 2, Node: 2}, {Kind: KindSlot, Slot: 1, ID: 1, Node: 2},
			{Kind: KindSlot, Slot: 1, ID: 2, Node: 1}, {Kind: KindSlot, Slot: 1, ID: 2, Node: 2}}, []bool{true, false, false, false, true},
			State{Slots: []Slot{{"", 0, 1, 1, 0}, {"", 1, 2, 2, 0}}}},
		"impossible": {[]Claim{{Kind: KindSlot, Slot: -1, ID: 1, Node: 1}, {Kind: KindSlot, Slot: MaxSlots}, {Kind: KindSlot, ID: -1}, {Kind: KindSlot, Node: -1},
			{Kind: KindSlot, ID: math.MaxInt32}, {Kind: "what"}}, []bool{false, false, false, false, false, false}, State{}},
		"sets": {[]Claim{{Kind: KindSlot, Slot: 0, ID: 1, Node: 1}, {Kind: KindSlot, Set: "fast", Slot: 0, ID: 1, Node: 1}, {Kind: KindSlot, Set: "fast", Slot: 0, ID: 2, Node: 1},
			{Kind: KindSlot, Set: "fast", Slot: 1, ID: 3, Node: 1}}, []bool{true, false, true, false}, State{Slots: []Slot{{"", 0, 1, 1, 0}, {"fast", 0, 2, 1, 0}}}},
		"another home": {[]Claim{{Kind: KindSlot, Slot: 0, ID: 1, Node: 1}, {Kind: KindSlot, Slot: 1, ID: 2, Node: 2}, {Kind: KindSlot, Slot: 0, ID: 1, Node: 7, Generation: 1},
			{Kind: KindSlot, Slot: 0, ID: 1, Node: 8, Generation: 1}, {Kind: KindSlot, Slot: 1, ID: 2, Node: 7, Generation: 1}, {Kind: KindSlot, Slot: 1, ID: 3, Node: 1, Generation: 1},
			{Kind: KindSlot, Slot: 1, ID: 2, Node: 1, Generation: 1}, {Kind: KindSlot, Slot: 1, ID: 2, Node: 2}, {Kind: KindSlot, Slot: 2, ID: 9, Node: 9, Generation: 1},
			{Kind: KindSlot, Slot: 0, ID: 1, Node: 5, Generation: -1}},
			[]bool{true, true, true, false, false, false, true, false, true, false}, State{Slots: []Slot{{"", 0, 1, 7, 1}, {"", 1, 2, 1, 1}, {"", 2, 9, 9, 1}}}},
		"blocks": {[]Claim{{Kind: KindProducers, Block: 1}, {Kind: KindProducers, Block: 1}, {Kind: KindProducers, Block: 5}, {Kind: KindProducers, Block: 2}},
			[]bool{true, false, true, false}, State{Block: 5}},
	} {
		var s State
		for i, c := range tc.claims {
			if got := s.Apply(c); got != tc.counts[i] {
				t.Errorf("%s: claim %d counts: %v", name, i, got)
			}
		}
		if !reflect.DeepEqual(s, tc.want) {
			t.Errorf("%s: %+v, want %+v", name, s, tc.want)
		}
	}
}

func TestState_Next(t *testing.T) {
	s := State{Slots: []Slot{{"", 0, 1, 1, 0}, {"", 2, 3, 3, 0}}}
	for _, tc := range []struct {
		node  int32
		count int
		want  Slot
		ok    bool
	}{
		{2, 3, Slot{"", 1, 2, 2, 0}, true},
		{7, 9, Slot{"", 1, 7, 7, 0}, true},
		{7, 1, Slot{}, false},
		{7, 0, Slot{}, false},
	} {
		if got, ok := s.Next("", 0, tc.node, tc.count); got != tc.want || ok != tc.ok {
			t.Errorf("broker %d, %d slots: %v, %v, want %v, %v", tc.node, tc.count, got, ok, tc.want, tc.ok)
		}
	}
	left := State{Slots: []Slot{{"", 2, 7, 1, 0}, {"", 1, 5, 2, 0}, {"", 0, 4, 9, 1}, {"fast", 0, 8, 1, 0}}} // one broker of the new home has a slot
	if got, ok := left.Next("", 1, 3, 3); !ok || got != (Slot{"", 1, 5, 3, 1}) {
		t.Errorf("a slot of a home that was left: %v, %v", got, ok)
	}
	if got, ok := left.Next("", 1, 3, 1); ok {
		t.Errorf("a slot that this instance has no port for: %v", got)
	}
	if left.Has("", 1, 1) || !left.Has("", 1, 9) || !left.Has("", 0, 1) {
		t.Error("brokers of two homes are taken for each other")
	}
	moved := State{Slots: []Slot{{"", 0, 5, 1, 0}, {"", 1, 0, 2, 0}}} // ids of an older home
	if got, ok := moved.Next("", 0, 5, 3); !ok || got != (Slot{"", 2, 1, 5, 0}) {
		t.Errorf("an id that is taken: %v, %v", got, ok)
	}
}

// FuzzClaims: whatever is in the topic, nothing panics, and no slot, id or broker is there twice.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"v":1,"router":"shop","kind":"slot","proposal":"p","slot":1,"id":1,"node":1}`), []byte(`{"v":1,"router":"shop","kind":"slot","proposal":"p","slot":1,"id":2,"node":2}`))
	f.Add([]byte(`{"v":4}`), []byte(`{"v":1,"router":"shop","kind":"cluster","proposal":"p","cluster":"a"}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var s State
		for _, value := range [][]byte{one, two, one} {
			for _, kind := range []string{KindCluster, KindSlot, KindProducers} {
				if c, _, err := Decode("shop", []byte("shop/"+kind+"/p"), value); err == nil {
					s.Apply(c)
				}
			}
		}
		type in struct {
			set string
			n   int
			of  int64
		}
		indexes, ids, nodes := map[in]bool{}, map[int32]bool{}, map[in]bool{}
		for _, o := range s.Slots {
			index, node := in{o.Set, o.Index, 0}, in{o.Set, int(o.Node), o.Generation}
			if indexes[index] || ids[o.ID] || nodes[node] || o.Index < 0 || o.ID < 0 {
				t.Fatalf("%+v", s.Slots)
			}
			indexes[index], ids[o.ID], nodes[node] = true, true, true
		}
	})
}
