package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/broker/batch"
)

const (
	// maxCommitBatch bounds what one batch of the log of commits unpacks to. Coordinators write less than the topic's segment.bytes.
	maxCommitBatch = 128 << 20
	// commitsAtATime are handed over at a time.
	commitsAtATime = 4096
)

// damagedError is a batch that is not what its checksum says, or does not unpack. Read again, it may.
type damagedError struct {
	base int64
	err  error
}

func (e *damagedError) Error() string { return fmt.Sprintf("the batch at %d: %v", e.base, e.err) }
func (e *damagedError) Unwrap() error { return e.err }

// commitWalk goes over what an answer holds of one partition of the log of commits.
type commitWalk struct {
	next    int64 // first offset that is still wanted; moves on
	epoch   int32 // the leader epoch of the last batch; -1 none
	skip    int64 // the base offset of a batch that was damaged before, too: it is left out; -1 none
	aborted []Aborted
	open    map[int64]bool // producers whose transaction at this point is one that was aborted

	decoder *commitDecoder
	commits []Commit
	records int
	strange func(what string) // is told of each record and batch that cannot be read
}

// over hands over all commits of the answer, in order. The slice that hand gets is used again when it returns. An error of hand ends it
// and is returned as it is; any other is about the bytes.
func (w *commitWalk) over(f *Fetched, hand func([]Commit) error) error {
	w.aborted = slices.SortedFunc(slices.Values(f.Aborted), func(a, b Aborted) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	w.open, w.commits = make(map[int64]bool), w.commits[:0]
	first := w.next
	for rest := f.Batches; len(rest) > 0; {
		h, raw, after, err := batch.Next(rest)
		var records []batch.Record
		if errors.Is(err, batch.ErrMagic) { // of before Kafka 0.11
			h, records, raw, after, err = batch.NextOld(rest, maxCommitBatch)
		}
		if errors.Is(err, batch.ErrShort) && w.next > first {
			break // cut short by the size of the answer, which only the first batch is not
		}
		if err != nil {
			return errors.Join(fmt.Errorf("walk over the batches at %d: %w", w.next, err), w.flush(hand))
		}
		rest = after
		if err := w.batch(h, raw, records); err != nil {
			return errors.Join(err, w.flush(hand))
		}
		w.next, w.epoch = max(w.next, h.NextOffset()), h.LeaderEpoch
		if len(w.commits) >= commitsAtATime {
			if err := w.flush(hand); err != nil {
				return err
			}
		}
	}
	return w.flush(hand)
}

func (w *commitWalk) flush(hand func([]Commit) error) error {
	if len(w.commits) == 0 {
		return nil
	}
	some := w.commits
	w.commits = w.commits[:0]
	return hand(some)
}

// batch takes the commits of one batch, of which those of old formats are unpacked already.
func (w *commitWalk) batch(h batch.Header, raw []byte, records []batch.Record) error {
	if w.isAborted(h, raw) || h.Control() || h.LastOffset() < w.next {
		return nil
	}
	if h.BaseOffset == w.skip {
		w.strange("a damaged batch")
		return nil
	}
	if records == nil {
		var err error
		if records, err = batch.Decode(raw, maxCommitBatch); err != nil {
			return &damagedError{h.BaseOffset, err}
		}
	}
	for i := range records {
		if records[i].Offset < w.next {
			continue
		}
		w.records++
		c, strange, ok := w.decoder.decode(&records[i])
		if strange != "" {
			w.strange(strange)
		}
		if ok && !w.repeats(c) {
			w.commits = append(w.commits, c)
		}
	}
	return nil
}

// repeats reports whether c says of a group only what the one before it says: a rebalance writes many records.
func (w *commitWalk) repeats(c Commit) bool {
	if c.Kind != GroupChanged || len(w.commits) == 0 {
		return false
	}
	last := w.commits[len(w.commits)-1]
	return last.Kind == GroupChanged && last.Group == c.Group && last.Type == c.Type
}

// isAborted reports whether a batch is of an aborted transaction (KIP-98): the list has the first offset of each, and it ends at its
// marker. It must be asked about every batch, in order.
func (w *commitWalk) isAborted(h batch.Header, raw []byte) bool {
	for len(w.aborted) > 0 && w.aborted[0].FirstOffset <= h.LastOffset() {
		w.open[w.aborted[0].ProducerID] = true
		w.aborted = w.aborted[1:]
	}
	if h.Control() {
		if commit, ok := batch.Control(raw); ok && !commit {
			delete(w.open, h.ProducerID)
		}
		return false
	}
	return h.Transactional() && w.open[h.ProducerID]
}
