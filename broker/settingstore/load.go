package settingstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

const (
	fetchBytes = 4 << 20
	// maxBytes is how much of the changes is kept: a little more than gossip ever holds, so that a topic that somebody filled does
	// not fill this node.
	maxBytes = 2*gossip.MaxBytes + fetchBytes
	// maxFaults is how many records that cannot be read are named.
	maxFaults = 10
)

// ErrForeign is wrapped by the error of a record that is no change of this fabric's settings, or not the one that its key names.
var ErrForeign = errors.New("not a change of the settings")

// Load returns all changes in the topic, each once; none, if there is no topic. The error names the records that could not be read
// and wraps [gossip.ErrFormat] if one is of a newer version of Isthmus; the changes beside it are whole.
func (s *Store) Load(ctx context.Context) ([]gossip.Change, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errTimeout)
	defer cancel()
	m, err := s.c.Metadata(ctx, Topic)
	switch {
	case err != nil:
		return nil, loading(err)
	case errors.Is(m.Topics[Topic].Err, kerr.UnknownTopicOrPartition):
		return nil, nil
	}
	for {
		r := reading{cluster: s.c.Name(), seen: make(map[string]int)}
		err := r.all(ctx, s.c)
		if notYet(err) && wait(ctx) == nil {
			continue
		}
		return r.left(), errors.Join(loading(err), r.faults())
	}
}

// loading says whose error it is, and whether waiting mends it.
func loading(err error) error {
	switch {
	case err == nil:
		return nil
	case broker.Classify(err) >= broker.Pause:
		return fmt.Errorf("load settings: %w: %w", gossip.ErrNoSettings, err)
	}
	return fmt.Errorf("load settings: %w", err)
}

// reading is one pass over the topic.
type reading struct {
	cluster string
	changes []gossip.Change
	sizes   []int          // of changes; 0: it was taken away
	seen    map[string]int // where a version is in changes
	bytes   int
	errs    []error
	more    int // errors that are not named
}

// all reads from the start of the log to the end it has now.
func (r *reading) all(ctx context.Context, c *broker.Cluster) error {
	start, err := c.ListOffsets(ctx, Topic, 0, broker.Earliest, false)
	if err != nil {
		return err
	}
	end, err := c.ListOffsets(ctx, Topic, 0, broker.Latest, false)
	if err != nil {
		return err
	}
	for at := start.Offset; at < end.Offset; {
		frame, err := c.FetchOnce(ctx, Topic, 0, at, fetchBytes, false)
		if err != nil {
			return err
		}
		next, err := r.batches(at, frame.Partitions[0].Batches)
		frame.Release()
		if err != nil {
			return err
		}
		if next == at { // what is left was compacted away
			return nil
		}
		at = next
	}
	return nil
}

// batches reads what one answer holds from an offset on, and returns the offset behind it. A batch that is damaged is left out.
func (r *reading) batches(from int64, raw []byte) (next int64, err error) {
	for next = from; len(raw) > 0; {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return next, nil
		}
		if err != nil { // where it ends is not known either
			return next, fmt.Errorf("%s of cluster %s at offset %d: %w", Topic, r.cluster, next, err)
		}
		raw, next = rest, max(next, h.NextOffset())
		if h.Control() || h.Records == 0 || h.LastOffset() < from {
			continue
		}
		records, err := batch.Decode(one, fetchBytes+gossip.MaxChangeBytes)
		if err != nil {
			r.fault(h.BaseOffset, err)
			continue
		}
		for _, rec := range records {
			if rec.Offset >= from {
				if err := r.take(rec); err != nil {
					r.fault(rec.Offset, err)
				}
			}
		}
	}
	return next, nil
}

// left are the changes that were not taken away again.
func (r *reading) left() (changes []gossip.Change) {
	for i, c := range r.changes {
		if r.sizes[i] > 0 {
			changes = append(changes, c)
		}
	}
	return changes
}

// take keeps one change, or forgets one.
func (r *reading) take(rec batch.Record) error {
	at, seen := r.seen[string(rec.Key)]
	if rec.Value == nil {
		if seen {
			r.bytes -= r.sizes[at]
			r.changes[at], r.sizes[at] = gossip.Change{}, 0
			delete(r.seen, string(rec.Key))
		}
		return nil
	}
	c, rest, err := gossip.DecodeChange(rec.Value)
	switch {
	case errors.Is(err, gossip.ErrFormat):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrForeign, err)
	case len(rest) > 0:
		return fmt.Errorf("%w: %d bytes are behind the change", ErrForeign, len(rest))
	case string(rec.Key) != c.Version.String():
		return fmt.Errorf("%w: the key is %.100q, and the change has the version %v", ErrForeign, rec.Key, c.Version)
	case seen:
		return nil
	case r.bytes+len(rec.Value) > maxBytes:
		return fmt.Errorf("%w: the topic holds more than %d bytes of changes", gossip.ErrFull, maxBytes)
	}
	r.seen[string(rec.Key)] = len(r.changes)
	r.bytes += len(rec.Value)
	r.changes, r.sizes = append(r.changes, c), append(r.sizes, len(rec.Value))
	return nil
}

func (r *reading) fault(offset int64, err error) {
	if len(r.errs) == maxFaults {
		r.more++
		return
	}
	r.errs = append(r.errs, fmt.Errorf("%s of cluster %s: the record at offset %d is left out: %w", Topic, r.cluster, offset, err))
}

func (r *reading) faults() error {
	if r.more > 0 {
		return errors.Join(append(r.errs, fmt.Errorf("and %d more records", r.more))...)
	}
	return errors.Join(r.errs...)
}
