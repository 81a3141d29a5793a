package mirror

import (
	"slices"
	"strings"
	"time"
)

// LinkStatus is what one link does now.
type LinkStatus struct {
	Name, From, To string
	// Up is false while either end cannot be reached; Trouble says why and since
	// when.
	Up      bool
	Trouble string
	Since   time.Time
	// Guarantee is what the link promises, and GuaranteeWhy why it is not
	// exactly-once; empty when it is.
	Guarantee    Guarantee
	GuaranteeWhy string
	Flows        []FlowStatus
}

// FlowStatus is one topic of a link.
type FlowStatus struct {
	Topic   string // the source's
	As      string // its name on the target, where it has another; else empty
	Blocked string // why the whole topic does not run; empty = it runs
	Pumps   []PumpStatus
}

// PumpStatus is one partition of a flow. Offsets are those of the next record;
// -1 is unknown.
type PumpStatus struct {
	Partition  int32
	State      State
	Cause      Cause // one word for the reason; empty: it is well
	Reason     string
	Since      time.Time
	Attempts   int
	NextTry    time.Time // zero = none planned
	SourceNext int64     // everything before it is on the target or need not be
	SourceEnd  int64     // high watermark as last seen
	TargetLast int64     // target offset of the last record of ours
	ReadsFrom  int32     // the source broker that is read from, the leader or a near replica; -1 none yet
	Behind
	Runs          int   // of the offset map
	Fenced        int64 // how often another owner was found writing
	BufferedBytes int64
}

// Behind is how far a partition's copy is behind its source.
type Behind struct {
	LagRecords int64
	LagBytes   int64         // estimated from the mean size of the records copied
	Lag        time.Duration // age of the oldest record not yet mirrored, by our own clock
	SeenAgo    time.Duration // since the source last answered for this partition; -1 never
	// Headroom is how long it takes at least until the source's retention reaches what is not copied yet, and HeadroomBytes how much may be
	// written there until then; -1: nothing is waiting, no bound, or unknown.
	Headroom      time.Duration
	HeadroomBytes int64
	// Stuck: a transaction at the source that does not end holds the copy up; Reason names it.
	Stuck bool
}

// Status returns what the link does now.
func (l *Link) Status() LinkStatus {
	now := l.now()
	up, trouble, since := l.health()
	st := LinkStatus{Name: l.name, From: l.from.Name(), To: l.to.Name(), Up: up, Trouble: trouble, Since: since}
	st.Guarantee, st.GuaranteeWhy = l.promise()
	for _, f := range l.flowList() {
		lim := f.limits()
		fs := FlowStatus{Topic: f.topic, As: f.as}
		if lim.blockedName != "" {
			fs.Blocked = lim.blockedName + ": " + lim.blocked
		}
		for _, p := range f.pumpList() {
			fs.Pumps = append(fs.Pumps, p.status(now))
		}
		st.Flows = append(st.Flows, fs)
	}
	return st
}

func (p *pump) status(now time.Time) PumpStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := PumpStatus{
		Partition: p.id.Partition, State: p.state, Cause: p.causeLocked(now), Reason: p.reason, Since: p.sinceLocked(), Attempts: p.attempts,
		NextTry: p.nextTry, SourceNext: p.acked.SourceNext, SourceEnd: -1, TargetLast: p.acked.TargetLast,
		Runs: p.offsets.Len(), ReadsFrom: -1, Fenced: p.fenced, BufferedBytes: p.out.bytes, Behind: Behind{SeenAgo: -1, Headroom: -1, HeadroomBytes: -1},
	}
	if p.audit.finding != nil && st.Reason == "" {
		st.Reason = p.audit.finding.String()
	}
	if warned := p.warningLocked(); warned != "" {
		st.Reason = strings.Join(slices.DeleteFunc([]string{st.Reason, warned}, func(s string) bool { return s == "" }), "; ")
	}
	if r := p.sight.room; r.known {
		st.Headroom, st.HeadroomBytes = r.left, r.bytes
	}
	st.Stuck = p.stuckLocked()
	if p.fetcher != nil {
		st.ReadsFrom = p.fetcher.broker
	}
	if p.sight.at.IsZero() {
		return st
	}
	st.SourceEnd = p.sight.highWatermark
	st.SeenAgo = now.Sub(p.seenLocked())
	st.LagRecords = max(0, p.sight.highWatermark-p.acked.SourceNext)
	st.LagBytes = p.link.metrics.bytesOf(p.id.Topic, st.LagRecords)
	st.Lag = p.behindLocked(now)
	return st
}

// behindLocked is the age of the oldest record that was seen and is not mirrored yet.
func (p *pump) behindLocked(now time.Time) time.Duration {
	for _, m := range p.sight.marks {
		if m.head > p.acked.SourceNext {
			return now.Sub(m.at)
		}
	}
	return 0
}
