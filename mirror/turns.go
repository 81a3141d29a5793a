package mirror

import "time"

const (
	// narrowWrite is how long the write of a request takes at the least when the way to the broker is what there is too little of.
	narrowWrite = 20 * time.Millisecond
	// turnBytes is how much more than another one a pump may have sent and still go into the same request.
	turnBytes = mergeTarget
)

// turns are how the pumps of a window share its way while it is narrow: by bytes. One batch of each per request would give most of it to those
// with the largest batches. Each pump is charged what it sends, those go who have sent the least, and who had nothing to send for some time
// saves nothing up: it is start-time fair queueing (Goyal, Vin, Cheng 1996), deficit round robin without rounds. Where all that is listed can
// go at once it does, so that nothing is left unused. While writes do not wait, nobody is in anybody's way, and requests are as full as they can
// be: then it is answers that are waited for. Only the window's sender uses it.
type turns struct {
	fair  time.Time // until when the way is narrow, as far as is known
	least int64     // what those have sent who have sent the least, of those that have something to send
}

// wrote takes how long a write took: one that waited makes the next as long a narrow one.
func (t *turns) wrote(began, now time.Time) {
	if took := now.Sub(began); took >= narrowWrite && now.Add(took).After(t.fair) {
		t.fair = now.Add(took)
	}
}

func (t *turns) narrow(now time.Time) bool { return now.Before(t.fair) }

// begin looks who has sent the least of those that have something to send.
func (t *turns) begin(listed []listing) {
	least := int64(-1)
	for _, at := range listed {
		if n, ok := t.sent(at); ok && (least < 0 || n < least) {
			least = n
		}
	}
	t.least = max(t.least, least)
}

// sent is what counts as sent by a pump, if it is listed still. It is bounded, so that nobody waits for long for what it sent elsewhere or when
// it was alone.
func (t *turns) sent(at listing) (n int64, ok bool) {
	p := at.pump
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.countLocked(p), p.out.ticket == at.ticket
}

func (t *turns) countLocked(p *pump) int64 {
	return min(max(p.out.charged, t.least), t.least+windowRequestBytes)
}

// turn reports whether a pump's batch may go now, or is not listed any more.
func (t *turns) turn(at listing) bool {
	n, ok := t.sent(at)
	return !ok || n <= t.least+turnBytes
}

// charge notes what a pump sends.
func (t *turns) charge(p *pump, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.charged = t.countLocked(p) + bytes
}
