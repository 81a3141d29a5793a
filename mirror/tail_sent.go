package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// What of a tail clients have sent again. All of it is pure.
//
// A client that never saw an acknowledgement sends its batches again, the oldest first, under the same epoch and sequences; only the salt of its id is another in each generation.
// At a home every batch of a producer follows the one before. So of a producer the sequences from the first to the last that a home's log has are all of them, and what has those in
// the tail is there.

// clientKey is a producer of a client over all generations.
type clientKey struct {
	client int64 // its id without salt
	epoch  int16
}

// sequences are those from first to last, which are neighbours.
type sequences struct{ first, last int32 }

// mostStretches is how many stretches are kept of a producer that began anew again and again.
const mostStretches = 8

// resent is what producers have written to homes that followed.
type resent map[clientKey][]sequences

// add notes a batch. Those of a producer come in their order; of a cleaned log some are missing between.
func (r resent) add(k clientKey, first, last int32) {
	all := r[k]
	if n := len(all); n > 0 && sequenceAhead(first, all[n-1].first) >= 0 {
		if sequenceAhead(last, all[n-1].last) > 0 {
			all[n-1].last = last
		}
		return
	}
	if len(all) < mostStretches {
		r[k] = append(all, sequences{first, last})
	}
}

// of is which records of a batch of n, which begins with a sequence, were sent again: from and up to without to, by their place in the batch. Only one stretch is told, the first.
func (r resent) of(k clientKey, first int32, n int64) (from, to int64) {
	for _, s := range r[k] {
		from, to = max(0, sequenceAhead(s.first, first)), min(n, sequenceAhead(s.last, first)+1)
		if from < to {
			return from, to
		}
	}
	return 0, 0
}

// tailBatch is a batch of a tail.
type tailBatch struct {
	first, last int64 // source offsets that are still to be decided
	base        int64 // source offset of its first record, which may lie before first
	records     int64
	client      clientKey
	sequence    int32 // of the record at base; -1: no router's client wrote it
}

// fate is what becomes of records of a tail.
type fate int

const (
	outDelivered fate = iota
	outUnsettled
	outAgain
	outDiverted
	outListed
	fates
)

var fateNames = [fates]string{"delivered", "unsettled", "sent-again", "diverted", "listed"}

// tailFate decides, and counts, batch by batch. Ranges of what is not copied are joined where they touch.
type tailFate struct {
	rest    fate // of what was not sent again
	again   resent
	settled func(clientKey, int32) bool // whether a home's log was read far enough for a sequence of a producer
	counts  [fates]int64
	ranges  []tailRange
	digest  hash.Hash
}

// tailRange is a stretch of source offsets that are not copied.
type tailRange struct {
	first, last int64
	records     int64
	out         fate
	digest      hash.Hash
}

// mostTailRanges bounds what the ledger gets of a tail. Behind that all is delivered.
const mostTailRanges = 4096

// take decides about a batch; raw is as it was read.
func (f *tailFate) take(b tailBatch, raw []byte) {
	f.digest.Write(raw)
	from, to := int64(0), int64(0)
	if b.sequence >= 0 {
		from, to = f.again.of(b.client, b.sequence, b.last-b.base+1)
	}
	from, to = max(b.base+from, b.first), min(b.base+to, b.last+1)
	if from >= to {
		from, to = b.last+1, b.last+1
	}
	gone := max(0, b.last-b.base+1-b.records) // it was cleaned; which of them are gone is not looked into
	put := func(first, end int64, o fate) {
		if first < end {
			f.put(first, end-1, max(0, end-first-gone), o, raw)
			gone = max(0, gone-(end-first))
		}
	}
	rest := f.rest
	if rest == outDelivered && b.sequence >= 0 && !f.settled(b.client, sequenceAfter(b.sequence, b.last-b.base)) {
		rest = outUnsettled
	}
	put(b.first, from, rest)
	put(from, to, outAgain)
	put(to, b.last+1, rest)
}

func (f *tailFate) put(first, last, records int64, o fate, raw []byte) {
	if o > outUnsettled && len(f.ranges) >= mostTailRanges && !f.joins(first, o) {
		o = outUnsettled
	}
	f.counts[o] += records
	if o <= outUnsettled {
		return
	}
	if !f.joins(first, o) {
		f.ranges = append(f.ranges, tailRange{first: first, out: o, digest: sha256.New()})
	}
	r := &f.ranges[len(f.ranges)-1]
	r.last, r.records = last, r.records+records
	r.digest.Write(raw)
}

// joins reports whether what begins at an offset goes on where the last range ends.
func (f *tailFate) joins(first int64, o fate) bool {
	n := len(f.ranges)
	return n > 0 && f.ranges[n-1].out == o && f.ranges[n-1].last+1 == first
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// sent reads what producers wrote in some batches of a home's log, from one offset up to and without another.
func (r resent) sent(clientOf func(int64) (int64, bool), raw []byte, from, end int64) (next int64, err error) {
	for next = from; len(raw) > 0; {
		h, _, rest, err := batch.Next(raw)
		if err != nil {
			if next > from {
				return next, nil // cut short, or an old one: it is asked for again, and then it is the first
			}
			return next, err
		}
		raw = rest
		if h.BaseOffset >= end {
			return end, nil
		}
		if id, ok := clientOf(h.ProducerID); ok && h.BaseOffset >= from && h.BaseSequence >= 0 && h.ProducerEpoch >= 0 {
			r.add(clientKey{id, h.ProducerEpoch}, h.BaseSequence, sequenceAfter(h.BaseSequence, int64(h.LastOffsetDelta)))
		}
		next = max(next, h.NextOffset())
	}
	return next, nil
}
