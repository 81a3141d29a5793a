package gate

import "github.com/isthmus-project/isthmus/broker/batch"

// Remembered is how many batches of a producer are remembered, as brokers do: clients have no more in flight.
const Remembered = 5

// Batch is what a header says of a produced batch.
type Batch struct {
	ID      int64 // as the client has it, without salt; negative if the producer is not idempotent
	Epoch   int16
	First   int32 // base sequence
	Records int32
	// Transactional batches are not gated: their ids are the home's.
	Transactional bool
}

// Of is the batch of a header that came from a client.
func Of(h batch.Header) Batch {
	return Batch{ID: h.ProducerID, Epoch: h.ProducerEpoch, First: h.BaseSequence, Records: h.Records, Transactional: h.Transactional()}
}

func (b Batch) last() int32 { return after(b.First, int64(b.Records)-1) }

// gated tells whether its order is kept by sequences at all. What is malformed is the home's to refuse.
func (b Batch) gated() bool {
	return b.ID >= 0 && !b.Transactional && b.Epoch >= 0 && b.First >= 0 && b.Records > 0
}

// Written is a batch that the left log has.
type Written struct {
	Epoch       int16
	First, Last int32 // sequences
	Base        int64 // virtual offset of the first record; -1 if nobody knows it
	Time        int64 // in milliseconds since 1970
}

// Producer is what is known of a producer in a partition when a generation has ended.
type Producer struct {
	ID    int64 // without salt
	Epoch int16 // the newest
	Last  int32 // last sequence of that epoch that is in the left log or was acknowledged; -1 for none
	Time  int64 // of its last batch, in milliseconds since 1970
	// Batches are its last ones, oldest first, at most Remembered; fewer or none if nobody knows them.
	Batches []Written
	// Unsure says that more than Last may have been acknowledged.
	Unsure bool
}

// Outcome is what becomes of a batch.
type Outcome int

// The outcomes.
const (
	// Forward sends it to the home.
	Forward Outcome = iota
	// Answer tells the client that it is written; the home does not see it.
	Answer
	// Close ends the client's connection, after what is answered was written: the client sends again what was not acknowledged.
	Close
)

// Reason says why.
type Reason int

// The reasons.
const (
	Ungated   Reason = iota // forward: no idempotent producer's, transactional, or malformed
	Unknown                 // forward: the left log did not know the producer
	Follows                 // forward: it is the next
	Begun                   // forward: it is next to one that was forwarded before it on this connection
	Open                    // forward: the home knows the producer, and looks itself
	NewEpoch                // forward: a new epoch begins
	LostTail                // forward: a gap that stayed, where it is not known what was acknowledged
	Repeated                // answer: it was written, and its offset is known
	Old                     // answer: it was written, and its offset is not known; success without one, or DUPLICATE_SEQUENCE_NUMBER
	Gap                     // close: one before it is missing
	EpochGap                // close: the beginning of its epoch is missing
	OldEpoch                // close: the producer has a newer epoch
	Straddles               // close: only a part of it was written
	reasons                 // how many there are
)

var reasonNames = [reasons]string{"ungated", "unknown", "follows", "begun", "open", "new-epoch", "lost-tail", "repeated", "old", "gap", "epoch-gap", "old-epoch", "straddles"}

// String is the name that metrics have.
func (r Reason) String() string {
	if r < 0 || r >= reasons {
		return "?"
	}
	return reasonNames[r]
}

// Reasons are all of them.
func Reasons() (all []Reason) {
	for r := range reasons {
		all = append(all, r)
	}
	return all
}

// Decision is what becomes of a batch, and why.
type Decision struct {
	Outcome Outcome
	Reason  Reason
	Base    int64 // virtual offset to answer with; -1 if there is none
}

func forward(r Reason) Decision { return Decision{Outcome: Forward, Reason: r, Base: -1} }
func closing(r Reason) Decision { return Decision{Outcome: Close, Reason: r, Base: -1} }

// Decide holds the first batch of a producer in a generation against what the left log knew of it; p is nil if it did not.
func Decide(p *Producer, b Batch) Decision {
	switch {
	case !b.gated():
		return forward(Ungated)
	case p == nil:
		return forward(Unknown)
	case b.Epoch > p.Epoch && b.First == 0:
		return forward(NewEpoch)
	case b.Epoch > p.Epoch:
		return closing(EpochGap)
	}
	if base, ok := p.written(b); ok && base >= 0 {
		return Decision{Outcome: Answer, Reason: Repeated, Base: base}
	} else if ok {
		return Decision{Outcome: Answer, Reason: Old, Base: -1}
	}
	if b.Epoch < p.Epoch {
		return closing(OldEpoch)
	}
	switch first := ahead(b.First, after(p.Last, 1)); {
	case first == 0:
		return forward(Follows)
	case first > 0 || p.Last < 0:
		return closing(Gap)
	case ahead(b.last(), p.Last) > 0:
		return closing(Straddles)
	}
	return Decision{Outcome: Answer, Reason: Old, Base: -1}
}

// written tells whether one of the remembered batches has all of this one, and at which virtual offset it begins there.
func (p *Producer) written(b Batch) (base int64, ok bool) {
	for _, w := range p.Batches {
		from := ahead(b.First, w.First)
		if w.Epoch != b.Epoch || from < 0 || ahead(b.last(), w.Last) > 0 || ahead(b.last(), b.First) < 0 {
			continue
		}
		if w.Base < 0 {
			return -1, true
		}
		return w.Base + from, true
	}
	return 0, false
}
