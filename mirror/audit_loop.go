package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// auditQueue is which pumps have a stretch to be read back, the longest waiting first.
type auditQueue struct {
	wake chan struct{} // 1 token: there is one

	mu     sync.Mutex
	list   []*pump
	topics map[string]*auditedTopic
}

// auditedTopic is the windows of a topic, the newest last.
type auditedTopic struct {
	kept   []AuditedWindow
	copied int64 // of the topic in all when the newest began
}

func newAuditQueue() *auditQueue {
	return &auditQueue{wake: make(chan struct{}, 1), topics: make(map[string]*auditedTopic)}
}

// put adds a pump; callers hold its mu.
func (q *auditQueue) put(p *pump) {
	q.mu.Lock()
	q.list = append(q.list, p)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// first is the pump that waits longest; nil: none does.
func (q *auditQueue) first() *pump {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return nil
	}
	return q.list[0]
}

func (q *auditQueue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list[0] = nil
	if q.list = q.list[1:]; len(q.list) == 0 {
		q.list = nil
	}
}

// back puts the first to the end.
func (q *auditQueue) back() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list[1:], q.list[0])
}

func (q *auditQueue) all() []*pump {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.list)
}

// waits is for how long the oldest stretch waits to be read back; 0: none does.
func (q *auditQueue) waits(now time.Time) (most time.Duration) {
	for _, p := range q.all() {
		if s, _ := p.auditNext(); s.Records > 0 {
			most = max(most, now.Sub(s.since))
		}
	}
	return most
}

// window adds to the window of now; copied is what was copied of the topic in all.
func (q *auditQueue) window(topic string, copied int64, now time.Time, change func(*AuditedWindow)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.topics[topic]
	if t == nil {
		t = &auditedTopic{}
		q.topics[topic] = t
	}
	start := now.Truncate(AuditWindow)
	if n := len(t.kept); n == 0 || t.kept[n-1].Start.Before(start) {
		if n > 0 {
			t.copied += t.kept[n-1].Copied
		}
		if n == auditKeep {
			t.kept = append(t.kept[:0], t.kept[1:]...)
		}
		t.kept = append(t.kept, AuditedWindow{Topic: topic, Start: start})
	}
	w := &t.kept[len(t.kept)-1]
	w.Copied = copied - t.copied
	change(w)
}

// auditLoop reads back what the pumps of the link wrote.
func (l *Link) auditLoop(ctx context.Context) error {
	budget, seen := float64(0), l.metrics.copiedBytes()
	for {
		for l.audits.first() == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-l.audits.wake:
			}
		}
		if sleep(ctx, auditSettle) != nil {
			return nil
		}
		now := l.metrics.copiedBytes()
		budget = min(budget+max(float64(now-seen)/auditShare, auditFloor), auditSavings)
		seen = now
		budget = l.auditSome(ctx, budget)
	}
}

// auditSome reads back what is due, in turn, for a number of bytes, and returns what is left of them.
func (l *Link) auditSome(ctx context.Context, budget float64) float64 {
	for range l.audits.all() {
		if ctx.Err() != nil {
			break
		}
		p := l.audits.first()
		s, runs := p.auditNext()
		now := l.now()
		overdue := now.Sub(s.since) >= auditWithin
		switch {
		case now.Before(s.due), !runs && !overdue:
			l.audits.back()
			continue
		case float64(s.Bytes) > budget && !overdue:
			return budget
		}
		l.audits.drop()
		if s = p.auditTake(now); runs {
			budget -= float64(l.audit(ctx, p, s))
		}
	}
	return budget
}

// auditMost bounds what one stretch may cost, when others' records lie between.
const auditMost = 2 << 20

// auditPatience is how long reading one back may take.
const auditPatience = 10 * time.Second

// audit reads one stretch back and says what it found. It returns how many bytes that took.
func (l *Link) audit(ctx context.Context, p *pump, s readback) (read int64) {
	ctx, cancel := context.WithTimeout(ctx, auditPatience)
	defer cancel()
	held, read, err := l.held(ctx, p, s)
	bad := errors.Is(err, errDamaged) || errors.Is(err, batch.ErrCorrupt)
	if err != nil && !bad {
		l.log.Debug("audit: not read back", "pump", p.id.String(), "target_offset", s.from, "error", err)
		if !errors.Is(err, errAudit) && !errors.Is(err, kerr.OffsetOutOfRange) {
			p.auditAgain(s, l.now())
		}
		return read
	}
	var d *Difference
	if bad || held != s.AuditSum {
		if d, err = l.arbitrate(ctx, p, s, err); err != nil {
			l.log.Debug("audit: not compared", "pump", p.id.String(), "source_offset", s.first, "error", err)
			p.auditAgain(s, l.now())
			return read
		}
	}
	l.audits.window(p.id.Topic, l.metrics.topic(p.id.Topic).sumRecords.Load(), l.now(), func(w *AuditedWindow) {
		w.Source.plus(s.AuditSum)
		w.Target.plus(held)
		switch {
		case d != nil:
			w.Mismatches++
		case held != s.AuditSum:
			w.Reformed += s.Records
		}
	})
	l.metrics.audited(p, s.AuditSum, d != nil)
	if d != nil {
		f := AuditFinding{Link: l.name, Pump: p.id, From: s.first, To: s.next, TargetFrom: s.from, TargetTo: s.to, Difference: *d, At: l.now()}
		p.mismatched(f)
		l.log.Error("audit mismatch", "pump", p.id.String(), "source_offsets", fmt.Sprintf("%d-%d", f.From, f.To-1),
			"target_offsets", fmt.Sprintf("%d-%d", f.TargetFrom, f.TargetTo-1), "difference", d.String())
	}
	return read
}

var (
	errDamaged = errors.New("a batch does not have its checksum")
	errAudit   = errors.New("too much of others lies between")
)

// held sums up what the target holds of a stretch.
func (l *Link) held(ctx context.Context, p *pump, s readback) (held AuditSum, read int64, err error) {
	for at := s.from; at < s.to; {
		if read > auditMost {
			return held, read, errAudit
		}
		frame, err := l.to.FetchOnce(ctx, p.id.Target(), p.id.Partition, at, int32(min(max(s.Bytes, 4<<10), 1<<20)), false)
		if err != nil {
			return held, read, err
		}
		read += int64(len(frame.Partitions[0].Batches))
		next, err := p.flow.ownIn(frame.Partitions[0].Batches, at, func(h batch.Header, raw []byte, _ string) error {
			switch {
			case h.BaseOffset >= s.to:
			case !batch.VerifyCRC(raw):
				return fmt.Errorf("target offset %d: %w", h.BaseOffset, errDamaged)
			default:
				held.add(h.CRC, h.Records, len(raw), h.BaseOffset)
			}
			return nil
		})
		frame.Release()
		if err != nil {
			return held, read, err
		}
		if next == at {
			return held, read, fmt.Errorf("the target answers nothing at offset %d: %w", at, kerr.OffsetOutOfRange)
		}
		at = next
	}
	return held, read, nil
}

// arbitrate compares a stretch with the source, record by record.
func (l *Link) arbitrate(ctx context.Context, p *pump, s readback, bad error) (*Difference, error) {
	if bad != nil { // it may have been on the way
		if _, _, err := l.held(ctx, p, s); err == nil || !errors.Is(err, errDamaged) && !errors.Is(err, batch.ErrCorrupt) {
			bad = nil
		}
	}
	v := &verifying{link: l, flow: p.flow, id: p.id, pace: &pace{now: l.now}}
	err := v.run(ctx, VerifyRequest{From: s.first, To: s.next})
	switch {
	case v.out.Difference != nil:
		return v.out.Difference, nil
	case errors.Is(err, batch.ErrCorrupt):
		return &Difference{DifferenceChanged, s.first, s.from, err.Error()}, nil
	case err == nil && bad != nil:
		return &Difference{DifferenceChanged, s.first, s.from, bad.Error()}, nil
	}
	return nil, err
}
