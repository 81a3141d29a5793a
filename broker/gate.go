package broker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// loginEvery is how soon a broker that did not let us in is tried again, by all connections of a cluster together: a wrong
	// password must neither lock an account nor fill the broker's log.
	loginEvery = time.Second
	// atOnce is how many try at the same time while a broker lets us in. A far one takes a second for each, and a node has many
	// connections; but as many may be refused together when it changes its mind.
	atOnce = 8
	// maxDoors is from how many addresses on those are forgotten that nobody is waiting for.
	maxDoors = 256
)

// gate spaces the attempts to get into the brokers of one cluster. While a broker lets us in, some go at once; until one was let in
// they take turns; after a failure there is one in a second. Brokers are known by the address that was dialled, because the client
// library tells no more.
type gate struct {
	mu    sync.Mutex
	doors map[string]*door
}

// door is what is known of one address. The gate's mu guards it.
type door struct {
	good    bool          // the last attempt that was told how it ended was let in
	err     error         // why the last one was not; nil if it was
	shut    time.Time     // nobody enters before
	inside  []*turn       // those that did not end, oldest first
	half    *turn         // the one of inside that is connected and was not told yet
	changed chan struct{} // closed when somebody may enter sooner
}

// turn is one attempt.
type turn struct {
	gate    *gate
	address string
	until   time.Time // then it is taken for failed, because the library does not tell a mechanism what the broker answered
}

func newGate() *gate { return &gate{doors: map[string]*door{}} }

// at returns the door of an address. Needs mu.
func (g *gate) at(address string, now time.Time) *door {
	d := g.doors[address]
	if d == nil {
		if len(g.doors) >= maxDoors { // brokers may advertise ever new ones
			for a, old := range g.doors {
				if old.expire(now); len(old.inside) == 0 && !now.Before(old.shut) {
					delete(g.doors, a)
				}
			}
		}
		d = &door{changed: make(chan struct{})}
		g.doors[address] = d
	}
	return d
}

// enter waits for a turn to connect. The caller says how it ended: by pass and then letIn, by fail, or by leave.
func (g *gate) enter(ctx context.Context, address string) (*turn, error) {
	return g.wait(ctx, address, false)
}

// login waits for a turn to log in, and goes on where a connection's turn passed.
func (g *gate) login(ctx context.Context, address string) (*turn, error) {
	return g.wait(ctx, address, true)
}

func (g *gate) wait(ctx context.Context, address string, login bool) (*turn, error) {
	for {
		g.mu.Lock()
		now := time.Now()
		d := g.at(address, now)
		next, may := d.next(now, login)
		if may {
			t := &turn{gate: g, address: address, until: now.Add(loginEvery)}
			d.inside = append(d.inside, t)
			g.mu.Unlock()
			return t, nil
		}
		before, changed := d.err, d.changed
		g.mu.Unlock()
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() == nil {
			continue
		}
		if before != nil {
			return nil, fmt.Errorf("wait to try %s again, which refused the last attempt: %w (%w)", address, before, context.Cause(ctx))
		}
		return nil, fmt.Errorf("wait for another attempt to get into %s: %w", address, context.Cause(ctx))
	}
}

// next tells whether another may enter now, and when to look again if not. Needs the gate's mu.
func (d *door) next(now time.Time, login bool) (time.Time, bool) {
	d.expire(now)
	if login && d.half != nil && !now.Before(d.shut) {
		d.remove(d.half)
	}
	most := 1
	if d.good {
		most = atOnce
	}
	switch {
	case now.Before(d.shut):
		return d.shut, false
	case len(d.inside) >= most:
		return d.inside[0].until, false
	}
	return now, true
}

// expire takes those for failed that did not end in their time. Needs the gate's mu.
func (d *door) expire(now time.Time) {
	for len(d.inside) > 0 && !now.Before(d.inside[0].until) {
		d.good = false
		d.remove(d.inside[0])
	}
}

// remove ends a turn and reports whether it had not ended. Needs the gate's mu.
func (d *door) remove(t *turn) bool {
	i := slices.Index(d.inside, t)
	if i >= 0 {
		d.inside = slices.Delete(d.inside, i, i+1)
	}
	if d.half == t {
		d.half = nil
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return i >= 0
}

// leave ends a turn that tells nothing of the broker's mind, and lets the next one in.
func (t *turn) leave() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	t.gate.at(t.address, time.Now()).remove(t)
}

// pass says that there is a connection. It proves nothing: the broker may still refuse us, and no other is let in until it does not,
// unless it let others in.
func (t *turn) pass() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	d := t.gate.at(t.address, time.Now())
	if d.remove(t) && !d.good {
		t.until = time.Now().Add(loginEvery) // each step has its second
		d.half, d.inside = t, append(d.inside, t)
	}
}

// letIn says that the broker takes us as we are: no other need wait for a turn.
func (t *turn) letIn() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	d := t.gate.at(t.address, time.Now())
	d.good, d.err = true, nil
	if d.half != nil {
		d.remove(d.half)
	}
	d.remove(t)
}

// fail keeps the others out for a while, unless it was the caller of ctx who gave up. It may come after pass: with TLS 1.3 a client
// learns after its handshake that the broker refuses its certificate.
func (t *turn) fail(ctx context.Context, err error) {
	if ctx.Err() == context.Canceled {
		t.leave()
		return
	}
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	now := time.Now()
	d := t.gate.at(t.address, now)
	until := now.Add(loginEvery)
	if d.remove(t) {
		until = t.until
	}
	d.refused(err, until)
}

// refused keeps all out for a while, where there was no turn when the broker said so.
func (g *gate) refused(address string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.at(address, now).refused(err, now.Add(loginEvery))
}

// refused notes a failure. Needs the gate's mu.
func (d *door) refused(err error, until time.Time) {
	d.good, d.err = false, err
	if d.half != nil { // which is the one that was refused: until then there is one at a time
		d.remove(d.half)
	}
	if until.After(d.shut) {
		d.shut = until
	}
}
