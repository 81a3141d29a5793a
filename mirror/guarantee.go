package mirror

import (
	"strings"
	"sync/atomic"

	"github.com/isthmus-project/isthmus/broker"
)

// Guarantee is what a link promises about its copies, by what its target was
// seen to do. It is found out once, when the link starts (see probe).
type Guarantee string

// The guarantees of a link.
const (
	// GuaranteeUnknown: the target was not probed yet. Nothing is copied meanwhile.
	GuaranteeUnknown Guarantee = "unknown"
	// GuaranteeExactlyOnce: the target keeps the lock; each record is there once.
	GuaranteeExactlyOnce Guarantee = "exactly-once"
	// GuaranteeAtLeastOnce: the target does not keep the lock. Nothing is lost; what
	// was in flight at a crash, or two owners of one partition, may double records.
	GuaranteeAtLeastOnce Guarantee = "at-least-once"
	// GuaranteeUnproven: the target did not let itself be probed. The link works as
	// for exactly-once, which Apache Kafka has kept in every release tried.
	GuaranteeUnproven Guarantee = "unproven"
)

// Guarantees lists all of them, for metrics.
var Guarantees = []Guarantee{GuaranteeUnknown, GuaranteeExactlyOnce, GuaranteeAtLeastOnce, GuaranteeUnproven}

// The sequences that a probe writes with.
const (
	probeFirst = int32(1000) // of the first batch: above 0, although the id is unknown
	probeGap   = 10          // so far ahead is the batch that must be refused
)

// observation is what a target answered to the steps of a probe, and what its log
// holds afterwards.
type observation struct {
	anyFirst bool // the first batch of an unknown id was taken above sequence 0
	first    reply
	repeat   reply // the first batch once more
	gap      reply // a batch that leaves sequences out
	bump     reply // the next epoch, from sequence 0
	zombie   reply // the old epoch's next sequence
	mum      bool  // nothing is told of the id when asked
	log      []probed
}

// reply is one answer: refused, or at a base offset.
type reply struct {
	err       error
	base      int64
	duplicate bool // marked as the acknowledgement of an earlier append
}

// probed is one batch under the probe's id, as it was read back.
type probed struct {
	epoch    int16
	sequence int32
}

// capabilities is what the lock may rely on.
type capabilities struct {
	foreign  bool // takes producer ids that it did not allocate
	keepsIDs bool // and stores them
	repeats  bool // a repeated batch is not stored again
	gaps     bool // a batch that does not follow is refused
	fences   bool // an older epoch is refused
	marked   bool // the acknowledgement of a repeated batch can be told
	blind    bool // every acknowledgement looks like a repeated batch's
	mum      bool // does not tell which ids it knows
	anyFirst bool // an unknown id may begin above sequence 0; else a new epoch has to
}

// acks is what a target's acknowledgements, and its answers about ids, are worth, for the hot path.
type acks struct {
	mum      atomic.Bool // nothing is told of ids
	unmarked atomic.Bool // a repeated batch's looks like any other
	blind    atomic.Bool // every one looks like a repeated batch's
}

// judge draws the conclusion of a probe. Where ids are not kept the log says
// nothing, and the answers have to do.
func (o observation) judge() capabilities {
	c := capabilities{foreign: o.first.err == nil, anyFirst: o.anyFirst, mum: o.mum, keepsIDs: len(o.log) > 0}
	if !c.foreign {
		return capabilities{}
	}
	count := func(epoch int16, sequence int32) (n int) {
		for _, b := range o.log {
			if b.epoch == epoch && b.sequence == sequence {
				n++
			}
		}
		return n
	}
	first := probeFirst
	if !o.anyFirst {
		first = 0
	}
	c.repeats = o.repeat.err != nil || o.repeat.base == o.first.base
	c.gaps, c.fences = o.gap.err != nil, o.bump.err == nil && o.zombie.err != nil
	if c.keepsIDs {
		c.repeats = c.repeats && count(0, first) == 1
		c.gaps = c.gaps && count(0, first+probeGap) == 0
		c.fences = c.fences && count(0, first+1) == 0 && count(1, 0) == 1
	}
	c.blind = o.first.duplicate || o.bump.duplicate
	c.marked = c.repeats && (o.repeat.err != nil || o.repeat.duplicate && !c.blind)
	return c
}

// guarantee is the promise that follows, and why it is not the best one.
func (c capabilities) guarantee() (Guarantee, string) {
	var missing []string
	for _, m := range []struct {
		has  bool
		what string
	}{
		{c.foreign, "refuses producer ids that it did not allocate"},
		{c.keepsIDs || !c.foreign, "does not keep the producer ids of batches"},
		{c.repeats || !c.foreign, "stores a repeated batch again"},
		{c.gaps || !c.foreign, "takes a batch that leaves sequence numbers out"},
		{c.fences || !c.foreign, "takes batches of an older producer epoch"},
	} {
		if !m.has {
			missing = append(missing, m.what)
		}
	}
	if len(missing) == 0 {
		return GuaranteeExactlyOnce, ""
	}
	return GuaranteeAtLeastOnce, "the target " + strings.Join(missing, ", ")
}

// replyOf reads one answer of the target.
func replyOf(r broker.ProduceResult) reply {
	if r.Err != nil {
		return reply{err: r.Err, base: -1}
	}
	return reply{base: r.BaseOffset, duplicate: duplicateAck(r)}
}
