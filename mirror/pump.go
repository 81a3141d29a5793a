package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// want returns what the fetcher shall ask for next, or false while the pump takes
// nothing, or nothing from this fetcher any longer.
func (p *pump) want(f *fetcher) (broker.FetchPartition, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fetcher != f || !p.wantsLocked() {
		return broker.FetchPartition{}, false
	}
	most := p.link.cfg.FetchPartitionBytes
	if p.window != nil && p.window.slow.Load() {
		most = min(most, slowPumpBytes)
	}
	if rate := p.flow.rate(); rate > 0 { // so that waits are short
		most = min(most, max(16<<10, int32(min(rate/4, float64(most)))))
	}
	return broker.FetchPartition{
		Topic: p.id.Topic, TopicID: p.acked.SourceTopicID, Partition: p.id.Partition,
		Offset: p.fetchAt, LeaderEpoch: -1, LastFetchedEpoch: p.sight.epoch,
		LogStart: -1, MaxBytes: most,
	}, true
}

// wantsLocked reports whether the pump takes something now: then it is in its fetcher's session.
func (p *pump) wantsLocked() bool {
	return p.readsLocked() && !p.out.full(p.link) && !p.crowdedLocked() && !p.limitedLocked(p.link.now())
}

// readsLocked is wantsLocked for a pump with room.
func (p *pump) readsLocked() bool {
	return p.takesLocked() && p.out.poison == nil && !p.movesLocked()
}

// takesLocked reports whether what the source says at fetchAt goes into the queue: the pump runs, or it has been handed
// over, and what it will send is read while its place is being confirmed.
func (p *pump) takesLocked() bool {
	return p.state == StateRunning || p.state == StateFinding && p.handed
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

// errEnough ends the walk over an answer whose batches become much larger on
// their way: the rest is asked for again.
var errEnough = errors.New("enough for now")

// offer hands the pump one partition of a fetch answer that was asked for at
// offset asked. Batches that go on keep the frame.
func (p *pump) offer(f *broker.Fetched, asked int64, h *held, now time.Time) {
	if f.Err != nil {
		p.sourceError(f, now)
		return
	}
	p.mu.Lock()
	if p.sentNearLocked(f, now) {
		p.mu.Unlock()
		return
	}
	p.seeLocked(f, now)
	stale := !p.takesLocked() || p.fetchAt != asked
	stale = stale || p.otherLogLocked(f, asked, now)
	if !stale && len(f.Batches) == 0 {
		p.retrackLocked(now)
	}
	suspect, routes := p.out.suspect, p.link.routing()
	p.mu.Unlock()
	if stale || len(f.Batches) == 0 {
		return
	}
	var out []*outBatch
	var bytes int64
	next, epoch, bound := asked, int32(-1), p.flow.tailBound(p.id.Partition)
	err := p.flow.walk(f, asked, func(s *sourceBatch) error {
		if s.header.LastOffset() >= bound {
			return errTail
		}
		if s.act != actSkip {
			if bytes >= p.link.cfg.PumpBytes {
				return errEnough
			}
			s.suspect = suspect.about(s.header)
			bs, err := prepare(s, h, p.flow.limits().maxBytes, p.link.cfg.DecodeBytes, now)
			if err != nil {
				return err
			}
			for _, b := range bs {
				bytes += int64(len(b.bytes))
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
	if !p.takesLocked() || p.fetchAt != asked || p.link.routing() != routes { // by which routes it was judged nobody can say: it is asked for again
		for _, b := range out {
			b.release()
		}
		return
	}
	p.enqueueLocked(out)
	if next > asked {
		p.fetchAt = next
		p.sight.epoch = epoch
		p.sight.record = max(1, int64(len(f.Batches))/(next-asked))
	}
	switch {
	case errors.Is(err, errNotTaken) && p.state != StateRunning: // its search hears of it
	case errors.Is(err, errNotTaken):
		p.leaveLocked(&leaving{to: StateWaiting, cause: causeOf(err, CauseTopic), reason: err.Error()}, now)
		return
	case err != errEnough:
		p.out.poison = err
	}
	if p.state != StateRunning {
		return
	}
	p.settleLocked(now)
	p.retrackLocked(now)
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// otherLogLocked reports that an answer is not of the log that is being read, as far as the answer tells: its place is looked for.
func (p *pump) otherLogLocked(f *broker.Fetched, asked int64, now time.Time) bool {
	switch {
	case p.state != StateRunning:
		return false
	case f.DivergingEnd >= 0: // such an answer holds no batches
		p.sight.leaveReplica()
		p.drainLocked(CauseSource, fmt.Sprintf("the source's log of epoch %d ends at offset %d, below our %d", f.DivergingEpoch, f.DivergingEnd, asked), now)
	case f.LogStart > asked: // what it holds would be taken for what comes next
		p.drainLocked(CauseRetention, fmt.Sprintf("the source's log begins at offset %d, behind our %d", f.LogStart, asked), now)
	default:
		return false
	}
	return true
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
	if errors.Is(p.out.poison, errTail) {
		p.drainLocked("", errTail.Error(), now)
	} else if err := cmp.Or(p.out.poison, p.verdictLocked()); err != nil {
		p.poisonLocked(err, now)
	}
}

func (p *pump) seeLocked(f *broker.Fetched, now time.Time) {
	s := &p.sight
	s.highWatermark, s.logStart, s.stable, s.at = f.HighWatermark, f.LogStart, f.LastStableOffset, now
	s.still.see(f.LastStableOffset, f.HighWatermark, now)
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

// sourceError handles an error of one partition in a fetch answer.
func (p *pump) sourceError(f *broker.Fetched, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateRunning {
		if p.handed { // it would be asked for again at once, and again, until the search ends: it reads on when it runs
			p.handed = false
			p.link.poke() // another may lead by now
		}
		return
	}
	p.link.metrics.failed(p, f.Err)
	if p.followsLocked() { // it may be behind, or no replica any more: the leader knows
		p.sight.leaveReplica()
		p.link.toLeaders(now)
		return
	}
	switch broker.Classify(f.Err) {
	case broker.Retry:
		p.link.poke()
	case broker.Pause, broker.Fatal:
		p.attempts = max(p.attempts, 4)
	}
	p.drainLocked(causeOf(f.Err, CauseSource), fmt.Sprintf("source answered at offset %d: %v", p.fetchAt, f.Err), now)
}
