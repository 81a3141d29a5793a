package mirror

import (
	"testing"
	"time"
)

// send has the listed pumps send by turns, each a batch of its size per request, and returns what each has sent.
func (t *turns) send(requests int, sizes ...int64) (sent []int64) {
	var listed []listing
	for range sizes {
		listed = append(listed, listing{pump: &pump{}})
	}
	sent = make([]int64, len(sizes))
	for range requests {
		t.begin(listed)
		for i, at := range listed {
			if t.turn(at) {
				t.charge(at.pump, sizes[i])
				sent[i] += sizes[i]
			}
		}
	}
	return sent
}

// On a narrow way it is bytes that are shared alike, however large the batches are.
func TestTurns_ShareBytesAlike(t *testing.T) {
	var w turns
	sent := w.send(5000, 1<<20, 5<<10, 5<<10, 50<<10)
	for i, n := range sent[1:] {
		if ratio := float64(sent[0]) / float64(n); ratio < 0.8 || ratio > 1.25 {
			t.Errorf("pump 0 has sent %d bytes, pump %d %d; want as many", sent[0], i+1, n)
		}
	}
	if alone := w.send(100, 1<<20); alone[0] != 100<<20 {
		t.Errorf("a pump alone has sent %d bytes in 100 requests, want a batch in each", alone[0])
	}
}

// Who was idle saves nothing up, and who has sent much elsewhere does not wait for long.
func TestTurns_ForgetWhatIsLongAgo(t *testing.T) {
	w := turns{least: 1 << 40}
	idle, busy := listing{pump: &pump{}}, listing{pump: &pump{}}
	busy.pump.out.charged = 1 << 50
	w.begin([]listing{idle, busy})
	if n, _ := w.sent(idle); n != w.least {
		t.Errorf("a pump that was idle counts as %d bytes, want %d", n, w.least)
	}
	if n, _ := w.sent(busy); n != w.least+windowRequestBytes {
		t.Errorf("a pump that comes from elsewhere counts as %d bytes, want %d", n, w.least+windowRequestBytes)
	}
	if w.turn(busy) || !w.turn(idle) {
		t.Error("the one that has sent more goes first")
	}
}

// The way is narrow for as long as the last write that waited took.
func TestTurns_NarrowWhileWritesWait(t *testing.T) {
	var w turns
	now := time.UnixMilli(1_700_000_000_000)
	w.wrote(now, now.Add(narrowWrite-1))
	if w.narrow(now) {
		t.Error("a way is narrow on which a write did not wait")
	}
	w.wrote(now.Add(-time.Second), now)
	w.wrote(now, now)
	if !w.narrow(now.Add(time.Second-1)) || w.narrow(now.Add(time.Second)) {
		t.Error("want a way narrow for a second after a write that took one")
	}
}
