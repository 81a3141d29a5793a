package mirror

import (
	"sync"
	"time"
)

// State is what a pump is doing. Every state but running has a reason.
//
//	          refresh knows both ends         place found
//	waiting ─────────────────────────▶ finding ─────────▶ running
//	   ▲                                ▲ ▲  │ nobody's      │ any error, a
//	   │ topic or                       │ │  │ guess        │ duplicate's ack, an
//	   │ leader gone      back-off over │ │  ▼              │ ack to be read back
//	   │                                │ │ halted          ▼
//	   └─────────────────── retrying ◀──┼─┴──────────── draining
//	                                    │ look again       │ another owner
//	                                 yielded ◀─────────────┘ writes
//
// Draining waits for the answers in flight; nothing is sent meanwhile. A running pump with nothing in flight goes straight
// to finding: after a long silence, and when others wrote before an acknowledged batch.
//
// Two states are for pumps that are not to copy. They are reached from every other one, from running by way of draining:
//
//	            asked for by its new owner, or              the view says: this node's;
//	            not copying, and the view says: another's   the owner before has let go
//	any state ────────────────────────────────────▶ elsewhere ─────────────────▶ waiting
//	any state ────────────────────────────────────▶ paused    ─────────────────▶ finding
//	            somebody paused it                              resumed
//
// A pump that goes elsewhere leaves an empty one in its place, which has no queue, map or position: those are in the
// store, from where they come when it is this node's again. See direct.go for what sends pumps there.
type State string

// The states of a pump.
const (
	StateWaiting   State = "waiting"   // for a topic, a leader, a checkpoint to begin with, or the owner before
	StateFinding   State = "finding"   // finding its place on the target
	StateRunning   State = "running"   // copying, or caught up
	StateDraining  State = "draining"  // waiting for answers in flight before finding its place, or before it stops
	StateRetrying  State = "retrying"  // backing off after an error; heals by itself
	StateYielded   State = "yielded"   // another owner copies this partition; watching it
	StateHalted    State = "halted"    // needs somebody; checked again slowly
	StateElsewhere State = "elsewhere" // another node owns it
	StatePaused    State = "paused"    // somebody paused it
)

// States lists all states, for metrics. Pumps that are elsewhere have no metrics here.
var States = []State{StateWaiting, StateFinding, StateRunning, StateDraining, StateRetrying, StateYielded, StateHalted, StatePaused}

const (
	pumpInFlight = 5               // batches of one pump on the wire: the duplicate window of a broker (KIP-98)
	staleAfter   = 2 * time.Second // an owner idle for longer finds its place before it writes
	// doubtAfter is staleAfter for a batch that the broker might take from anybody, because it
	// may have forgotten the id: the longer nobody looks, the more may another owner have written.
	doubtAfter = 20 * time.Millisecond
)

// condition is a pump's state with everything a person asks about it.
type condition struct {
	state    State
	cause    Cause
	reason   string
	since    time.Time
	attempts int
	alarm
	ill     illness
	lines   telling
	working bool     // a worker is finding its place
	fenced  int64    // how often another owner was found writing
	epochs  [2]int32 // leader epochs of source and target by the latest metadata
	meter   meter
}

// alarm is when a pump that is not running is looked at again.
type alarm struct {
	nextTry time.Time
	futile  bool // its time came, and nothing could have come of a try: see mayResume
	told    bool // somebody wants a try, whatever is known
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
	asked      time.Time        // when that was asked: the batch was sent, the search begun
	looks      int              // at the target since the last acknowledgement
	targetEnd  int64            // target's end when the place was found: a later gap is looked into
	ranks
	doubt
	trial
}

// ranks are what windows know a pump by.
type ranks struct {
	listed  *window // whose list it is in; nil = none
	ticket  uint64  // of its latest listing
	charged int64   // bytes it sent while the way was narrow; see turns
}

// doubt is what the next look at the place has to know.
type doubt struct {
	keep        bool  // the queue survives this look
	contended   bool  // the cause is another owner
	verify      bool  // the last batch was acknowledged, and has to be read back before it counts
	refused     int   // solo batches refused in a row without anybody's progress
	examineFrom int64 // own batches in [examineFrom, examineTo) would be another's; -1 none
	examineTo   int64
	before      Checkpoint // the place without the batch that was acknowledged behind them
	end         bool       // that batch ended a source batch
}

// sight is what we have seen of the source, by our own clock.
type sight struct {
	highWatermark, logStart, stable int64
	epoch                           int32       // leader epoch of the batch before fetchAt, -1 unknown
	record                          int64       // bytes of one in the last answer that had any; 0 unknown
	at                              time.Time   // last answer of the source
	marks                           []sightMark // head positions not yet reached, oldest first
	still                           stillness
	room                            prospect
	near
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
	duty
	acked   Checkpoint // progress that the target has acknowledged
	safe    Checkpoint // the last acked one at the end of a source batch
	dirty   bool       // safe is newer than what is durable
	fetchAt int64      // next source offset to read
	mapping
	out   outflow
	sight sight
	way   succeeding
	ends
}

// mapping is a pump's offset map, and what of it is durable.
type mapping struct {
	offsets OffsetMap
	unread  error // why what is durable of the map is not all in it
	chunk   int64 // first source offset of the open map chunk
	clients clientBook
	tending
}

// ends are who reads for a pump, who writes, and what is to be read back of that.
type ends struct {
	fetcher *fetcher // of the source leader; nil when unknown
	window  *window  // of the target leader; nil when unknown
	track   track    // both are of
	passing
}

// passing is what a pump knows of tails, by their keys.
type passing struct {
	noTail    map[string]bool      // the source has nothing of them
	tailSince map[string]time.Time // since when it waits for another link's decision
	audit     auditing
}

// becomeLocked changes the state; callers hold mu.
func (p *pump) becomeLocked(s State, c Cause, reason string, now time.Time) {
	if p.state != s {
		p.since = now
	}
	p.state, p.cause, p.reason = s, c, reason
	p.ill.meet(s, c, now)
	if s == StateRunning {
		p.alarm = alarm{}
	}
}

// drainLocked voids the queue and waits for what is in flight.
func (p *pump) drainLocked(c Cause, reason string, now time.Time) {
	p.dropQueueLocked()
	p.becomeLocked(StateDraining, c, reason, now)
	p.drainedLocked(now)
}

// drainedLocked goes on when nothing is in flight any more: where the pump has to go, or to its place.
func (p *pump) drainedLocked(now time.Time) {
	switch {
	case p.state != StateDraining || len(p.out.inflight) > 0:
	case p.leaving != nil:
		p.leftLocked(now)
	default:
		p.findLocked(p.cause, p.reason, p.backoffLocked(), now)
	}
}

// backoffLocked counts an attempt and returns how long to wait before the next: nothing at first, then by what is wrong, with jitter.
func (p *pump) backoffLocked() time.Duration {
	p.attempts++
	if p.attempts == 1 {
		return 0
	}
	return p.link.jitter(waitsFor(p.cause).after(p.attempts - 1))
}

// findLocked puts the pump on the workers' agenda.
func (p *pump) findLocked(c Cause, reason string, after time.Duration, now time.Time) {
	s := StateFinding
	if after > 0 {
		s = StateRetrying
	}
	p.becomeLocked(s, c, reason, now)
	if after == 0 && p.handed {
		p.link.shared.hand.look(p)
		return
	}
	p.laterLocked(after, now)
}

// haltLocked stops the pump by name until somebody acts; it is looked at again slowly.
func (p *pump) haltLocked(name, detail string, now time.Time) {
	p.voidLocked()
	if p.state != StateHalted {
		if left, ok := p.lines.next(now); ok {
			p.link.log.Error("pump halted", "pump", p.id.String(), "state", name, "detail", detail, "left_out", left)
		}
	}
	p.becomeLocked(StateHalted, Cause(name), name+": "+detail, now)
	p.attempts++
	p.laterLocked(p.link.jitter(haltWaits.after(p.attempts)), now)
}

// voidLocked drops everything between source and target; answers still to come
// belong to an older generation.
func (p *pump) voidLocked() {
	for _, b := range p.out.queue {
		b.release()
	}
	p.out.queue, p.out.inflight, p.out.bytes = p.out.queue[:0], p.out.inflight[:0], 0
	p.out.generation++
	p.out.poison, p.out.bad, p.out.keep, p.handed = nil, nil, false, false
}

// leftOff is the source offset up to which the map knows what was copied of an origin, in an epoch and before, to before a target offset.
func (p *pump) leftOff(origin string, epoch int16, target int64) (next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.offsets.within(0, func(e *extent) (bool, bool) { return e.from[byTarget] < target, false }) {
		if r.Origin == origin && r.Epoch <= epoch && r.Target < target {
			next = max(next, r.Source+min(r.Records, target-r.Target)) // whatever is greater than the run may be as great as there is
		}
	}
	return next
}

// counted says where the records of an origin that were counted from, up to and without to, come from: by the map, and
// by runs that are not in it yet.
func (p *pump) counted(more []Run, origin string, from, to int64) []Run {
	p.mu.Lock()
	runs := p.offsets.counted(nil, origin, from, to) // of a large map it is a few
	p.mu.Unlock()
	return inSourceOrder(countedOf(runs, more, origin, from, to))
}
