package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// whyLeftOut is what notes say of records that the link leaves out by its policy.
const whyLeftOut = "left out by policy, as the ledger says"

// walkSource gives what the link copies of an answer.
func (v *verifying) walkSource(got *broker.Fetched, from int64, take func(*sourceBatch)) (next int64, err error) {
	next = from
	err = v.flow.walk(got, from, func(s *sourceBatch) error {
		for _, o := range s.omitted {
			v.note(max(o.first, s.from), o.first+o.records-max(o.first, s.from), whyLeftOut)
		}
		if s.why == whyOmitted && len(s.omitted) == 0 {
			v.note(s.header.BaseOffset, int64(s.header.Records), whyLeftOut)
		}
		if next = max(next, s.header.NextOffset()); s.act != actSkip {
			take(s)
			v.sums.add(s)
		}
		return nil
	})
	return next, err
}

// walkTarget gives what the link wrote.
func (v *verifying) walkTarget(got *broker.Fetched, from int64, take func(*sourceBatch)) (next int64, err error) {
	next = from
	for raw := got.Batches; len(raw) > 0; {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrMagic) {
			h, _, one, rest, err = batch.NextOld(raw, finderDecodeBytes)
		}
		if errors.Is(err, batch.ErrShort) {
			break
		}
		if err != nil {
			return next, fmt.Errorf("read target after offset %d: %w", next, err)
		}
		raw = rest
		if origin, ours := v.flow.wroteThis(h.ProducerID); ours && h.NextOffset() > from {
			take(&sourceBatch{raw: one, header: h, act: actRebuild, origin: origin, from: from})
		}
		next = max(next, h.NextOffset())
	}
	return next, nil
}

// logReader reads the batches of one side that count.
type logReader struct {
	v         *verifying
	cluster   *broker.Cluster
	committed bool
	at, upTo  int64
	walk      func(got *broker.Fetched, from int64, take func(*sourceBatch)) (next int64, err error)
	frame     *broker.Frame
	list      []*sourceBatch
	failed    error // behind the list
}

func (r *logReader) close() {
	if r.frame != nil {
		r.frame.Release()
		r.frame = nil
	}
}

// next returns io.EOF at upTo. What it returned before is not to be used any longer.
func (r *logReader) next(ctx context.Context) (*sourceBatch, error) {
	for len(r.list) == 0 {
		if r.at >= r.upTo {
			return nil, io.EOF
		}
		if r.failed != nil {
			return nil, r.failed
		}
		if err := r.fetch(ctx); err != nil {
			return nil, err
		}
	}
	b := r.list[0]
	r.list = r.list[1:]
	if b.header.BaseOffset >= r.upTo {
		r.at, r.list = r.upTo, nil
		return nil, io.EOF
	}
	return b, nil
}

// fetch reads on.
func (r *logReader) fetch(ctx context.Context) error {
	v := r.v
	if err := v.pace.wait(ctx); err != nil {
		return err
	}
	r.close()
	v.sums.fold(v.c.next)
	frame, err := r.patient(ctx)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return r.overtaken(ctx, err)
	}
	if err != nil {
		return err
	}
	r.frame = frame
	got := &frame.Partitions[0]
	n := int64(len(got.Batches))
	v.out.Bytes += n
	v.pace.pay(n)
	next, err := r.walk(got, r.at, func(b *sourceBatch) { r.list = append(r.list, b) })
	if errors.Is(err, errPoison) {
		if end, why := v.c.declaredTo(next); why != "" {
			v.note(next, end-next, why)
			next, err = end, nil
		}
	}
	if err == nil && next == r.at {
		err = fmt.Errorf("%s answers nothing at offset %d although the copy is at %d", r.cluster.Name(), r.at, r.upTo)
	}
	r.at, r.failed = next, err
	if v.tell != nil {
		v.tell(float64(v.source.at-v.out.From)/float64(max(1, v.c.to-v.out.From)), v)
	}
	return nil
}

// How long a broker that does not answer is waited for.
const (
	verifyAttempts = 20
	verifyBackoff  = 500 * time.Millisecond
)

// patient waits for what heals by itself: a leader that moves, a broker that restarts.
func (r *logReader) patient(ctx context.Context) (*broker.Frame, error) {
	for attempt := 1; ; attempt++ {
		frame, err := r.cluster.FetchOnce(ctx, r.v.id.on(r.cluster.Name()), r.v.id.Partition, r.at, verifyBytes, r.committed)
		if err == nil || attempt == verifyAttempts || ctx.Err() != nil || broker.Classify(err) != broker.Retry || errors.Is(err, kerr.OffsetOutOfRange) {
			return frame, err
		}
		if err := sleep(ctx, verifyBackoff); err != nil {
			return nil, err
		}
	}
}

// Why what was there when a verification began is not there any longer.
const (
	reasonLeftSource Reason = "no longer at the source"
	reasonLeftTarget Reason = "no longer on the target"
)

// overtaken goes on where a log begins by now: retention has passed the reader.
func (r *logReader) overtaken(ctx context.Context, cause error) error {
	start, err := r.cluster.ListOffsets(ctx, r.v.id.on(r.cluster.Name()), r.v.id.Partition, broker.Earliest, false)
	switch {
	case err != nil:
		return err
	case start.Offset <= r.at:
		return cause
	}
	away := LedgerEntry{First: r.at, Last: start.Offset - 1, Reason: reasonLeftSource}
	if !r.committed {
		away = LedgerEntry{First: r.v.c.next, Last: r.v.place.SourceNext - 1, Reason: reasonLeftTarget}
		if at, ok := r.v.claims.lookup(byTarget, start.Offset, ""); ok {
			away.Last = at - 1
		}
	}
	r.v.c.declared = append(r.v.c.declared, away)
	r.at = start.Offset
	return nil
}

// pace bounds what is read from each side.
type pace struct {
	quota quota
	rate  float64 // bytes/s of both sides together; 0 = no bound
	now   func() time.Time
}

func (p *pace) pay(bytes int64) { p.quota.pay(trackLate, bytes, p.rate, p.now()) }

func (p *pace) wait(ctx context.Context) error {
	if d := p.quota.pay(trackLate, 0, p.rate, p.now())[trackLate]; d > 0 {
		return sleep(ctx, d)
	}
	return ctx.Err()
}
