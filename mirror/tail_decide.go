package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// What becomes of a tail is decided before a pump passes it, and is in the ledger then: flow.walk leaves out what the ledger says, so that copying and counting see the same. The link
// over which the tail comes to the new home decides (of a way over a hub its first link), because clients send again there; the other links of the lost home take that over from its
// ledger, so that the same is at all clusters.

const (
	// tailHomeBytes bounds what is read of the logs of homes that followed, tailTimeout one decision. What is not found by then is delivered, and counted.
	tailHomeBytes = 256 << 20
	tailTimeout   = 2 * time.Minute
	// tailGrace is how long after the switch clients may still be on their way to the new home: as long as one is missing there the tail waits.
	tailGrace = 10 * time.Second
	// tailAdoptPatience is how long a link waits for the decision of another one.
	tailAdoptPatience = 5 * time.Minute
)

var (
	errTailYoung = errors.New("the home was lost a moment ago, and clients may still send again what is in its tail: waiting")
	errTailElse  = errors.New("another link decides what of the tail was sent again: waiting for it")
)

// decideTails decides about the tails before a place that was found.
func (l *Link) decideTails(ctx context.Context, p *pump, out *found) error {
	due := p.dueTails(out.place.SourceNext)
	if len(due) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	out.gaveUp = true // what was read before may not be copied
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	for _, t := range due {
		if err := l.decideTail(ctx, p, out, t); err != nil {
			return fmt.Errorf("decide about the tail of %s, lost in generation %d of router %s: %w", p.id.From, t.Generation, t.Router, err)
		}
	}
	return nil
}

// dueTails are those that lie before a place, or around it, and are not decided to their ends.
func (p *pump) dueTails(at int64) (due []Tail) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tails() {
		e, known := p.link.store.tailSum(p.id, t.key())
		if at < t.End && !p.noTail[t.key()] && (!known || e.Tail.Next <= e.Last) {
			due = append(due, t)
		}
	}
	return due
}

// decideTail decides about one, as far as the source can be read.
func (l *Link) decideTail(ctx context.Context, p *pump, out *found, t Tail) error {
	sum, known := l.store.tailSum(p.id, t.key())
	if known && sum.Tail.Next > sum.Last {
		return nil
	}
	stable, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Latest, true)
	if err != nil {
		return atSource(err)
	}
	_, written, err := l.from.EpochEnd(ctx, p.id.Topic, p.id.Partition, stable.LeaderEpoch)
	if err != nil {
		return atSource(err)
	}
	end := min(t.End, max(written, stable.Offset))
	if known {
		end = sum.Last + 1
	}
	if end <= t.First {
		p.hasNoTail(t)
		return nil
	}
	next := min(end, stable.Offset)
	var entries []LedgerEntry
	if by, other := l.tailDecider(p, t); other && t.Policy == topology.DeliverTail && !p.waitedFor(t, l.now()) {
		entries, err = l.adoptTail(ctx, p, out, t, by, next)
	} else {
		entries, err = l.tailEntries(ctx, p, out, t, end, next, other)
	}
	if err != nil {
		return err
	}
	return l.enterTail(ctx, p, out, entries, sum)
}

func (p *pump) hasNoTail(t Tail) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noTail == nil {
		p.noTail = make(map[string]bool)
	}
	p.noTail[t.key()] = true
}

// enterTail makes a decision durable. If another owner has copied on meanwhile what is new of it is taken back: nobody knows by which he did. before is the sum until now.
func (l *Link) enterTail(ctx context.Context, p *pump, out *found, entries []LedgerEntry, before LedgerEntry) error {
	unknown := l.store.unknown(entries)
	if err := l.store.enter(ctx, entries...); err != nil {
		return err
	}
	end, err := l.to.ListOffsets(ctx, p.id.Target(), p.id.Partition, broker.Latest, false)
	if err != nil {
		return err
	}
	there, err := l.othersIn(ctx, p, out.place.TargetFrom, end.Offset)
	if err != nil {
		return err
	}
	if there && before.Tail == nil {
		return errors.Join(errLeftOut, l.store.retract(ctx, unknown...))
	}
	if there { // its sum has a key of its own, and what was decided before stays
		return errors.Join(errLeftOut, l.store.retract(ctx, unknown...), l.store.enter(ctx, before))
	}
	sum := entries[len(entries)-1]
	l.metrics.tail(p, sum.Tail, before.Tail)
	l.log.Warn("tail of a lost home", "pump", p.id.String(), "first", sum.First, "last", sum.Last, "policy", sum.Policy, "detail", sum.Detail)
	return nil
}

// unknown are those entries that the ledger does not have.
func (s *stateLog) unknown(entries []LedgerEntry) (out []LedgerEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if _, known := s.ledger[e.Pump.path()][string(e.key())]; !known {
			out = append(out, e)
		}
	}
	return out
}

// tailDecider is the first link on the way from the lost home to the next one, if that is not this one.
func (l *Link) tailDecider(p *pump, t Tail) (by PumpID, other bool) {
	if len(t.Homes) == 0 {
		return PumpID{}, false
	}
	r := l.routing()
	route := r.topo.Route(p.id.From, t.Homes[0].Cluster, p.id.Topic)
	if len(route) == 0 || route[0].To == l.spec.To {
		return PumpID{}, false
	}
	return r.pumpID(route[0], p.id.Topic, p.id.Partition), true
}

// waitedFor reports whether the pump has waited long enough for another link.
func (p *pump) waitedFor(t Tail, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tailSince == nil {
		p.tailSince = make(map[string]time.Time)
	}
	since, ok := p.tailSince[t.key()]
	if !ok {
		p.tailSince[t.key()] = now
	}
	return ok && !recent(now, since, tailAdoptPatience)
}

// adoptTail takes the decision of another link over.
func (l *Link) adoptTail(ctx context.Context, p *pump, out *found, t Tail, by PumpID, next int64) (entries []LedgerEntry, err error) {
	c, open := l.shared.openCluster(by.To)
	if !open {
		return nil, fmt.Errorf("%s is not known here: %w", by, errTailElse)
	}
	theirs := l.shared.state(c, l.log)
	if err := theirs.refresh(ctx); err != nil {
		return nil, err
	}
	sum, ok := theirs.tailSum(by, t.key())
	if !ok || sum.Tail.Next < min(next, sum.Last+1) {
		return nil, fmt.Errorf("%s: %w", by, errTailElse)
	}
	mine := func(e LedgerEntry) LedgerEntry {
		e.Link, e.Pump, e.At, e.Writer, e.log = l.name, p.id, l.now(), l.writer, l.store.logOf(out.place)
		return e
	}
	for _, e := range theirs.ofTail(by, sum) {
		if e.First = max(e.First, out.place.SourceNext); e.First <= e.Last {
			entries = append(entries, mine(e))
		}
	}
	return append(entries, mine(sum)), nil
}

// ofTail are the entries that leave something of a tail out.
func (s *stateLog) ofTail(p PumpID, sum LedgerEntry) (out []LedgerEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.omissions[p] {
		if e := s.ledger[p.path()][key]; e.Reason != ReasonDeadLetter && e.Reason != ReasonSkipped && e.First >= sum.First && e.Last <= sum.Last {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b LedgerEntry) int { return int(min(max(a.First-b.First, -1), 1)) })
	return out
}

// tailReasons are those of what is not copied.
var tailReasons = [fates]Reason{outAgain: ReasonTailAgain, outDiverted: ReasonTailDiverted, outListed: ReasonTailListed}

// tailEntries decides about all of a tail before a source offset, and says it: what is left out, and the sum, which is the last.
func (l *Link) tailEntries(ctx context.Context, p *pump, out *found, t Tail, end, next int64, other bool) ([]LedgerEntry, error) {
	wanted := make(map[clientKey]int32) // the last sequence of each producer of the tail
	err := l.eachOfTail(ctx, p, t, out.place.SourceNext, next, func(b tailBatch, _ bool, _ *sourceBatch) error {
		if b.sequence >= 0 {
			wanted[b.client] = sequenceAfter(b.sequence, b.last-b.base)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	again, settled, err := l.sentAgain(ctx, p, t, wanted)
	if err != nil {
		return nil, err
	}
	f := &tailFate{rest: outDelivered, again: again, settled: settled, digest: sha256.New()}
	switch t.Policy {
	case topology.DivertTail:
		f.rest = outDiverted
	case topology.ListTail:
		f.rest = outListed
	}
	if f.rest == outDelivered && recent(l.now(), t.At, tailGrace) && missing(wanted, again) {
		return nil, errTailYoung
	}
	diverts := l.newDiversion(p, t, other)
	defer diverts.close()
	err = l.eachOfTail(ctx, p, t, out.place.SourceNext, next, func(b tailBatch, copied bool, s *sourceBatch) error {
		if copied {
			f.counts[outDelivered] += b.records
			f.digest.Write(s.raw)
			return nil
		}
		f.take(b, s.raw)
		return diverts.take(ctx, f, b, s)
	})
	if err == nil {
		err = diverts.flush(ctx)
	}
	if err != nil {
		return nil, err
	}
	one := LedgerEntry{Link: l.name, Pump: p.id, At: l.now(), Writer: l.writer, Policy: string(t.Policy), log: l.store.logOf(out.place)}
	var entries []LedgerEntry
	for _, r := range f.ranges {
		e := one
		e.First, e.Last, e.Records, e.Reason, e.Digest = r.first, r.last, r.records, tailReasons[r.out], sumOf(r.digest)
		e.Detail = diverts.detail(r.out, t)
		entries = append(entries, e)
	}
	one.First, one.Last, one.Reason, one.Digest = t.First, end-1, ReasonTail, sumOf(f.digest)
	one.Tail = &TailSum{Router: t.Router, Set: t.Set, Generation: t.Generation, Next: next, Delivered: f.counts[outDelivered] + f.counts[outUnsettled], Again: f.counts[outAgain],
		Diverted: f.counts[outDiverted], Listed: f.counts[outListed], Unsettled: f.counts[outUnsettled]}
	one.Records = one.Tail.Delivered + one.Tail.Again + one.Tail.Diverted + one.Tail.Listed
	one.Detail = one.Tail.text(p.id.From, t)
	return append(entries, one), nil
}

// text is for people.
func (s *TailSum) text(lost string, t Tail) string {
	home := "the next home"
	if len(t.Homes) > 0 {
		home = t.Homes[0].Cluster
	}
	out := fmt.Sprintf("%s was lost with these when %s became home of router %s in generation %d: %d delivered late, %d sent again by clients, %d diverted, %d listed",
		lost, home, s.Router, s.Generation, s.Delivered, s.Again, s.Diverted, s.Listed)
	if s.Unsettled > 0 {
		out += fmt.Sprintf("; of the delivered %d may have been sent again: the log of %s could not be read far enough", s.Unsettled, home)
	}
	return out
}

// missing reports whether a producer of a tail has not come to a home that followed.
func missing(wanted map[clientKey]int32, again resent) bool {
	for k := range wanted {
		if len(again[k]) == 0 {
			return true
		}
	}
	return false
}

// eachOfTail goes over the batches of a tail that were first produced at the lost home, up to a source offset. copied: the pump's place is behind them, and they were not left out.
func (l *Link) eachOfTail(ctx context.Context, p *pump, t Tail, place, next int64, do func(b tailBatch, copied bool, s *sourceBatch) error) error {
	r := l.routing()
	for at := t.First; at < next; {
		frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, true)
		if err != nil {
			return atSource(err)
		}
		from := at
		err = p.flow.walk(&frame.Partitions[0], from, func(s *sourceBatch) error {
			h := s.header
			if h.BaseOffset >= next {
				return errEnough
			}
			at = max(at, h.NextOffset())
			if s.origin != p.id.From || s.act == actSkip && s.why != whyOmitted {
				return nil
			}
			b := tailBatch{first: max(h.BaseOffset, t.First), last: h.LastOffset(), base: h.BaseOffset, records: int64(h.Records), sequence: -1}
			if id, ok := r.topo.ClientOf(h.ProducerID); ok && h.ProducerEpoch >= 0 {
				b.client, b.sequence = clientKey{id, h.ProducerEpoch}, h.BaseSequence
			}
			return do(b, h.BaseOffset < place && len(s.omitted) == 0, s)
		})
		frame.Release()
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		if at == from {
			return nil
		}
	}
	return nil
}

// sentAgain reads what producers wrote to the homes that followed, until all that is wanted of them is found. settled says whether more could not have come to light for a sequence.
func (l *Link) sentAgain(ctx context.Context, p *pump, t Tail, wanted map[clientKey]int32) (again resent, settled func(clientKey, int32) bool, err error) {
	again = make(resent)
	found := func(k clientKey, last int32) bool {
		all := again[k]
		return len(all) > 0 && sequenceAhead(all[len(all)-1].last, last) >= 0
	}
	all := func() bool {
		for k, last := range wanted {
			if !found(k, last) {
				return false
			}
		}
		return true
	}
	complete, budget := true, tailHomeBytes
	for _, home := range t.Homes {
		if all() {
			break
		}
		whole, err := l.readHome(ctx, p, home, again, &budget, all)
		if err != nil {
			return nil, nil, err
		}
		complete = complete && whole
	}
	return again, func(k clientKey, last int32) bool { return complete || found(k, last) }, nil
}

// readHome reads a home's log; whole is false if it could not be read to its end.
func (l *Link) readHome(ctx context.Context, p *pump, home TailLog, again resent, budget *int, enough func() bool) (whole bool, err error) {
	c := l.to
	if home.Cluster != l.spec.To {
		var open bool
		if c, open = l.shared.openCluster(home.Cluster); !open {
			return false, nil
		}
	}
	start, err := c.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Earliest, false)
	var end broker.Position
	if err == nil {
		end, err = c.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Latest, false)
	}
	if err != nil {
		return false, fmt.Errorf("read what was sent again to %s: %w", home.Cluster, err)
	}
	whole = start.Offset <= home.From
	for at, to := max(start.Offset, home.From), min(end.Offset, home.End); at < to; {
		if *budget <= 0 {
			return false, nil
		}
		frame, err := c.FetchOnce(ctx, p.id.Topic, p.id.Partition, at, recoveryFetchBytes, false)
		if err != nil {
			return false, fmt.Errorf("read what was sent again to %s: %w", home.Cluster, err)
		}
		*budget -= len(frame.Partitions[0].Batches)
		next, err := again.sent(l.routing().topo.ClientOf, frame.Partitions[0].Batches, at, to)
		frame.Release()
		if err != nil {
			return false, fmt.Errorf("read what was sent again to %s: %w", home.Cluster, err)
		}
		if next == at || enough() {
			return whole, nil
		}
		at = next
	}
	return whole, nil
}

// openCluster is one that is open on this node.
func (s *shared) openCluster(name string) (*broker.Cluster, bool) {
	if s.cluster == nil {
		return nil, false
	}
	return s.cluster(name)
}
