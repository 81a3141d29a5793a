package mirror

import (
	"errors"
	"testing"
	"time"
)

// One answer of a cluster must not hide that a broker of it takes no records.
func TestLink_TroublesOfOneClusterAreKeptApart(t *testing.T) {
	b := newBench(t)
	l := b.link
	l.flows["orders"] = b.pump.flow
	b.pump.flow.pumps = []*pump{b.pump}
	l.trouble("us", partProduce(0), errors.New("no route"))
	since := b.now
	b.now = b.now.Add(time.Second)
	l.trouble("us", partProduce(0), errors.New("no route"))
	l.trouble("us", partMetadata, errors.New("no route"))
	l.reached("us", partMetadata)
	l.unneeded()
	if up, what, at := l.health(); up || what != "us: no route" || !at.Equal(since) {
		t.Errorf("up %v, %q since %v; want the trouble of producing since %v", up, what, at, since)
	}
	b.now = b.now.Add(troubleFor + time.Second)
	l.unneeded()
	if up, what, _ := l.health(); !up {
		t.Errorf("still told after nobody has met it for %v: %s", troubleFor, what)
	}
	l.trouble("us", partProduce(0), errors.New("no route"))
	b.pump.led(newFetcher(l, 0), newWindow(l, 1), 0, 0, 1, b.now) // another broker leads
	l.unneeded()
	if up, what, _ := l.health(); !up {
		t.Errorf("still in trouble for a broker that nobody writes to: %s", what)
	}
}

// A trouble that was met before the clock was set back is not told for as long as that.
func TestLink_TroubleEndsUnderAClockSetBack(t *testing.T) {
	b := newBench(t)
	l := b.link
	l.flows["orders"] = b.pump.flow
	b.pump.flow.pumps = []*pump{b.pump}
	l.trouble("us", partProduce(0), errors.New("no route"))
	b.pump.becomeLocked(StateRunning, "", "", b.now)
	b.now = b.now.Add(-time.Hour)
	l.unneeded()
	if up, what, _ := l.health(); !up {
		t.Errorf("still told after the clock was set back by an hour: %s", what)
	}
}

// While a broker is unreachable its pumps look for their places in vain: nobody writes, so nobody meets the trouble again.
func TestLink_TroubleStaysWhileAPumpIsHeldUp(t *testing.T) {
	for state, want := range map[State]bool{ // is the link up again, long after anybody met the trouble?
		StateWaiting: false, StateFinding: false, StateDraining: false, StateRetrying: false,
		StateRunning: true, StateYielded: true, StateHalted: true,
	} {
		b := newBench(t)
		l := b.link
		l.flows["orders"] = b.pump.flow
		b.pump.flow.pumps = []*pump{b.pump}
		l.trouble("us", partProduce(0), errors.New("no route"))
		b.pump.disconnected(b.pump.window, errors.New("no route"), b.now)
		b.pump.becomeLocked(state, "", "", b.now)
		b.now = b.now.Add(troubleFor)
		l.unneeded()
		if up, _, _ := l.health(); up {
			t.Errorf("%s: up %v after it was met, when the next try may still be on its way", state, troubleFor)
		}
		b.now = b.now.Add(time.Minute)
		l.unneeded()
		if up, what, _ := l.health(); up != want {
			t.Errorf("%s: up %v (%s), want %v", state, up, what, want)
		}
	}
}

// The longest wait before the next try, and its dial.
func TestLink_TroubleOutlivesTheNextTry(t *testing.T) {
	if wait, dial := 5*time.Second*3/2, (Config{}).withDefaults().DialTimeout; troubleFor <= wait+dial {
		t.Errorf("a trouble is told for %v, the next try may end after %v", troubleFor, wait+dial)
	}
}
