package mirror

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// VerifyRequest says what [Set.Verify] compares.
type VerifyRequest struct {
	Link       string
	Topic      string  // empty = every topic that the link copies
	Partitions []int32 // nil = all
	// From and To are source offsets: [From, To) is compared. -1 = all: from where either log begins, up to where the copy is now.
	From, To int64
	// ByteRate bounds what is read from each side, in bytes/s, so that copying does not starve. 0 = a quarter of the link's
	// byte_rate, or 32 MiB/s if it has none; -1 = no bound.
	ByteRate int64
}

// VerifyProgress is how far a verification is.
type VerifyProgress struct {
	Topic      string // that is compared now
	Partition  int32
	Done, Of   int     // partitions
	Records    int64   // proved identical so far, over all partitions
	Bytes      int64   // read from both sides
	Fraction   float64 // of the work, each partition alike; 0 to 1
	Difference bool    // one was found already
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Link       string
	Partitions []VerifiedPartition
	Records    int64 // proved identical
	Bytes      int64 // read from both sides
}

// Identical reports whether everything that was asked for was compared and no difference was found. What was declared or cannot
// be compared is in the partitions' notes.
func (r VerifyReport) Identical() bool {
	for _, p := range r.Partitions {
		if p.Difference != nil || p.Failed != "" {
			return false
		}
	}
	return true
}

// VerifiedPartition is what was found in one partition: source offsets [From, To) are proved identical, Records of them, up to the
// first difference.
type VerifiedPartition struct {
	Topic     string
	Partition int32
	From, To  int64
	// TargetFrom and TargetTo are the target offsets that were compared with it: [TargetFrom, TargetTo).
	TargetFrom, TargetTo int64
	Records              int64
	Bytes                int64 // read from both sides
	// Digest is of the proved range's batches as the source holds them: the same for whoever reads them until the source is cleaned.
	Digest     string
	Notes      []VerifyNote
	Difference *Difference
	Failed     string // why the partition could not be compared to the end; empty: it was
}

// VerifyNote is a range of source offsets, [From, To), of which something could not be compared, and why: the ledger declares
// it, it is no longer there, or it was not there yet.
type VerifyNote struct {
	From, To int64
	Records  int64 // -1 unknown
	Why      string
}

// Kinds of differences.
const (
	DifferenceMissing = "missing" // the target lacks a record of the source
	DifferenceDoubled = "doubled" // the target has a record of the source once more
	DifferenceSwapped = "swapped" // two records are in another order
	DifferenceChanged = "changed" // key, value, headers or timestamp are others
	DifferenceExtra   = "extra"   // the target has a record, written as this link's, that the source does not have
	DifferenceMapped  = "mapped"  // the records are the same, but the offset map says that they are elsewhere
)

// Difference is the first place at which the two logs are not the same.
type Difference struct {
	Kind           string
	Source, Target int64 // offsets of the two records; -1 where there is none
	Detail         string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: source offset %d, target offset %d: %s", d.Kind, d.Source, d.Target, d.Detail)
}

// Verify reads both sides of a link again and proves that they hold the same records in the same order, or names the first difference
// of each partition. It compares what the link copies by the routes of now, up to where the copy is when it begins. It tells its
// progress about once a second; said may be nil. It may be asked of any node that has the link, whoever copies. It ends with ctx and returns what it has. It
// returns [ErrNoLink] and [ErrUnknownPump]; what is wrong with one partition is in the report.
func (s *Set) Verify(ctx context.Context, r VerifyRequest, said func(VerifyProgress)) (VerifyReport, error) {
	report := VerifyReport{Link: r.Link}
	var link *running
	for _, l := range s.list() {
		if l.name == r.Link {
			link = l
		}
	}
	if link == nil {
		return report, fmt.Errorf("verify link %q: %w", r.Link, ErrNoLink)
	}
	if r.From < -1 || r.To < -1 || r.To >= 0 && r.From > r.To {
		return report, fmt.Errorf("verify link %q: source offsets %d to %d are no range; -1 is all", r.Link, r.From, r.To)
	}
	todo, err := link.toVerify(r)
	if err != nil {
		return report, err
	}
	pace := &pace{rate: r.rate(link.terms().ByteRate), now: link.now}
	progress := VerifyProgress{Of: len(todo)}
	var last time.Time
	for i, v := range todo {
		v.pace = pace
		v.tell = func(at float64, v *verifying) {
			now := link.now()
			if said == nil || now.Sub(last) < time.Second {
				return
			}
			last = now
			progress.Topic, progress.Partition, progress.Done = v.id.Topic, v.id.Partition, i
			progress.Records, progress.Bytes = report.Records+v.c.records, report.Bytes+v.out.Bytes
			progress.Fraction = (float64(i) + min(1, max(0, at))) / float64(len(todo))
			said(progress)
		}
		err := v.run(ctx, r)
		if err != nil {
			v.out.Failed = err.Error()
		} else if v.out.Difference == nil {
			v.proven()
		}
		report.Partitions = append(report.Partitions, v.out)
		report.Records, report.Bytes = report.Records+v.out.Records, report.Bytes+v.out.Bytes
		progress.Difference = progress.Difference || v.out.Difference != nil
		if ctx.Err() != nil {
			return report, fmt.Errorf("verify link %q: %w", r.Link, ctx.Err())
		}
	}
	if said != nil {
		said(VerifyProgress{Done: len(todo), Of: len(todo), Records: report.Records, Bytes: report.Bytes, Fraction: 1, Difference: progress.Difference})
	}
	return report, nil
}

// verifyRate is what is read of both sides together if nothing bounds the link, in bytes/s.
const verifyRate = 64 << 20

// rate is what may be read of both sides together, in bytes/s; 0 = no bound.
func (r VerifyRequest) rate(link int64) float64 {
	switch {
	case r.ByteRate > 0:
		return 2 * float64(r.ByteRate)
	case r.ByteRate < 0:
		return 0
	case link > 0:
		return float64(link) / 2
	}
	return verifyRate
}

// toVerify lists the partitions that are asked for, in order.
func (l *Link) toVerify(r VerifyRequest) (todo []*verifying, err error) {
	for _, f := range l.flowList() {
		if r.Topic != "" && f.topic != r.Topic {
			continue
		}
		n := len(f.pumpList())
		for i := range n {
			if len(r.Partitions) == 0 || slices.Contains(r.Partitions, int32(i)) {
				todo = append(todo, &verifying{link: l, flow: f, id: f.pumpID(int32(i))})
			}
		}
		for _, p := range r.Partitions {
			if r.Topic != "" && (p < 0 || int(p) >= n) {
				return nil, fmt.Errorf("verify link %q: partition %s:%d: %w", l.name, f.topic, p, ErrUnknownPump)
			}
		}
	}
	if r.Topic != "" && len(todo) == 0 {
		return nil, fmt.Errorf("verify link %q: topic %q: %w", l.name, r.Topic, ErrUnknownPump)
	}
	return todo, nil
}
