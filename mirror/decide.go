package mirror

import (
	"github.com/isthmus-project/isthmus/broker/batch"
)

// action is what becomes of one source batch.
type action uint8

const (
	// actSkip: nothing of the batch goes to the target; its offsets are a hole.
	actSkip action = iota
	// actCopy: the batch goes as it is, only its header is patched.
	actCopy
	// actRebuild: it is decoded and encoded anew, because it has holes, must be
	// cut at its front, shows a time that only its header knows, would be packed anew
	// by the target, or has an old format.
	actRebuild
	// actSplit: it is decoded and written as several batches, because the
	// target takes no batch of its size.
	actSplit
)

func (a action) String() string {
	return [...]string{"skip", "copy", "rebuild", "split"}[a]
}

// why names the reason of a decision; it is a metric label.
type why string

const (
	whyBelow     why = "below"      // before the offset we resume at
	whyControl   why = "control"    // transaction marker
	whyAborted   why = "aborted"    // of an aborted transaction
	whyEmpty     why = "empty"      // all records compacted away
	whyElsewhere why = "elsewhere"  // its origin takes another route to the target: the loop filter
	whyWhole     why = "whole"      // dense, fits
	whyCut       why = "cut"        // resuming inside the batch
	whyAppend    why = "appendtime" // LogAppendTime: the visible time is in the header only
	whyHoles     why = "holes"      // compacted
	whyTooLarge  why = "too-large"  // over the target's max.message.bytes
	whyRecoded   why = "recoded"    // the target's compression.type is another
	whyOld       why = "old"        // message format v0 or v1, which brokers do not take
	whyOmitted   why = "left-out"   // by the policy for what cannot be copied, as the ledger says
	whyAround    why = "some-out"   // some of its records are
)

// view is everything the decision about one batch depends on.
type view struct {
	header   batch.Header
	from     int64 // first source offset that is still wanted
	carried  bool  // the batch's origin is routed over this link
	aborted  bool  // it belongs to an aborted transaction
	maxBytes int   // largest batch the target takes; 0 = unknown, no limit
	packing  packing
	omitted  omitted // of its offsets
}

// decide is the batch decision: pure, and the only place where it is made. The
// copying path and the counting path (finding a place) both go through it, so
// that both count the same records.
func decide(v view) (action, why) {
	h := v.header
	switch {
	case h.LastOffset() < v.from:
		return actSkip, whyBelow
	case h.Control():
		return actSkip, whyControl
	case v.aborted:
		return actSkip, whyAborted
	case h.Records == 0:
		return actSkip, whyEmpty
	case !v.carried:
		return actSkip, whyElsewhere
	case len(v.omitted) > 0 && v.omitted.covers(max(h.BaseOffset, v.from), h.LastOffset()):
		return actSkip, whyOmitted
	case v.packing.of(h) != h.Codec():
		// Its broker would pack it anew, and refuse what is over its limit only then:
		// nobody knows that size before.
		return actRebuild, whyRecoded
	case v.maxBytes > 0 && h.Size() > v.maxBytes:
		return actSplit, whyTooLarge
	case len(v.omitted) > 0:
		return actRebuild, whyAround
	case h.Magic < 2:
		return actRebuild, whyOld
	case h.BaseOffset < v.from:
		return actRebuild, whyCut
	case h.LogAppendTime():
		return actRebuild, whyAppend
	case !h.Dense():
		return actRebuild, whyHoles
	}
	return actCopy, whyWhole
}

// mergeBelow is the wire size under which a batch is small enough that its cost
// per batch outweighs decoding it: small neighbours are merged, because a
// broker takes one batch per partition and request.
const mergeBelow = 4 << 10

// mergeTarget is the wire size at which merging stops.
const mergeTarget = 64 << 10

// adjoins tells whether nothing lies between two batches at the source, no mark of a transaction and nothing that a cleaner took. A batch of both would have a hole where its
// copy has none: whoever knows its records by their offsets at the source cannot be shown it in one piece (router/relay).
func adjoins(b, next *outBatch) bool {
	if len(b.spans) == 0 || len(next.spans) == 0 {
		return false
	}
	last := b.spans[len(b.spans)-1]
	return last.first+last.records == next.spans[0].first
}

// joins decides whether the next queued batch is merged into a group of the
// given wire size: same origin, both small, and the result fits.
func joins(groupBytes int, groupOrigin string, next *outBatch, maxBytes int) bool {
	limit := mergeTarget
	if maxBytes > 0 {
		limit = min(limit, maxBytes/2)
	}
	return next.origin == groupOrigin && !next.alone && len(next.bytes) <= mergeBelow && groupBytes+len(next.bytes) <= limit
}

// abortedIn follows the aborted transactions of one fetch answer, as a
// read_committed consumer does (KIP-98): the list names each aborted
// transaction's first offset; it ends at its abort marker.
type abortedIn struct {
	pending []abortedTxn // ascending first offset
	active  map[int64]bool
}

type abortedTxn struct{ producerID, firstOffset int64 }

// batch reports whether the batch belongs to an aborted transaction. It must be
// asked about every batch of the answer, in order.
func (a *abortedIn) batch(h batch.Header, raw []byte) bool {
	for len(a.pending) > 0 && a.pending[0].firstOffset <= h.LastOffset() {
		if a.active == nil {
			a.active = make(map[int64]bool)
		}
		a.active[a.pending[0].producerID] = true
		a.pending = a.pending[1:]
	}
	if h.Control() {
		if commit, ok := batch.Control(raw); ok && !commit {
			delete(a.active, h.ProducerID)
		}
		return false
	}
	return h.Transactional() && a.active[h.ProducerID]
}
