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
}

// key makes entries idempotent: the same range for the same reason is one
// entry, whoever writes it and however often.
func (l LedgerEntry) key() []byte {
	return stateKey(kindLedger, l.Pump, string(l.Reason), fmt.Sprint(l.First))
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
	return e
}

func decodeLedgerEntry(p PumpID, b []byte) (LedgerEntry, error) {
	d := newDecoder(b)
	l := LedgerEntry{Link: d.str(), Pump: p, First: d.int(), Last: d.int(), Records: d.int(),
		Reason: Reason(d.str()), Detail: d.str(), At: time.UnixMilli(d.int()).UTC(), Writer: d.str()}
	if d.err != nil {
		return LedgerEntry{}, fmt.Errorf("decode ledger entry of %s: %w", p, d.err)
	}
	return l, nil
}
