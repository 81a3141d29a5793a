package gate

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/isthmus-project/isthmus/topology"
)

func newGate(t testing.TB, left ...Producer) *Gate {
	t.Helper()
	g, err := New(left)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// try holds decisions to reasons, one after the other.
func try(t *testing.T, g *Gate, conn uint64, want Reason, first, records int32) {
	t.Helper()
	if d := g.Batch(conn, Batch{ID: 7, Epoch: 2, First: first, Records: records}); d.Reason != want {
		t.Errorf("%d records from %d on connection %d: %s, want %s", records, first, conn, d.Reason, want)
	}
}

func TestGate_Connections(t *testing.T) {
	g := newGate(t, *known(), Producer{ID: 3, Last: 5})
	try(t, g, 1, Gap, 105, 5) // it came before the one that it follows
	try(t, g, 2, Follows, 100, 5)
	try(t, g, 2, Begun, 105, 5)
	try(t, g, 2, Gap, 111, 5)
	try(t, g, 2, Begun, 110, 1)
	try(t, g, 3, Gap, 111, 5) // nobody knows what became of those on the other
	try(t, g, 3, Follows, 100, 5)
	g.Acked(Batch{ID: 7, Epoch: 2, First: 90, Records: 10}) // that was answered here, and says nothing of the home
	try(t, g, 2, Gap, 111, 5)                               // the old connection is not in order with the new one
	try(t, g, 3, Begun, 105, 5)
	g.Acked(Batch{ID: 7, Epoch: 2, First: 100, Records: 5})
	try(t, g, 4, Open, 111, 5)     // from now on the home looks
	try(t, g, 4, Repeated, 50, 40) // but it does not know these
	try(t, g, 4, Straddles, 95, 10)
	if g.Left() != 2 {
		t.Errorf("%d are left", g.Left())
	}
	for range 9 { // the same again is no other
		g.Acked(Batch{ID: 7, Epoch: 2, First: 100, Records: 5})
	}
	for i := range int32(3) {
		g.Acked(Batch{ID: 7, Epoch: 2, First: 105 + i, Records: 1})
		try(t, g, 4, Repeated, 50, 40)
	}
	g.Acked(Batch{ID: 7, Epoch: 2, First: 108, Records: 1})
	if g.Left() != 1 {
		t.Errorf("%d are left", g.Left())
	}
	try(t, g, 4, Unknown, 50, 40) // no client has six in flight
	g.Acked(Batch{ID: 4711})
	g.Known(4711)
}

func TestGate_Epochs(t *testing.T) {
	g := newGate(t, *known())
	for _, c := range []struct {
		epoch int16
		first int32
		want  Reason
	}{{3, 5, EpochGap}, {3, 0, NewEpoch}, {3, 5, Begun}, {2, 10, Repeated}, {2, 100, Follows}, {3, 105, EpochGap}} {
		if d := g.Batch(1, Batch{ID: 7, Epoch: c.epoch, First: c.first, Records: 5}); d.Reason != c.want {
			t.Errorf("epoch %d, sequence %d: %s, want %s", c.epoch, c.first, d.Reason, c.want)
		}
	}
}

// TestGate_AnotherRouter: what was acknowledged through another router is not known here, until the home was asked.
func TestGate_AnotherRouter(t *testing.T) {
	g := newGate(t, *known())
	try(t, g, 1, Gap, 700, 5)
	g.Known(7)
	try(t, g, 2, Open, 700, 5)
	g.Known(7)
	if g.Left() != 1 {
		t.Error("forgotten")
	}
	again := newGate(t, *known())
	try(t, again, 9, Repeated, 50, 40)
	try(t, again, 9, Follows, 100, 5)
}

func TestGate_UnsureProducers(t *testing.T) {
	p := *known()
	p.Unsure = true
	g := newGate(t, p)
	try(t, g, 1, Gap, 205, 5)
	try(t, g, 2, Gap, 200, 5)
	try(t, g, 2, Gap, 205, 5)
	try(t, g, 3, Gap, 205, 5)
	try(t, g, 4, LostTail, 200, 5)
	try(t, g, 4, Begun, 205, 5)
	try(t, g, 5, Repeated, 50, 40)
	g = newGate(t, *known()) // who is not unsure waits
	for conn := range uint64(300) {
		try(t, g, conn, Gap, 200, 5)
	}
}

func TestGate_WhatIsRefused(t *testing.T) {
	for name, p := range map[string]Producer{
		"no id":                {ID: -1},
		"no epoch":             {Epoch: -1},
		"last":                 {Last: -2},
		"six batches":          {Last: 5, Batches: make([]Written, 6)},
		"batch of a new epoch": {Last: 5, Batches: []Written{{Epoch: 1}}},
		"batch ahead":          {Last: 5, Batches: []Written{{First: 5, Last: 6}}},
		"batch behind nothing": {Last: -1, Batches: []Written{{First: 5, Last: 6}}},
		"batch backwards":      {Last: 50, Batches: []Written{{First: 5, Last: 4}}},
		"base":                 {Last: 50, Batches: []Written{{First: 4, Last: 5, Base: -2}}},
		"base without end":     {Last: 50, Batches: []Written{{First: 4, Last: 5, Base: math.MaxInt64}}},
	} {
		if _, err := New([]Producer{p}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New([]Producer{{ID: 5}, {ID: 3}, {ID: 5}}); err == nil {
		t.Error("one id twice")
	}
	if g := newGate(t); g.Left() != 0 {
		t.Error("an empty one has producers")
	}
}

func TestGate_Shrinks(t *testing.T) {
	const n = 1000
	left := make([]Producer, n)
	for i := range left {
		left[i] = Producer{ID: int64(n - i), Last: int32(i), Batches: []Written{{0, int32(i), int32(i), int64(i), 0}}}
	}
	g := newGate(t, left...)
	for id := int64(1); id <= n-10; id++ {
		for i := range int32(Remembered) {
			g.Acked(Batch{ID: id, First: 5000 + i, Records: 1})
		}
	}
	if g.Left() != 10 || cap(g.entries) > 40 || cap(g.batches) > 200 {
		t.Errorf("%d are left, in room for %d and %d batches", g.Left(), cap(g.entries), cap(g.batches))
	}
	for id := int64(n - 9); id <= n; id++ {
		i := int32(n - id)
		if d := g.Batch(1, Batch{ID: id, First: i, Records: 1}); d != (Decision{Answer, Repeated, int64(i)}) {
			t.Errorf("producer %d: %+v", id, d)
		}
	}
}

func TestMerge(t *testing.T) {
	w := func(epoch int16, first, last int32, base int64) Written { return Written{epoch, first, last, base, 0} }
	one := []Producer{
		{ID: 1, Last: 20, Time: 50, Batches: []Written{w(0, 0, 9, 0), w(0, 10, 20, 10)}},
		{ID: 2, Last: 20, Time: 10, Unsure: true},
		{ID: 3, Last: 10, Time: 50, Batches: []Written{w(0, top-9, top-5, 1), w(0, top-4, 4, 6), w(0, 5, 10, -1)}, Unsure: true},
		{ID: 5, Epoch: 2, Last: 7, Time: 50, Batches: []Written{w(2, 0, 7, 3)}},
	}
	other := []Producer{
		{ID: 5, Epoch: 1, Last: 90, Time: 60, Batches: []Written{w(1, 80, 90, 1)}},
		{ID: 3, Last: 30, Time: 70, Batches: []Written{w(0, top-4, 4, -1), w(0, 5, 10, 11), w(0, 11, 20, 17), w(0, 21, 25, 27), w(0, 26, 30, 32)}},
		{ID: 4, Last: 1, Time: 20},
	}
	want := []Producer{
		{ID: 1, Last: 20, Time: 50, Batches: []Written{w(0, 0, 9, 0), w(0, 10, 20, 10)}},
		{ID: 3, Last: 30, Time: 70, Batches: []Written{w(0, top-4, 4, 6), w(0, 5, 10, 11), w(0, 11, 20, 17), w(0, 21, 25, 27), w(0, 26, 30, 32)}},
		{ID: 4, Last: 1, Time: 20},
		{ID: 5, Epoch: 2, Last: 7, Time: 60, Batches: []Written{w(1, 80, 90, 1), w(2, 0, 7, 3)}},
	}
	for _, got := range [][]Producer{Merge(one, other, 20), Merge(other, one, 20)} {
		for i := range got {
			if len(got[i].Batches) == 0 {
				got[i].Batches = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v, want\n%+v", got, want)
		}
		newGate(t, got...)
	}
	if got := Merge(nil, nil, 0); len(got) != 0 {
		t.Error(got)
	}
}

func TestSalt(t *testing.T) {
	topo, err := topology.Load("../../topology/testdata/mesh.toml")
	if err != nil {
		t.Fatal(err)
	}
	id := topo.RouterClientID("r1", 4711, 0)
	for generation := range int64(3 * Salts) {
		got, err := Salted(topo, id, generation)
		if want := topo.RouterClientID("r1", 4711, uint16(generation)); err != nil || got != want {
			t.Fatalf("generation %d: %#x, %v, want %#x", generation, got, err, want)
		}
		client, salt, err := Unsalted(topo, got)
		if err != nil || client != id || salt != Salt(generation) || salt != generation%Salts {
			t.Fatalf("generation %d: back to %#x, salt %d, %v", generation, client, salt, err)
		}
	}
	if again, err := Salted(topo, id, 0); err != nil || again != id {
		t.Errorf("generation 0 has %#x for %#x, %v", again, id, err)
	}
	other := &topology.Topology{Fabric: topology.Fabric{Name: "another"}}
	for _, id := range []int64{-1, 0, 4711, topo.MirrorID("eu", "us"), other.RouterClientID("r1", 1, 0), id | 1<<59} {
		if _, err := Salted(topo, id, 1); !errors.Is(err, ErrID) {
			t.Errorf("%#x was salted: %v", id, err)
		}
		if _, _, err := Unsalted(topo, id); !errors.Is(err, ErrID) {
			t.Errorf("%#x was taken for a salted one: %v", id, err)
		}
	}
	if _, err := Salted(topo, id|5, 1); !errors.Is(err, ErrID) {
		t.Errorf("one with a salt was salted: %v", err)
	}
}

// FuzzGate: whatever comes, what the left log had is never forwarded while it is remembered, and the memory only shrinks.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0, 100, 5, 1, 0, 105, 5, 1, 1, 100, 5, 1, 0, 110, 5, 2})
	f.Add([]byte{0, 200, 5, 1, 0, 200, 5, 2, 0, 200, 5, 3, 0, 200, 5, 4, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		sure, unsure := *known(), *known()
		unsure.ID, unsure.Unsure = 8, true
		g := newGate(t, sure, unsure, Producer{ID: 9, Last: -1})
		left := g.Left()
		for ; len(ops) >= 4; ops = ops[4:] {
			b := Batch{ID: 7 + int64(ops[0]>>2&3), Epoch: int16(ops[0] >> 4 & 3), First: int32(ops[1]), Records: int32(ops[2])}
			e := g.find(b.ID)
			switch ops[0] & 3 {
			case 0, 1:
				d := g.Batch(uint64(ops[3]), b)
				if e != nil && b.ID != 9 && b.Epoch == 2 && b.Records > 0 && b.last() <= 99 && d.Outcome != Answer {
					t.Errorf("%+v was written, and: %+v", b, d)
				}
				if again := g.Batch(1000+uint64(len(ops)), b); e != nil && e.acked == 0 && again.Reason == Begun {
					t.Errorf("%+v follows what came on another connection", b)
				}
			case 2:
				g.Acked(b)
			case 3:
				g.Known(b.ID)
			}
			if g.Left() > left || g.Left() < 0 || len(g.entries) > 3 {
				t.Fatalf("%d are left of %d, in room for %d", g.Left(), left, len(g.entries))
			}
			left = g.Left()
		}
	})
}
