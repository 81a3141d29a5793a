package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// Where a truncated log begins to be another one. A leader says only how long the epoch of our last record is in its log: if the epochs
// before it were cut too, what it names may be other records. So what lies right before the place is compared, and if need be before that.

// sourceLost finds what the source lost of what was read up to a checkpoint. suspect is what its leader says; nil: nothing is lost.
func (l *Link) sourceLost(ctx context.Context, p *pump, base Checkpoint, suspect, start int64) error {
	runs := p.runList()
	least := int64(math.MaxInt64)
	for _, r := range runs {
		least = min(least, r.Source)
	}
	at, err := lastCommon(max(min(least, suspect), min(start, suspect)), suspect, func(at int64) (bool, error) {
		return l.sameBefore(ctx, p, runs, at)
	})
	if err != nil || at >= base.SourceNext {
		return err
	}
	return orRecreated(ctx, l.from, base.SourceTopicID, p.id.Topic, &damage{at: at, halt: &haltError{"truncated-source", sourceLossText(at, base, mappedFrom(runs, at))}})
}

// sourceLossText names what the target has and the source has not.
func sourceLossText(at int64, base Checkpoint, m mapped) string {
	text := fmt.Sprintf("the source lost offsets %d to %d, which were mirrored", at, base.SourceNext-1)
	if m.records == 0 {
		return text + ": they held no records for the target"
	}
	return text + fmt.Sprintf(": the target has %d records of them, at its offsets %d to %d", m.records, m.to, m.until)
}

// sameBefore reports whether the last record that was copied from before a source offset is still the same at the source. What
// cannot be read any more proves nothing against it.
func (l *Link) sameBefore(ctx context.Context, p *pump, runs []Run, at int64) (bool, error) {
	source, target := int64(-1), int64(-1)
	for _, r := range runs {
		if last := min(at, r.sourceEnd()) - 1; last >= r.Source && last >= source {
			source, target = last, r.Target+last-r.Source
		}
	}
	if source < 0 {
		return true, nil
	}
	was, there, err := recordAt(ctx, l.to, p.id, target)
	if err != nil || !there {
		return true, err
	}
	is, there, err := recordAt(ctx, l.from, p.id, source)
	if err != nil || !there {
		return true, err
	}
	return batch.Equal(is, was), nil
}

// recordAt reads one record; not there: it is before the log's start, behind its end, or was cleaned.
func recordAt(ctx context.Context, c *broker.Cluster, p PumpID, at int64) (batch.Record, bool, error) {
	frame, err := c.FetchOnce(ctx, p.Topic, p.Partition, at, 1<<20, false)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return batch.Record{}, false, nil
	}
	if err != nil {
		return batch.Record{}, false, fmt.Errorf("read back offset %d: %w", at, err)
	}
	defer frame.Release()
	h, raw, _, err := batch.Next(frame.Partitions[0].Batches)
	var records []batch.Record
	switch {
	case errors.Is(err, batch.ErrMagic):
		_, records, _, _, err = batch.NextOld(frame.Partitions[0].Batches, finderDecodeBytes)
	case errors.Is(err, batch.ErrShort):
		return batch.Record{}, false, nil
	case err == nil && h.BaseOffset <= at:
		records, err = batch.Decode(raw, finderDecodeBytes)
	}
	if err != nil {
		return batch.Record{}, false, fmt.Errorf("read back offset %d: %w", at, err)
	}
	i := sort.Search(len(records), func(i int) bool { return records[i].Offset >= at })
	if i == len(records) || records[i].Offset != at {
		return batch.Record{}, false, nil
	}
	r := records[i] // in the frame, which is used again
	r.Key, r.Value, r.Headers = slices.Clone(r.Key), slices.Clone(r.Value), slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Key, r.Headers[i].Value = strings.Clone(r.Headers[i].Key), slices.Clone(r.Headers[i].Value)
	}
	return r, true, nil
}

// targetLost is the damage of a target that lost acknowledged records. suspect is what its leader says, or its end.
func (l *Link) targetLost(ctx context.Context, p *pump, base Checkpoint, suspect int64) error {
	runs := p.runList()
	least := int64(math.MaxInt64)
	for _, r := range runs {
		least = min(least, r.Target)
	}
	at, err := lastCommon(min(least, suspect), suspect, func(at int64) (bool, error) { return l.oursBefore(ctx, p, runs, at) })
	if err != nil {
		return err
	}
	return orRecreated(ctx, l.to, base.TargetTopicID, p.id.Target(), &damage{target: true, at: at, halt: &haltError{"truncated-target",
		fmt.Sprintf("the target holds what it was given up to offset %d, our last record was at %d: acknowledged records are gone there", at, base.TargetLast)}})
}

// oursBefore reports whether the last record that was written before a target offset is still there: by the headers, which say
// which records of ours a batch holds.
func (l *Link) oursBefore(ctx context.Context, p *pump, runs []Run, at int64) (bool, error) {
	var run Run
	last := int64(-1)
	for _, r := range runs {
		if t := min(at, r.targetEnd()) - 1; t >= r.Target && t >= last {
			run, last = r, t
		}
	}
	if last < 0 {
		return true, nil
	}
	frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, last, 1, false)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		start, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Earliest, false)
		return err == nil && last < start.Offset, err // retention took it, which says nothing
	}
	if err != nil {
		return false, fmt.Errorf("read back our batch at offset %d: %w", last, err)
	}
	defer frame.Release()
	h, err := batch.ParseHeader(frame.Partitions[0].Batches)
	if err != nil || h.BaseOffset > last {
		return false, nil
	}
	origin, ours := p.flow.wroteThis(h.ProducerID)
	if !ours || origin != run.Origin || h.ProducerEpoch != run.Epoch {
		return false, nil
	}
	lane := Lane{Origin: origin, Epoch: run.Epoch, Count: run.Count}
	if i, ok := l.store.incarnation(p.id, run.Epoch); ok && run.Epoch > 0 {
		lane.Base = i.base(origin)
	}
	return lane.countAt(h.BaseSequence)+last-h.BaseOffset == run.Count+last-run.Target, nil
}

// runList is the map as it is now.
func (p *pump) runList() []Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.list()
}
