package mirror

import (
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// pack merges the head of the queue with its neighbours, and returns the size of what would be sent; 0: nothing. It takes its time, and what
// the broker might take from anybody has to be young when it is written: so it comes before next, which judges and stamps.
func (p *pump) pack(w *window, now time.Time) (bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.maySendLocked(w, now) {
		return 0
	}
	wanted := p.wantsLocked()
	p.packLocked(now)
	if !wanted && p.wantsLocked() {
		p.fetcher.mark(p)
	}
	return len(p.out.queue[0].bytes)
}

// maySendLocked reports whether there is a batch to send over the window, and nothing on its way that has to be answered before.
func (p *pump) maySendLocked(w *window, now time.Time) bool {
	if p.window != w || p.state != StateRunning || len(p.out.queue) == 0 {
		return false
	}
	flying := len(p.out.inflight)
	if flying == 0 {
		return true
	}
	head, last := p.out.queue[0], p.out.inflight[flying-1]
	old := p.link.mayBeForgotten(min(head.maxTime, last.maxTime), now)
	return !p.out.solo && !old && flying < pumpInFlight && last.origin == head.origin && !last.alone && last.via == w
}

// next gives the window the batch to send now, stamped, or nil.
func (p *pump) next(w *window, now time.Time) *outBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.maySendLocked(w, now) {
		return nil
	}
	flying := len(p.out.inflight)
	if flying == 0 && p.staleLocked(now) {
		p.out.keep, p.out.contended = true, true // what is new there is another owner's
		p.findLocked("", "idle: looking at the target before writing", 0, now)
		return nil
	}
	head := p.out.queue[0]
	if most := p.flow.limits().latest(now); head.maxTime > most {
		if flying > 0 {
			return nil
		}
		p.poisonLocked(&errTooLate{offset: head.spans[0].first, next: head.next, time: head.maxTime, most: most}, now)
		return nil
	}
	wanted := p.wantsLocked()
	p.out.queue = append(p.out.queue[:0], p.out.queue[1:]...)
	p.stampLocked(head)
	head.via = w
	p.out.inflight = append(p.out.inflight, head)
	if !wanted && p.wantsLocked() {
		p.fetcher.mark(p)
	}
	return head
}

// staleLocked reports whether another owner may have gone on since the place was last known
// to be right, and the sequence would not tell.
func (p *pump) staleLocked(now time.Time) bool {
	age := now.Sub(p.out.proved)
	switch {
	case age > staleAfter || p.link.pulse.stoppedSince(p.out.asked, now):
		return true
	case !p.out.solo || p.out.looks > 1: // a third look could come as late as the second
		return false
	case p.out.looks == 0 && !p.link.pulse.rivals(now): // alone, and acknowledgement by acknowledgement
		return false
	}
	return age > doubtAfter
}

// packLocked merges the head of the queue with its neighbours where they join. If one of them cannot be decoded they go one by one: what
// stands before it gets to the target, and it is judged there, as one without neighbours.
func (p *pump) packLocked(now time.Time) {
	q := p.out.queue
	limits := p.flow.limits()
	n, bytes := 1, len(q[0].bytes)
	if bytes > mergeBelow || q[0].alone {
		return
	}
	for n < len(q) && adjoins(q[n-1], q[n]) && joins(bytes, q[0].origin, q[n], limits.maxBytes) && q[n].maxTime <= limits.latest(now) {
		bytes += len(q[n].bytes)
		n++
	}
	if n == 1 {
		return
	}
	m, err := mergeGroup(q[:n], p.link.cfg.DecodeBytes)
	if err != nil || limits.maxBytes > 0 && len(m.bytes) > limits.maxBytes {
		return
	}
	for _, b := range q[:n] {
		p.out.bytes -= int64(len(b.bytes))
		b.release()
	}
	p.out.bytes += int64(len(m.bytes))
	q[0] = m
	p.out.queue = append(q[:1], q[n:]...)
}

func (p *pump) stampLocked(b *outBatch) {
	lane := p.acked.lane(b.origin)
	if sent, ok := p.out.sent[b.origin]; ok {
		lane.Count = sent
	}
	b.sent = p.link.now()
	b.generation, b.epoch, b.count = p.out.generation, lane.Epoch, lane.Count
	batch.Patch(b.bytes, batch.Stamp{ProducerID: p.flow.producerID(b.origin), Epoch: lane.Epoch, Sequence: lane.sequence()})
	b.crc = batch.CRC(b.bytes)
	p.out.sent[b.origin] = lane.Count + int64(b.records)
}

// result takes the target's answer to one batch.
func (p *pump) result(b *outBatch, r broker.ProduceResult, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer b.release()
	if b.generation != p.out.generation {
		return
	}
	for i, f := range p.out.inflight {
		if f == b {
			p.out.inflight = append(p.out.inflight[:i], p.out.inflight[i+1:]...)
			p.out.bytes -= int64(len(b.bytes))
			break
		}
	}
	switch p.state {
	case StateRunning:
		switch {
		case r.Err != nil:
			p.refusedLocked(b, r.Err, now)
		case duplicateAck(r) && !p.link.blind.Load():
			p.out.contended = true
			p.drainLocked(CauseOwner, "another owner wrote this batch first", now)
		case r.BaseOffset < p.acked.TargetFrom:
			p.drainLocked(CauseTarget, fmt.Sprintf("acknowledged at target offset %d, before our last at %d", r.BaseOffset, p.acked.TargetLast), now)
		case p.out.solo && p.link.unmarked.Load():
			// Without the marker this may be the acknowledgement of another owner's
			// batch with other content.
			p.out.verify, p.out.old = true, p.link.mayBeForgotten(b.maxTime, now)
			p.drainLocked("", "reading back the first batch", now)
		default:
			p.acceptLocked(b, r.BaseOffset, now)
		}
	case StateDraining:
		p.lastWordsLocked(b, r, now)
	}
	p.drainedLocked(now)
}

// duplicateAck tells an acknowledgement that repeats an earlier append: Kafka
// gives it a log append time although the topic is CreateTime; kfake gives it no
// log start. Equal sequences with other content are acknowledged so, too.
func duplicateAck(r broker.ProduceResult) bool {
	return r.LogAppendTime >= 0 || r.LogStart < 0
}

func (p *pump) acceptLocked(b *outBatch, base int64, now time.Time) {
	// While the broker may have forgotten our id, whatever came between may be
	// another owner's, and our own batch one that it had written before.
	gap := p.out.solo && base > p.out.targetEnd
	if gap {
		p.out.examineFrom, p.out.examineTo, p.out.before, p.out.end = p.out.targetEnd, base, p.acked.clone(), b.end
	}
	p.creditLocked(b, base, now)
	p.out.solo, p.out.refused, p.out.proved, p.out.asked, p.out.looks = p.out.old, 0, now, b.sent, 0
	p.attempts, p.handed = 0, false
	if gap {
		p.out.keep = true
		p.findLocked("", "looking into what others wrote meanwhile", 0, now)
		return
	}
	if b.end {
		p.safe, p.dirty = p.acked.clone(), true
	}
	p.settleLocked(now)
	if p.state != StateRunning {
		return
	}
	if p.track == trackLate {
		p.retrackLocked(now)
	}
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
	p.fetcher.mark(p)
}

// creditLocked moves the acknowledged position over a batch.
func (p *pump) creditLocked(b *outBatch, base int64, now time.Time) {
	lane := p.acked.lane(b.origin)
	at, count := base, b.count
	for _, s := range b.spans {
		p.offsets.Add(Run{Source: s.first, Target: at, Records: s.records, Origin: b.origin, Epoch: b.epoch, Count: count})
		at, count = at+s.records, count+s.records
	}
	p.tookLocked(b.clients, base, now)
	p.out.old, p.out.targetEnd = p.link.mayBeForgotten(b.maxTime, now), at
	lane.Count = count
	p.acked.setLane(lane)
	p.acked.SourceNext, p.acked.SourceEpoch = b.next, b.leader
	p.acked.TargetLast, p.acked.TargetFrom = at-1, at
	p.markLocked(now)
	p.meter.add(int64(len(b.bytes)), now)
	p.link.metrics.copied(p, b, now)
	p.auditLocked(b, base, now)
}

// refusedLocked begins the drain that an error makes necessary.
func (p *pump) refusedLocked(b *outBatch, err error, now time.Time) {
	p.link.metrics.failed(p, err)
	if ofRecords(err) {
		p.suspectLocked(b, err, now)
		return
	}
	switch broker.Classify(err) {
	case broker.Refind:
		p.out.contended = true
		if p.out.solo {
			p.out.refused++
		}
	case broker.Retry:
		p.link.poke() // the leader may have moved
	case broker.Pause, broker.Fatal:
		p.attempts = max(p.attempts, 4) // somebody has to act: begin with the longer waits
	}
	p.drainLocked(causeOf(err, CauseTarget), fmt.Sprintf("target refused records from source offset %d: %v%s", b.spans[0].first, err, remedy(err)), now)
}
