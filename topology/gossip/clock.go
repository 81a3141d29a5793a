package gossip

import (
	"cmp"
	"fmt"
	"sync"
	"time"
)

// Time is a reading of a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): close to the wall clock, and later
// than everything its node has heard of. Node makes it unique in a fabric.
type Time struct {
	Wall    int64  // ms since 1970 of the fastest clock that was heard of
	Counter uint32 // orders readings of the same Wall
	Node    string
}

// Compare orders readings: negative if t is before o.
func (t Time) Compare(o Time) int {
	return cmp.Or(cmp.Compare(t.Wall, o.Wall), cmp.Compare(t.Counter, o.Counter), cmp.Compare(t.Node, o.Node))
}

// IsZero reports whether t was never read from a clock.
func (t Time) IsZero() bool { return t == Time{} }

// String is what people and the API see of a version.
func (t Time) String() string { return fmt.Sprintf("%d.%d@%s", t.Wall, t.Counter, t.Node) }

// Clock is the hybrid logical clock of one node. It is safe for concurrent use.
type Clock struct {
	node string
	now  func() time.Time

	mu   sync.Mutex
	last Time
}

// NewClock returns the clock of a node over a wall clock.
func NewClock(node string, now func() time.Time) *Clock { return &Clock{node: node, now: now} }

// Now is later than every reading that this clock gave or saw.
func (c *Clock) Now() Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall := c.now().UnixMilli(); wall > c.last.Wall {
		c.last = Time{Wall: wall}
	} else if c.last.Counter++; c.last.Counter == 0 {
		c.last.Wall++ // the counter is used up
	}
	c.last.Node = c.node
	return c.last
}

// See moves the clock behind a reading of another node.
func (c *Clock) See(t Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Compare(c.last) > 0 {
		c.last.Wall, c.last.Counter = t.Wall, t.Counter
	}
}

// Ahead is how far the fastest clock that was heard of is ahead of this node's: the skew that people should know of.
func (c *Clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, time.Duration(c.last.Wall-c.now().UnixMilli())*time.Millisecond)
}
