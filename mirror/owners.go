package mirror

import "context"

// Owners says which node copies what, as far as this node knows. It answers at once, from memory, and any goroutine may
// call it. After each change of what it says, [Set.Reconsider] has to be called.
//
// An answer need not be right, nor equal on all nodes: the target's log is the lock, and two nodes that copy one
// partition cost time and no record.
type Owners interface {
	// Self is the name of this node.
	Self() string
	// Owner is the node that should copy a pump; empty = this one, for want of another.
	Owner(PumpID) string
	// Before is the node that is asked to hand a pump over before this one begins to copy it: who owned it by the view
	// before, or, at the first view, who would own it without this node. Empty = nobody, or one that is not alive.
	Before(PumpID) string
}

// Peers reaches the mirrors of the other nodes. What it sends may be lost, doubled, late or out of order.
type Peers interface {
	// Send gives a payload to [Set.Receive] of another node. An error says that it was not sent.
	Send(ctx context.Context, node string, payload []byte) error
}
