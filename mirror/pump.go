package mirror

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// State is what a pump is doing. Every state but running has a reason.
//
//	          refresh knows both ends         place found
//	waiting ─────────────────────────▶ finding ─────────▶ running
//	   ▲                                ▲ ▲  │ nobody's      │ any error, a
//	   │ topic or                       │ │  │ guess        │ duplicate's ack,
//	   │ leader gone      back-off over │ │  ▼              │ idle too long
//	   │                                │ │ halted          ▼
//	   └─────────────────── retrying ◀──┼─┴──────────── draining
//	                                    │ look again       │ another owner
//	                                 yielded ◀─────────────┘ writes
//
// Draining waits for the answers in flight; nothing is sent meanwhile.
type State string

// The states of a pump.
const (
	StateWaiting  State = "waiting"  // for a topic, a leader or a checkpoint to begin with
	StateFinding  State = "finding"  // finding its place on the target
	StateRunning  State = "running"  // copying, or caught up
	StateDraining State = "draining" // waiting for answers in flight before finding its place
	StateRetrying State = "retrying" // backing off after an error; heals by itself
	StateYielded  State = "yielded"  // another owner copies this partition; watching it
	StateHalted   State = "halted"   // needs somebody; checked again slowly
)

// States lists all states, for metrics.
var States = []State{StateWaiting, StateFinding, StateRunning, StateDraining, StateRetrying, StateYielded, StateHalted}

const (
	pumpInFlight = 5               // batches of one pump on the wire: the duplicate window of a broker (KIP-98)
	staleAfter   = 2 * time.Second // an owner idle for longer finds its place before it writes
)

// condition is a pump's state with everything a person asks about it.
type condition struct {
	state    State
	reason   string
	since    time.Time
	attempts int
	nextTry  time.Time
	working  bool     // a worker is finding its place
	fenced   int64    // how often another owner was found writing
	epochs   [2]int32 // leader epochs of source and target by the latest metadata
}

// outflow is the way of batches from the source to the target's answer.
type outflow struct {
	queue      []*outBatch
	inflight   []*outBatch
	bytes      int64            // of both
	sent       map[string]int64 // count of records sent, per origin
	generation uint64           // grows whenever everything in the outflow is void
	solo       bool             // one batch at a time until one is acknowledged fresh
	old        bool             // the last acknowledged batch was so old that the broker may forget the id
	proved     time.Time        // when the place was last known to be right
	targetEnd  int64            // target's end when the place was found: a later gap is looked into
	listed     *window          // whose ready list it is in; nil = none
	poison     error            // what stands behind the last queued batch and cannot be copied
	doubt
}

// doubt is what the next look at the place has to know.
type doubt struct {
	keep        bool  // the queue survives this look
	contended   bool  // the cause is another owner
	refused     int   // solo batches refused in a row without anybody's progress
	examineFrom int64 // own batches in [examineFrom, examineTo) would be another's; -1 none
	examineTo   int64
}

// sight is what we have seen of the source, by our own clock.
type sight struct {
	highWatermark, logStart, stable int64
	epoch                           int32       // leader epoch of the batch before fetchAt, -1 unknown
	at                              time.Time   // last answer of the source
	marks                           []sightMark // head positions not yet reached, oldest first
}

type sightMark struct {
	head int64
	at   time.Time
}

// pump is one partition of a flow. It is state, not a goroutine: fetchers offer
// to it, windows take from it and report to it, workers find its place.
type pump struct {
	id   PumpID
	flow *flow
	link *Link

	mu sync.Mutex
	condition
	acked   Checkpoint // progress that the target has acknowledged
	safe    Checkpoint // the last acked one at the end of a source batch
	dirty   bool       // safe is newer than what is durable
	fetchAt int64      // next source offset to read
	offsets OffsetMap
	chunk   int64 // first source offset of the open map chunk
	out     outflow
	sight   sight
	fetcher *fetcher // of the source leader; nil when unknown
	window  *window  // of the target leader; nil when unknown
}

// become changes the state; callers hold mu.
func (p *pump) becomeLocked(s State, reason string, now time.Time) {
	if p.state != s {
		p.since = now
	}
	p.state, p.reason = s, reason
	if s == StateRunning {
		p.nextTry = time.Time{}
	}
}

// want returns what the fetcher shall ask for next, or false while the pump takes
// nothing, or nothing from this fetcher any longer.
func (p *pump) want(f *fetcher) (broker.FetchPartition, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fetcher != f || !p.wantsLocked() {
		return broker.FetchPartition{}, false
	}
	return broker.FetchPartition{
		Topic: p.id.Topic, TopicID: p.acked.SourceTopicID, Partition: p.id.Partition,
		Offset: p.fetchAt, LeaderEpoch: -1, LastFetchedEpoch: p.sight.epoch,
		LogStart: -1, MaxBytes: p.link.cfg.FetchPartitionBytes,
	}, true
}

// wantsLocked reports whether the pump takes something now: then it is in its fetcher's session.
func (p *pump) wantsLocked() bool {
	return p.state == StateRunning && p.out.poison == nil && p.out.bytes < p.link.cfg.PumpBytes
}

// seenLocked is when the source last answered for the partition. An incremental answer leaves out what has not changed since
// the last one (KIP-227), so any answer of the session speaks for all partitions in it.
func (p *pump) seenLocked() time.Time {
	if p.fetcher != nil && p.wantsLocked() {
		if at := p.fetcher.answered.Load(); at != nil && at.After(p.sight.at) {
			return *at
		}
	}
	return p.sight.at
}

// offer hands the pump one partition of a fetch answer that was asked for at
// offset asked. Batches that go on keep the frame.
func (p *pump) offer(f *broker.Fetched, asked int64, h *held, now time.Time) {
	if f.Err != nil {
		p.sourceError(f, now)
		return
	}
	p.mu.Lock()
	p.seeLocked(f, now)
	stale := p.state != StateRunning || p.fetchAt != asked
	if !stale && f.DivergingEnd >= 0 { // such an answer holds no batches
		p.drainLocked(fmt.Sprintf("the source's log of epoch %d ends at offset %d, below our %d", f.DivergingEpoch, f.DivergingEnd, asked), now)
		stale = true
	}
	p.mu.Unlock()
	if stale || len(f.Batches) == 0 {
		return
	}
	var out []*outBatch
	next, epoch := asked, int32(-1)
	err := p.flow.walk(f, asked, func(s *sourceBatch) error {
		if s.act != actSkip {
			bs, err := prepare(s, h, p.flow.limits().maxBytes, p.link.cfg.DecodeBytes, now)
			if err != nil {
				return err
			}
			out = append(out, bs...)
		}
		p.link.metrics.decided(p, s)
		if s.forged && s.why != whyBelow {
			p.flow.report(p, s)
		}
		next, epoch = max(next, s.header.NextOffset()), s.header.LeaderEpoch
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateRunning || p.fetchAt != asked {
		for _, b := range out {
			b.release()
		}
		return
	}
	for _, b := range out {
		b.pump = p
		p.out.bytes += int64(len(b.bytes))
	}
	p.out.queue = append(p.out.queue, out...)
	if next > asked {
		p.fetchAt = next
		p.sight.epoch = epoch
	}
	p.out.poison = err
	p.settleLocked(now)
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// settleLocked moves the acknowledged position over what was skipped when
// nothing is left to be acknowledged, and halts before what cannot be copied.
func (p *pump) settleLocked(now time.Time) {
	if len(p.out.queue) > 0 || len(p.out.inflight) > 0 {
		return
	}
	if p.fetchAt > p.acked.SourceNext {
		p.acked.SourceNext, p.acked.SourceEpoch = p.fetchAt, p.sight.epoch
		p.safe, p.dirty = p.acked.clone(), true
	}
	if p.out.poison != nil {
		p.poisonLocked(p.out.poison, now)
	}
}

func (p *pump) seeLocked(f *broker.Fetched, now time.Time) {
	s := &p.sight
	s.highWatermark, s.logStart, s.stable, s.at = f.HighWatermark, f.LogStart, f.LastStableOffset, now
	p.markLocked(now)
}

// markLocked keeps the times at which the head of the source was seen, so that
// lag in seconds is the age of the oldest record not yet acknowledged.
func (p *pump) markLocked(now time.Time) {
	s := &p.sight
	for len(s.marks) > 0 && s.marks[0].head <= p.acked.SourceNext {
		s.marks = s.marks[1:]
	}
	n := len(s.marks)
	switch {
	case s.highWatermark <= p.acked.SourceNext:
	case n == 0:
		s.marks = append(s.marks, sightMark{s.highWatermark, now})
	case s.highWatermark > s.marks[n-1].head && now.Sub(s.marks[n-1].at) >= 200*time.Millisecond && n < 256:
		s.marks = append(s.marks, sightMark{s.highWatermark, now})
	}
}

// next gives the window the batch to send now, stamped, or nil.
func (p *pump) next(w *window, now time.Time) *outBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.listed == w {
		p.out.listed = nil
	}
	if p.window != w || p.state != StateRunning || len(p.out.queue) == 0 {
		return nil
	}
	head, flying := p.out.queue[0], len(p.out.inflight)
	if flying > 0 {
		last := p.out.inflight[flying-1]
		old := p.link.mayBeForgotten(min(head.maxTime, last.maxTime), now)
		if p.out.solo || old || flying >= pumpInFlight || last.origin != head.origin {
			return nil
		}
	} else if now.Sub(p.out.proved) > staleAfter {
		p.out.keep = true
		p.findLocked("idle: looking at the target before writing", 0, now)
		return nil
	}
	if most := p.flow.limits().latest(now); head.maxTime > most {
		if flying > 0 {
			return nil
		}
		p.poisonLocked(fmt.Errorf("record timestamp %d is later than the target topic takes (message.timestamp.after.max.ms)", head.maxTime), now)
		return nil
	}
	b, err := p.shiftLocked(now)
	if err != nil {
		p.poisonLocked(err, now)
		return nil
	}
	p.stampLocked(b)
	p.out.inflight = append(p.out.inflight, b)
	return b
}

// shiftLocked takes the head of the queue, merged with its neighbours where
// they join.
func (p *pump) shiftLocked(now time.Time) (*outBatch, error) {
	q := p.out.queue
	limits := p.flow.limits()
	n, bytes := 1, len(q[0].bytes)
	if bytes <= mergeBelow {
		for n < len(q) && joins(bytes, q[0].origin, q[n], limits.maxBytes) && q[n].maxTime <= limits.latest(now) {
			bytes += len(q[n].bytes)
			n++
		}
	}
	if n == 1 {
		b := q[0]
		p.out.queue = append(q[:0], q[1:]...)
		return b, nil
	}
	m, err := mergeGroup(q[:n], p.link.cfg.DecodeBytes)
	if err != nil {
		return nil, err
	}
	if limits.maxBytes > 0 && len(m.bytes) > limits.maxBytes {
		b := q[0]
		p.out.queue = append(q[:0], q[1:]...)
		return b, nil
	}
	for _, b := range q[:n] {
		p.out.bytes -= int64(len(b.bytes))
		b.release()
	}
	p.out.bytes += int64(len(m.bytes))
	p.out.queue = append(q[:0], q[n:]...)
	return m, nil
}

func (p *pump) stampLocked(b *outBatch) {
	lane := p.acked.lane(b.origin)
	if sent, ok := p.out.sent[b.origin]; ok {
		lane.Count = sent
	}
	b.generation, b.epoch, b.count = p.out.generation, lane.Epoch, lane.Count
	batch.Patch(b.bytes, batch.Stamp{ProducerID: p.link.producerID(b.origin), Epoch: lane.Epoch, Sequence: lane.sequence()})
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
	if p.state == StateRunning {
		switch {
		case r.Err != nil:
			p.refusedLocked(b, r.Err, now)
		case duplicateAck(r):
			p.out.contended = true
			p.drainLocked("another owner wrote this batch first", now)
		case r.BaseOffset < p.acked.TargetFrom:
			p.drainLocked(fmt.Sprintf("acknowledged at target offset %d, before our last at %d", r.BaseOffset, p.acked.TargetLast), now)
		default:
			p.acceptLocked(b, r.BaseOffset, now)
		}
	}
	if p.state == StateDraining && len(p.out.inflight) == 0 {
		p.findLocked(p.reason, p.backoffLocked(), now)
	}
}

// duplicateAck tells an acknowledgement that repeats an earlier append: Kafka
// gives it a log append time although the topic is CreateTime; kfake gives it no
// log start. Equal sequences with other content are acknowledged so, too.
func duplicateAck(r broker.ProduceResult) bool {
	return r.LogAppendTime >= 0 || r.LogStart < 0
}

func (p *pump) acceptLocked(b *outBatch, base int64, now time.Time) {
	lane := p.acked.lane(b.origin)
	at, count := base, b.count
	for _, s := range b.spans {
		p.offsets.Add(Run{Source: s.first, Target: at, Records: s.records, Origin: b.origin, Epoch: b.epoch, Count: count})
		at, count = at+s.records, count+s.records
	}
	gap := p.out.solo && base > p.out.targetEnd
	if gap {
		p.out.examineFrom, p.out.examineTo = p.out.targetEnd, base
	}
	p.out.old, p.out.targetEnd = p.link.mayBeForgotten(b.maxTime, now), at
	lane.Count = count
	p.acked.setLane(lane)
	p.acked.SourceNext, p.acked.SourceEpoch = b.next, b.leader
	p.acked.TargetLast, p.acked.TargetFrom = at-1, at
	p.out.solo, p.out.refused, p.out.proved = p.out.old, 0, now
	p.attempts = 0
	if b.end {
		p.safe, p.dirty = p.acked.clone(), true
	}
	p.settleLocked(now)
	p.markLocked(now)
	p.link.metrics.copied(p, b, now)
	if p.state != StateRunning {
		return
	}
	if gap {
		p.out.keep = true
		p.findLocked("looking into what others wrote meanwhile", 0, now)
		return
	}
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
	p.fetcher.mark(p)
}

// refusedLocked begins the drain that an error makes necessary.
func (p *pump) refusedLocked(b *outBatch, err error, now time.Time) {
	p.link.metrics.failed(p, err)
	switch broker.Classify(err) {
	case broker.Refind:
		p.out.contended = true
		if p.out.solo {
			p.out.refused++
		}
	case broker.Pause, broker.Fatal:
		p.attempts = max(p.attempts, 4) // somebody has to act: begin with the longer waits
	}
	p.drainLocked(fmt.Sprintf("target refused records from source offset %d: %v", b.spans[0].first, err), now)
}

// drainLocked voids the queue and waits for what is in flight.
func (p *pump) drainLocked(reason string, now time.Time) {
	for _, b := range p.out.queue {
		p.out.bytes -= int64(len(b.bytes))
		b.release()
	}
	p.out.queue, p.out.poison, p.out.keep = p.out.queue[:0], nil, false
	p.becomeLocked(StateDraining, reason, now)
	if len(p.out.inflight) == 0 {
		p.findLocked(reason, p.backoffLocked(), now)
	}
}

// backoffLocked counts an attempt and returns how long to wait before the next:
// nothing at first, then doubling from 100 ms to 15 s with jitter.
func (p *pump) backoffLocked() time.Duration {
	p.attempts++
	if p.attempts == 1 {
		return 0
	}
	d := min(100*time.Millisecond<<min(p.attempts-2, 10), 15*time.Second)
	return p.link.jitter(d)
}

// findLocked puts the pump on the workers' agenda.
func (p *pump) findLocked(reason string, after time.Duration, now time.Time) {
	s := StateFinding
	if after > 0 {
		s, p.nextTry = StateRetrying, now.Add(after)
	}
	p.becomeLocked(s, reason, now)
	p.link.agenda.add(p, after)
}

// haltRecheck is how often a halted pump looks whether its cause is gone.
const haltRecheck = 30 * time.Second

// haltLocked stops the pump by name until somebody acts; it is looked at again slowly.
func (p *pump) haltLocked(name, detail string, now time.Time) {
	p.voidLocked()
	if p.state != StateHalted {
		p.link.log.Error("pump halted", "pump", p.id.String(), "state", name, "detail", detail)
	}
	p.becomeLocked(StateHalted, name+": "+detail, now)
	after := p.link.jitter(haltRecheck)
	p.nextTry = now.Add(after)
	p.link.agenda.add(p, after)
}

// poisonLocked halts for a record that cannot go to the target as things are.
func (p *pump) poisonLocked(err error, now time.Time) {
	name := "poison"
	var large *errTooLarge
	if errors.As(err, &large) {
		name = "too-large"
	}
	p.haltLocked(name, err.Error(), now)
}

// voidLocked drops everything between source and target; answers still to come
// belong to an older generation.
func (p *pump) voidLocked() {
	for _, b := range p.out.queue {
		b.release()
	}
	p.out.queue, p.out.inflight, p.out.bytes = p.out.queue[:0], p.out.inflight[:0], 0
	p.out.generation++
	p.out.poison, p.out.keep = nil, false
}

// sourceError handles an error of one partition in a fetch answer.
func (p *pump) sourceError(f *broker.Fetched, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateRunning {
		return
	}
	p.link.metrics.failed(p, f.Err)
	if c := broker.Classify(f.Err); c == broker.Pause || c == broker.Fatal {
		p.attempts = max(p.attempts, 4)
	}
	p.drainLocked(fmt.Sprintf("source answered at offset %d: %v", p.fetchAt, f.Err), now)
}
