package mirror

import (
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// What sends pumps elsewhere, and what stops them. A pump copies on until somebody takes it over, whatever the view says: a
// partition that nobody copies is worse than one that two nodes copy. It goes
//
//   - when its new owner asks for it (handover.go);
//   - when it is not copying (waiting, yielded, halted, paused) and the view says that another node owns it, which is also what
//     becomes of one that another owner fenced.

// drainMost is how long a pump that has to go waits for answers in flight. Who copies next finds what was written.
const drainMost = 300 * time.Millisecond

// duty is whether a pump has to copy here.
type duty struct {
	born    bool      // it has a place to begin with; without one it only stands for its partition
	gone    bool      // another pump, without a place, stands for the partition now
	owner   string    // the other node that owns it by the view; empty: this one
	foreign time.Time // since when
	pause   string    // why it is paused; empty: it is not
	held    string    // the node that is asked to hand it over before it starts; empty: none
	handed  bool      // its place is that of the owner before, and has to be confirmed only
	leaving *leaving
	moved   time.Time // when it was last anchored by this process
	hurt    suspicion
	// anchoring: somebody sets an anchor; no place is found meanwhile.
	anchoring bool
}

// leaving is where a pump goes when nothing is in flight any more.
type leaving struct {
	to     State
	cause  Cause
	reason string
	asker  *taker // who gets it; nil: nobody asked
	exact  bool   // every answer so far was as expected, so that the place is known
}

// direct tells the pump what the views say: the other node that owns it and why it is paused, if so.
func (p *pump) direct(owner, pause string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if owner == "" || p.owner != owner {
		p.foreign = now
	}
	p.owner, p.pause = owner, pause
	switch {
	case p.gone:
	case !p.born:
		p.standLocked(now)
	case owner != "" && p.idleLocked():
		p.departLocked(ownedBy(owner), now)
	case p.leaving != nil && p.leaving.to == StatePaused && pause == "":
		p.leaving = nil // it finds its place when it has drained
	case p.leaving != nil:
	case pause != "" && p.state == StatePaused:
		p.reason = pause
	case pause != "":
		p.leaveLocked(&leaving{to: StatePaused, cause: CauseManual, reason: pause}, now)
	case p.state == StatePaused:
		p.resumeLocked(now)
	}
}

func ownedBy(node string) string { return "owned by " + node }

// standLocked is for a pump without a place.
func (p *pump) standLocked(now time.Time) {
	switch {
	case p.owner != "":
		p.becomeLocked(StateElsewhere, "", ownedBy(p.owner), now)
	case p.state == StateElsewhere:
		p.becomeLocked(StateWaiting, CauseOwner, "taking it over", now)
	}
}

// idleLocked reports whether the pump would copy nothing now even if it had something.
func (p *pump) idleLocked() bool {
	switch p.state {
	case StateWaiting, StateYielded, StateHalted, StatePaused:
		return true
	}
	return false
}

// leaveLocked sends a pump where it has to go, when nothing is in flight any more.
func (p *pump) leaveLocked(to *leaving, now time.Time) {
	to.exact = p.state == StateRunning
	p.leaving = to
	if p.state != StateRunning && p.state != StateDraining {
		p.leftLocked(now)
		return
	}
	if p.state == StateRunning {
		p.dropQueueLocked()
		p.fetcher.mark(p)
	}
	p.becomeLocked(StateDraining, to.cause, to.reason, now)
	if len(p.out.inflight) == 0 {
		p.leftLocked(now)
		return
	}
	time.AfterFunc(drainMost, func() { p.late(to) })
}

// late ends a drain that takes too long.
func (p *pump) late(to *leaving) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaving == to && p.state == StateDraining {
		p.leftLocked(p.link.now())
	}
}

// lastWordsLocked takes an answer of a pump that is to go. What it says moves the position as long as all is as it should be.
func (p *pump) lastWordsLocked(b *outBatch, r broker.ProduceResult, now time.Time) {
	to := p.leaving
	if to == nil || !to.exact {
		return
	}
	doubt := duplicateAck(r) && !p.link.blind.Load() || p.out.solo && (p.link.unmarked.Load() || r.BaseOffset > p.out.targetEnd)
	if r.Err != nil || doubt || r.BaseOffset < p.acked.TargetFrom {
		to.exact = false
		return
	}
	p.creditLocked(b, r.BaseOffset, now)
	if b.end {
		p.safe, p.dirty = p.acked.clone(), true
	}
}

// leftLocked is the end of a drain.
func (p *pump) leftLocked(now time.Time) {
	to := p.leaving
	p.voidLocked()
	switch to.to {
	case StatePaused:
		p.leaving = nil
		p.held, p.handed = "", false
		p.becomeLocked(StatePaused, to.cause, to.reason, now)
		p.fetcher.mark(p)
		if p.owner != "" {
			p.departLocked(ownedBy(p.owner), now)
		}
	case StateWaiting:
		p.leaving = nil
		p.becomeLocked(StateWaiting, to.cause, to.reason, now)
		p.fetcher.mark(p)
	default:
		p.departLocked(to.reason, now)
	}
}

// departLocked takes the pump off the node: one without a place stands for its partition from now on. What is not
// durable of it is written, and then it is nobody's.
func (p *pump) departLocked(reason string, now time.Time) {
	to := p.leaving
	p.voidLocked()
	p.leaving, p.held, p.handed, p.gone = nil, "", false, true
	p.becomeLocked(StateElsewhere, "", reason, now)
	p.fetcher.drop(p)
	empty := p.link.unborn(p.flow, p.id.Partition)
	empty.owner, empty.pause = p.owner, p.pause
	if p.owner != "" {
		empty.becomeLocked(StateElsewhere, "", ownedBy(p.owner), now)
	}
	p.flow.put(empty)
	p.link.retire(p)
	if to != nil && to.asker != nil {
		to.asker.given(p.giftLocked(to.asker))
	}
}

// resumeLocked goes on at the place the pump had.
func (p *pump) resumeLocked(now time.Time) {
	if p.window == nil || p.fetcher == nil {
		p.becomeLocked(StateWaiting, "", "resumed", now)
		p.link.poke()
		return
	}
	p.fetcher.mark(p)
	p.attempts = 0
	p.findLocked("", "resumed", 0, now)
}

// dropQueueLocked drops what is not on the wire.
func (p *pump) dropQueueLocked() {
	for _, b := range p.out.queue {
		p.out.bytes -= int64(len(b.bytes))
		b.release()
	}
	p.out.queue = p.out.queue[:0]
	p.out.poison, p.out.keep, p.handed = nil, false, false
}

// unborn is a pump that stands for a partition and has nothing.
func (l *Link) unborn(f *flow, partition int32) *pump {
	p := &pump{link: l, flow: f, id: f.pumpID(partition)}
	p.acked.TargetLast, p.acked.SourceNext = -1, -1
	p.epochs, p.sight.near = [2]int32{-1, -1}, near{leader: -1, replica: -1}
	p.condition = condition{state: StateWaiting, reason: "new", since: l.now(), epochs: p.epochs}
	return p
}

// put has a pump stand for its partition.
func (f *flow) put(p *pump) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pumps[p.id.Partition] = p
}

// grow has at least n partitions, those that are new without a place.
func (f *flow) grow(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.pumps); i < n; i++ {
		f.pumps = append(f.pumps, f.link.unborn(f, int32(i)))
	}
}

// retire keeps a pump that has gone until its last checkpoint is written.
func (l *Link) retire(p *pump) {
	l.mu.Lock()
	l.retired = append(l.retired, p)
	l.mu.Unlock()
	nudge(l.flush)
}

// directAll tells the pumps of a flow what the views say, and reports whether one has to be taken over.
func (l *Link) directAll(f *flow) (take bool) {
	for _, p := range f.pumpList() {
		owner := l.shared.owner(p.id)
		p.direct(owner, l.shared.paused(l.name, p.id.Topic, p.id.Partition), l.now())
		switch {
		case p.wantsPlace():
			take = true
		case p.unasked(l.now()):
			l.shared.offer(p.id, owner)
		default:
			l.shared.waitsStill(p)
		}
	}
	return take
}

// unasked reports whether the pump copies here what is another node's, which has not asked for it though it had time to: it
// does not know who copies.
func (p *pump) unasked(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born && !p.gone && p.owner != "" && p.leaving == nil && now.Sub(p.foreign) > askFor
}

// wantsPlace reports whether the pump is this node's, and has nothing to begin with.
func (p *pump) wantsPlace() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.born && !p.gone && p.owner == ""
}

// copying reports whether the pump is at work here, and the other node that owns it, if one does.
func (p *pump) copying() (works bool, owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born && !p.gone && !p.idleLocked(), p.owner
}

// quiesce has the pumps of a link that is about to end finish what is in flight, and waits for that.
func (l *Link) quiesce() {
	l.stopping.Store(true)
	for end := l.now().Add(2 * drainMost); l.stopAll() && l.now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// stopAll ends the work of all pumps, and reports whether one still waits for answers.
func (l *Link) stopAll() (busy bool) {
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			busy = p.stop(l.now()) || busy
		}
	}
	return busy
}

// stop ends the pump's work, and reports whether it still waits for answers.
func (p *pump) stop(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.born && !p.gone && p.leaving == nil && p.state == StateRunning {
		p.leaveLocked(&leaving{to: StateWaiting, reason: "the link stops"}, now)
	}
	return p.leaving != nil
}
