package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The audit compares, all the time, what the source's producers wrote with what the target holds. An acknowledgement does not say
// what is held, so a part of what was written is read back: a hundredth of the traffic, or 8 KiB/s of a link if that is more,
// in turn over the partitions that move, and something of each of them within five minutes.
//
// The checksum of a batch stands for its content. That of a copy is the one its producer made, carried over by linearity and never
// computed anew, so it speaks for the source; of a rebuilt batch it is of what was encoded. A stretch of batches is one sum of them,
// which costs a few nanoseconds a batch; the read-back side checks each checksum against the bytes. Where the two sums are not
// equal, the stretch is compared with the source record by record, and only what differs then is a mismatch: a broker may have
// stored it in another form.
//
// What is to be read back is in memory only; a process that begins anew begins with what it copies.
const (
	auditBytes   = 64 << 10        // a stretch takes no more batches from this size on
	auditSettle  = time.Second     // a stretch may grow for so long
	auditShare   = 100             // one in so many acknowledged bytes is read back,
	auditFloor   = 8 << 10         // or so many a second, if that is more,
	auditWithin  = 5 * time.Minute // unless a partition has waited for so long
	auditSavings = 4 << 20         // what may be read back at once after a quiet time, in bytes
	auditKeep    = 10              // windows of a topic that are kept
)

// AuditWindow is the length of a window of the audit.
const AuditWindow = time.Minute

// AuditSum stands for a number of batches, in any order: the digest is of their checksums, record counts and target offsets.
type AuditSum struct {
	Records, Bytes int64
	Digest         uint64
}

// add takes in one batch.
func (s *AuditSum) add(crc uint32, records int32, bytes int, base int64) {
	s.Records += int64(records)
	s.Bytes += int64(bytes)
	x := uint64(crc)<<32 | uint64(uint32(records))
	x = (x ^ uint64(base)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	s.Digest += x ^ x>>31
}

// plus takes in another sum.
func (s *AuditSum) plus(o AuditSum) {
	s.Records, s.Bytes, s.Digest = s.Records+o.Records, s.Bytes+o.Bytes, s.Digest+o.Digest
}

// readback is a number of batches in a row that are to be read back.
type readback struct {
	AuditSum
	from, to    int64 // target offsets, [from, to)
	first, next int64 // source offsets, [first, next)
	since, due  time.Time
	tries       int // to read it back, in vain
}

// auditing is what a pump knows of what it wrote lately.
type auditing struct {
	open       readback
	generation uint64    // of the outflow that open is of
	again      time.Time // no stretch before
	finding    *AuditFinding
}

// add takes note of an acknowledged batch, and reports whether a stretch began with it.
func (a *auditing) add(b *outBatch, base int64, now time.Time) (began bool) {
	switch {
	case a.open.Records == 0:
		if now.Before(a.again) {
			return false
		}
		a.open = readback{from: base, first: b.spans[0].first, since: now, due: now.Add(auditSettle)}
		a.generation, began = b.generation, true
	case a.open.Bytes >= auditBytes || a.generation != b.generation:
		return false // who wrote what lies between is not known
	}
	a.open.add(b.crc, b.records, len(b.bytes), base)
	a.open.to, a.open.next = base+int64(b.records), b.next
	return began
}

// auditLocked is called for each batch that the target acknowledged.
func (p *pump) auditLocked(b *outBatch, base int64, now time.Time) {
	if p.audit.add(b, base, now) {
		p.link.audits.put(p)
	}
}

// auditNext looks at what is to be read back next, and whether the pump runs: of one that does not, the target may be away.
func (p *pump) auditNext() (s readback, runs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.audit.open, p.state == StateRunning
}

// auditTake takes what is to be read back, so that the next stretch may begin.
func (p *pump) auditTake(now time.Time) readback {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.audit.open
	p.audit.open, p.audit.again = readback{}, now.Add(auditSettle)
	return s
}

// How often reading a stretch back is tried, and how long after each other.
const (
	auditTries = 3
	auditRetry = 10 * time.Second
)

// auditAgain keeps a stretch that could not be read back for later, unless another has begun.
func (p *pump) auditAgain(s readback, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.tries++; s.tries >= auditTries || p.audit.open.Records > 0 {
		return
	}
	s.due = now.Add(auditRetry)
	p.audit.open, p.audit.generation = s, p.out.generation-1 // nothing is added to it any more
	p.link.audits.put(p)
}

// AuditFinding is a stretch of the target that does not hold what was written, found by the audit.
type AuditFinding struct {
	Link                 string
	Pump                 PumpID
	From, To             int64 // source offsets, [From, To)
	TargetFrom, TargetTo int64 // target offsets, [TargetFrom, TargetTo)
	Difference           Difference
	At                   time.Time
}

func (f AuditFinding) String() string {
	return fmt.Sprintf("source offsets %d to %d are not what target offsets %d to %d hold: %s; isthmus verify %s %s --from %d --to %d shows it",
		f.From, f.To-1, f.TargetFrom, f.TargetTo-1, f.Difference, f.Link, f.Pump.Topic, f.From, f.To)
}

// mismatched notes a mismatch, which stays until a verification finds the range identical or the process ends.
func (p *pump) mismatched(f AuditFinding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.audit.finding = &f
}

// proven forgets a finding whose range was found identical since.
func (p *pump) proven(from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.audit.finding; f != nil && from <= f.From && to >= f.To {
		p.audit.finding = nil
	}
}

// AuditedWindow is what the audit saw of a topic in one window of time.
type AuditedWindow struct {
	Topic string
	Start time.Time
	// Source is what was read back by the checksums of what the source holds, Target by those of what the target holds. They are equal
	// unless there is a mismatch, or a broker stores what it gets in another form; Reformed is how many records that was of.
	Source, Target AuditSum
	Reformed       int64
	Copied         int64 // records acknowledged in the window, read back or not
	Mismatches     int
}

// Audit returns what the audit saw in the last windows, by topic and time, and what it found and nobody has disproved. It returns
// [ErrNoLink] for a link this node does not run. Partitions that other nodes copy are in their answers.
func (s *Set) Audit(link string) ([]AuditedWindow, []AuditFinding, error) {
	for _, l := range s.list() {
		if l.name != link {
			continue
		}
		var findings []AuditFinding
		for _, f := range l.flowList() {
			for _, p := range f.pumpList() {
				p.mu.Lock()
				if p.audit.finding != nil {
					findings = append(findings, *p.audit.finding)
				}
				p.mu.Unlock()
			}
		}
		return l.audits.windows(), findings, nil
	}
	return nil, nil, fmt.Errorf("audit of link %q: %w", link, ErrNoLink)
}

func byTopicAndStart(a, b AuditedWindow) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return a.Start.Compare(b.Start)
}

// windows lists what is kept.
func (q *auditQueue) windows() (out []AuditedWindow) {
	q.mu.Lock()
	for _, t := range q.topics {
		out = append(out, t.kept...)
	}
	q.mu.Unlock()
	slices.SortFunc(out, byTopicAndStart)
	return out
}
