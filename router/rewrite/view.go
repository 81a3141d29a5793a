package rewrite

import (
	"fmt"
	"math"
	"slices"

	"github.com/isthmus-project/isthmus/router/timeline"
)

// Slot is one broker of the virtual cluster.
type Slot struct {
	// ID is the virtual broker's, from 0 on, and never changes.
	ID int32
	// Node is the id of the real broker that it stands for at the home of now; -1 while it stands for none.
	Node int32
	// Host and Port are what clients are told.
	Host string
	Port int32
}

// View is the virtual cluster at one moment, at one home. It is never changed; any goroutine may use it.
type View struct {
	clusterID string
	slots     map[int32]Slot  // by virtual id
	virtual   map[int32]int32 // real id to virtual id
	others    []Slot          // of other homes
	offsets   Offsets         // nil: clients know records by the home's own
}

// Offsets maps offsets of records between those that clients know and those of the home. It is asked by any goroutine, for offsets from 0 on, and does not block.
// *positions.Book is one.
type Offsets interface {
	// Real is the real position of who has read all before a virtual offset.
	Real(topic string, partition int32, virtual int64) int64
	// Virtual is the least virtual offset of what lies at a real one or behind it.
	Virtual(topic string, partition int32, real int64) int64
	// Start is the virtual start of a log that starts at a real offset.
	Start(topic string, partition int32, real int64) int64
	// Place is where a Fetch goes on; false where clients know the partition by the home's own offsets.
	Place(topic string, partition int32, virtual int64) (timeline.Place, bool)
	// Skip notes that at a place nothing is shown before its end.
	Skip(topic string, partition int32, at timeline.Place)
	// Pack notes that a partition has batches that lie on both sides of a jump.
	Pack(topic string, partition int32)
	// Packs reports whether Pack was called.
	Packs(topic string, partition int32) bool
}

// Offsets are those of the view, nil for the home's own.
func (v *View) Offsets() Offsets { return v.offsets }

// WithOffsets is the view of a home whose offsets are not those that clients know. Those in Produce and Fetch are the walker's.
func (v *View) WithOffsets(o Offsets) *View {
	out := *v
	out.offsets = o
	return &out
}

// nobody is an id that no broker has: what a request says of a broker that no slot stands for. The home refuses it by its own rules.
const nobody = math.MaxInt32

// NewView makes a view. clusterID is what clients are told; empty leaves the home's. others are brokers of the virtual cluster that stand for brokers of
// other homes: clients are told of them, and nothing else of this home is theirs.
func NewView(clusterID string, slots []Slot, others ...Slot) (*View, error) {
	v := &View{clusterID: clusterID, slots: make(map[int32]Slot), virtual: make(map[int32]int32), others: others}
	for _, s := range slots {
		if s.ID < 0 || s.ID == nobody {
			return nil, fmt.Errorf("make a view: slot %d: an id is from 0 to %d", s.ID, int32(nobody)-1)
		}
		if s.Host == "" || s.Port < 1 || s.Port > 65535 {
			return nil, fmt.Errorf("make a view: slot %d: %q port %d is no address", s.ID, s.Host, s.Port)
		}
		if _, twice := v.slots[s.ID]; twice {
			return nil, fmt.Errorf("make a view: slot %d is there twice", s.ID)
		}
		v.slots[s.ID] = s
		if s.Node < 0 {
			continue
		}
		if other, twice := v.virtual[s.Node]; twice {
			return nil, fmt.Errorf("make a view: broker %d has the slots %d and %d", s.Node, other, s.ID)
		}
		v.virtual[s.Node] = s.ID
	}
	for _, s := range others {
		if _, twice := v.slots[s.ID]; twice {
			return nil, fmt.Errorf("make a view: slot %d is of two homes", s.ID)
		}
	}
	return v, nil
}

// Virtual is the id that clients know a broker by; -1 if no slot stands for it. Ids below 0 say that there is none and stay.
func (v *View) Virtual(node int32) int32 {
	if node < 0 {
		return node
	}
	if id, ok := v.virtual[node]; ok {
		return id
	}
	return -1
}

// Real is the broker that a slot stands for. False means that there is no such slot, or that it stands for none.
func (v *View) Real(id int32) (node int32, ok bool) {
	s, ok := v.slots[id]
	return s.Node, ok && s.Node >= 0
}

// real is what a request is told to the home with.
func (v *View) real(id int32) int32 {
	if id < 0 {
		return id
	}
	if node, ok := v.Real(id); ok {
		return node
	}
	return nobody
}

// SlotOf is the slot that stands for a broker.
func (v *View) SlotOf(node int32) (Slot, bool) {
	id, ok := v.virtual[node]
	return v.slots[id], ok
}

// each maps a list in place; what has no slot is left out.
func (v *View) each(nodes []int32) []int32 {
	out := nodes[:0]
	for _, n := range nodes {
		if id := v.Virtual(n); id >= 0 || n < 0 {
			out = append(out, id)
		}
	}
	return out
}

// List maps ids into a new list; what has no slot is left out.
func (v *View) List(nodes []int32) []int32 { return v.each(slices.Clone(nodes)) }

// back maps a list of a request in place.
func (v *View) back(ids []int32) {
	for i, id := range ids {
		ids[i] = v.real(id)
	}
}
