package mirror

import (
	"fmt"
	"time"
)

// Reason says why a range of source records is in the ledger.
type Reason string

const (
	// ReasonRetention: the source deleted the records before they were copied.
	ReasonRetention Reason = "behind-retention"
	// ReasonOrderBreak: the target's log does not hold our records in the order
	// or number that its own sequences promised.
	ReasonOrderBreak Reason = "order-break"
	// ReasonRepeated: records were written again by a new incarnation.
	ReasonRepeated Reason = "repeated"
	// ReasonForged: batches carry a producer id of this fabric that no link of
	// it writes; they were copied as ordinary client data.
	ReasonForged Reason = "forged-id"
	// ReasonTruncatedSource: the target has records that the source lost. Their offsets may be other records' there by now.
	ReasonTruncatedSource Reason = "truncated-source"
	// ReasonTruncatedTarget: the target lost records that it had acknowledged, and the source no longer has them.
	ReasonTruncatedTarget Reason = "truncated-target"
	// ReasonRecreated: behind this source offset the records are those of a topic that was created anew.
	ReasonRecreated Reason = "recreated"
	// ReasonDeadLetter: records that the target could not take are in its dead-letter topic instead.
	ReasonDeadLetter Reason = "dead-letter"
	// ReasonSkipped: records that the target could not take were left out.
	ReasonSkipped Reason = "skipped"
	// ReasonAnchored: somebody said where the pump goes on; the records of the range were left out by that.
	ReasonAnchored Reason = "anchored"
	// ReasonTail: a home of a router was lost with these records, which no link had copied when another cluster became home. Tail says what became of them.
	ReasonTail Reason = "tail"
	// ReasonTailAgain: records of a tail that a client had sent again to the new home; they are not copied.
	ReasonTailAgain Reason = "tail-sent-again"
	// ReasonTailDiverted: records of a tail that are in a topic of their own instead.
	ReasonTailDiverted Reason = "tail-diverted"
	// ReasonTailListed: records of a tail that are not copied.
	ReasonTailListed Reason = "tail-listed"
	// ReasonDeleted: the target's topic was deleted with all that was copied, because the source's was gone for long enough.
	ReasonDeleted Reason = "deleted"
)

// LedgerEntry is one range of source offsets that was not mirrored, or not as
// promised, and why. First and Last are inclusive. Records is -1 where the
// number cannot be known.
type LedgerEntry struct {
	Link    string
	Pump    PumpID
	First   int64
	Last    int64
	Records int64
	Reason  Reason
	Detail  string
	At      time.Time
	Writer  string
	// Policy is the setting of the link that had it done so; empty: none was asked.
	Policy string
	// Digest is of the range's source batches as they were read, in hex; empty: they were not read.
	Digest string
	// Tail is what became of a tail that the entry sums up; else nil.
	Tail *TailSum
	// log is the epoch in which the source's log that the offsets are of began: of the last anchor that cut it, 0 for none. Whatever has been cut
	// off since has other records there by now. leftLog: nothing is left of that log, on either side.
	log int16
}

// leftLog stands for a log that was deleted at the source and at the target.
const leftLog = -1

// key makes entries idempotent: the same range for the same reason is one
// entry, whoever writes it and however often. Where ranges that begin at the same place
// may end at different ones, none may hide another.
func (l LedgerEntry) key() []byte {
	at := fmt.Sprint(l.First)
	switch l.Reason {
	case ReasonRepeated, ReasonTruncatedSource, ReasonTruncatedTarget, ReasonRecreated, ReasonAnchored, ReasonDeadLetter, ReasonSkipped, ReasonDeleted,
		ReasonTailAgain, ReasonTailDiverted, ReasonTailListed:
		at = fmt.Sprintf("%d-%d", l.First, l.Last)
	}
	if l.Tail != nil {
		at = l.Tail.key()
	}
	switch { // what is said of one log must not hide what is said of another one
	case l.log > 0:
		at = fmt.Sprintf("%s/%d", at, l.log)
	case l.log < 0:
		at = fmt.Sprintf("%s/%d", at, -l.At.UnixMilli())
	}
	return stateKey(kindLedger, l.Pump, string(l.Reason), at)
}

func (l LedgerEntry) encode() []byte {
	e := encoder{formatVersion}
	e.str(l.Link)
	e.int(l.First)
	e.int(l.Last)
	e.int(l.Records)
	e.str(string(l.Reason))
	e.str(l.Detail)
	e.int(l.At.UnixMilli())
	e.str(l.Writer)
	// Older nodes do not have these, and leave alone what stands behind what they know.
	e.str(l.Policy)
	e.str(l.Digest)
	e.int(int64(l.log))
	if l.Tail != nil {
		l.Tail.encode(&e)
	}
	return e
}

func decodeLedgerEntry(p PumpID, b []byte) (LedgerEntry, error) {
	d := newDecoder(b)
	l := LedgerEntry{Link: d.str(), Pump: p, First: d.int(), Last: d.int(), Records: d.int(),
		Reason: Reason(d.str()), Detail: d.str(), At: time.UnixMilli(d.int()).UTC(), Writer: d.str()}
	if d.err == nil && len(d.b) > 0 { // an older node wrote none of them
		l.Policy, l.Digest, l.log = d.str(), d.str(), int16(d.int())
	}
	if d.err == nil && len(d.b) > 0 {
		l.Tail = decodeTailSum(d)
	}
	if d.err != nil {
		return LedgerEntry{}, fmt.Errorf("decode ledger entry of %s: %w", p, d.err)
	}
	return l, nil
}
