package mirror

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

// Cause is one stable word for why a pump is not running, or what holds it back while it runs. The reason beside it is the same in a
// sentence, for people. It is empty of a pump that is well, and for the moments in which one finds its place for no bad reason.
type Cause string

// The causes. A pump that is halted has the name of what halted it.
const (
	CauseManual     Cause = "manual"             // somebody paused it
	CausePressure   Cause = "back-pressure"      // it runs; the target takes less than the source has
	CauseQuota      Cause = "quota"              // it runs; it has used up its rate
	CauseTopic      Cause = "waiting-for-topic"  // the topic, or the partition, is not as it has to be on one of the sides
	CauseLeader     Cause = "waiting-for-leader" // the partition has no leader on one of the sides, or another one
	CauseRights     Cause = "not-authorised"     // a right or a login is missing
	CauseSource     Cause = "source-error"       // the source cannot be reached, or answers with an error
	CauseTarget     Cause = "target-error"       // the target does so
	CauseOwner      Cause = "another-owner"      // another node copies this partition, or did a moment ago
	CauseRetention  Cause = "behind-retention"   // the source deleted what was not copied yet
	CauseSourceLost Cause = "truncated-source"   // the source lost what was copied
	CauseTargetLost Cause = "truncated-target"   // the target lost what it had acknowledged
	CauseRecreated  Cause = "recreated"          // a topic was deleted and created again
	CauseDeleted    Cause = "deleted"            // the source's topic is gone
	CauseUnanchored Cause = "unanchored"         // nothing tells where to go on
	CausePoison     Cause = "poison"             // a batch that cannot be read
	CauseLarge      Cause = "too-large"          // a record over the target's limit
	CauseLate       Cause = "too-late"           // a record whose time the target does not take
	CauseEarly      Cause = "too-early"          // a record whose time is too long ago for the target
	CauseNullKey    Cause = "null-key"           // a record without a key, for a compacted topic
	CauseOrder      Cause = "order-break"        // the target's log is not in our order
	CauseRoom       Cause = "near-retention"     // it runs, and the source is about to delete what is not copied yet
	CauseStuck      Cause = "stuck-transaction"  // it runs, and a transaction at the source does not end
	CauseRelay      Cause = "waiting-for-relay"  // the link that brought these records until now has not said where it stops
	CauseAudit      Cause = "audit-mismatch"     // it runs, and the target does not hold what was written
)

// Causes lists all causes.
var Causes = []Cause{CauseManual, CausePressure, CauseQuota, CauseTopic, CauseLeader, CauseRights, CauseSource, CauseTarget, CauseOwner,
	CauseRetention, CauseSourceLost, CauseTargetLost, CauseRecreated, CauseDeleted, CauseUnanchored, CausePoison, CauseLarge, CauseLate, CauseEarly,
	CauseNullKey, CauseOrder, CauseRoom, CauseStuck, CauseRelay, CauseAudit}

// sourceFault marks an error of the source where it is not told by where it was met.
type sourceFault struct{ err error }

func (e *sourceFault) Error() string { return e.err.Error() }
func (e *sourceFault) Unwrap() error { return e.err }

// atSource marks an error as the source's; nil stays nil.
func atSource(err error) error {
	if err == nil {
		return nil
	}
	return &sourceFault{err}
}

// causeOf says what an error is a case of; end is CauseSource or CauseTarget, by who gave it.
func causeOf(err error, end Cause) Cause {
	var source *sourceFault
	var halt *haltError
	switch {
	case errors.As(err, &halt):
		return Cause(halt.name)
	case broker.Forbidden(err):
		return CauseRights
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID), errors.Is(err, errNotTaken):
		return CauseTopic
	case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.LeaderNotAvailable), errors.Is(err, kerr.FencedLeaderEpoch),
		errors.Is(err, kerr.UnknownLeaderEpoch):
		return CauseLeader
	case errors.As(err, &source):
		return CauseSource
	}
	return end
}

// blockCauses are those of flows that are blocked, by name; the others wait for their topic.
var blockCauses = map[string]Cause{"source-topic": CauseSource, "source-configs": CauseSource, "target-topic": CauseTarget,
	"target-configs": CauseTarget, "state": CauseTarget, "begin": CauseTarget, "create-topic": CauseTarget}

// causeOfBlock says what a flow's block is a case of; because is the error behind it, if there is one.
func causeOfBlock(name string, because ...error) Cause {
	c, ok := blockCauses[name]
	if !ok {
		return CauseTopic
	}
	for _, err := range because {
		if err != nil {
			c = causeOf(err, c)
		}
	}
	return c
}

// pressureAfter is how long a batch has to wait for the target before that is called back-pressure.
const pressureAfter = time.Second

// causeLocked is what holds the pump back now; of one that runs, its waiting batches tell.
func (p *pump) causeLocked(now time.Time) Cause {
	if p.cause != "" || p.state != StateRunning {
		return p.cause
	}
	if p.audit.finding != nil {
		return CauseAudit
	}
	waits := func(list []*outBatch) bool { return len(list) > 0 && now.Sub(list[0].seen) > pressureAfter }
	if p.fetcher != nil && p.fetcher.down.Load() {
		return CauseSource
	}
	if p.stuckLocked() {
		return CauseStuck
	}
	if p.shortLocked() {
		return CauseRoom
	}
	if p.limitedLocked(now) && p.sight.highWatermark > p.fetchAt {
		return CauseQuota
	}
	if waits(p.out.inflight) || waits(p.out.queue) {
		return CausePressure
	}
	return ""
}
