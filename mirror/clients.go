package mirror

import (
	"math"
	"time"
)

// ClientProducer is what a link has copied of the producer of a router's client in a partition.
type ClientProducer struct {
	ID    int64 // as the source's log has it, with its salt
	Epoch int16 // the newest
	Last  int32 // last sequence of that epoch that was copied
	Time  int64 // of its last batch, in milliseconds since 1970
	// Batches are the last ones, oldest first, at most five. One that is not whole at the target, record behind record, is left out.
	Batches []ClientBatch
}

// ClientBatch is a batch of a client that is at the target.
type ClientBatch struct {
	Epoch       int16
	First, Last int32 // sequences
	Target      int64 // offset of the first record there
	Time        int64 // largest of its records, in milliseconds since 1970
}

const (
	// clientBatches is how many batches of a producer are kept: brokers remember as many, and clients have no more in flight.
	clientBatches = 5
	// clientsKept is how many producers a pump keeps: those that wrote last. One takes 300 bytes.
	clientsKept = 512
	// clientsFor is how long a producer is kept that writes no more. Clients give a batch up after two minutes, if nobody tells them otherwise.
	clientsFor = 10 * time.Minute
	// searchedClients bounds what a search for a place keeps of what it passes: in the end the producers' last batches count.
	searchedClients = 8 * clientsKept
)

// clientCopy is a client's batch whose last record is in a batch for the target.
type clientCopy struct {
	id          int64
	next        int64 // source offset behind it
	time        int64
	first, last int32 // sequences
	records     int32 // 0: some of it are gone, so that its place says nothing
	at          int32 // which record of the target's batch its first is; -1: that is not known here
	epoch       int16
}

// clientCopies is what a batch of a router's client leaves in what is made of it; nil for any other's, which is most.
func (s *sourceBatch) clientCopies(at int32) []clientCopy {
	h := s.header
	if !s.client || h.BaseSequence < 0 || h.ProducerEpoch < 0 {
		return nil
	}
	c := clientCopy{id: h.ProducerID, next: h.NextOffset(), time: h.MaxTimestamp, first: h.BaseSequence, last: sequenceAfter(h.BaseSequence, int64(h.LastOffsetDelta)),
		at: at, epoch: h.ProducerEpoch}
	if h.Dense() && len(s.omitted) == 0 {
		c.records = h.Records
	}
	return []clientCopy{c}
}

// Sequences of clients count records of a producer in a partition; after 2^31-1 comes 0, also inside a batch.

// sequenceAfter is the sequence n behind one.
func sequenceAfter(s int32, n int64) int32 { return int32((int64(s) + n) & math.MaxInt32) }

// sequenceAhead is how far one is in front of another, the shorter way: negative if it lies behind.
func sequenceAhead(a, b int32) int64 {
	d := (int64(a) - int64(b)) & math.MaxInt32
	if d > math.MaxInt32/2 {
		d -= math.MaxInt32 + 1
	}
	return d
}

// clientState is a producer, how far in the source it was copied, and when, by our clock.
type clientState struct {
	ClientProducer
	next int64
	seen int64 // in milliseconds since 1970
}

// knownClient is one in a book, between the one that wrote next and the one that wrote before.
type knownClient struct {
	clientState
	newer, older *knownClient
}

// clientBook is what a pump has copied of the producers of routers' clients: only what the target has acknowledged. A home that is lost had written batches whose
// acknowledgements the clients never saw; who is home next answers those that are here when they are sent again.
type clientBook struct {
	by             map[int64]*knownClient // by id; nil as long as there is none
	newest, oldest *knownClient
	changed        bool      // since it was written
	written        bool      // there is something durable
	due            time.Time // it is not written again before, unless somebody asks
}

// take notes a batch whose first record is at a target offset; negative: nobody knows, or it is not whole. What lies in the source before what is known already
// is copied once more, and tells nothing; behind it the source's order is right, whatever the sequences say.
func (k *clientBook) take(c clientCopy, target int64, now time.Time) {
	e := k.by[c.id]
	if e != nil && (c.next <= e.next || c.epoch < e.Epoch) {
		return
	}
	if e == nil {
		e = k.enter(c)
	} else {
		k.unlink(e)
	}
	if c.epoch == e.Epoch && len(e.Batches) > 0 && sequenceAhead(c.first, e.Last) <= 0 {
		e.Batches = e.Batches[:0] // it began anew: its broker had forgotten it
	}
	e.Epoch, e.Last, e.Time, e.next, e.seen = c.epoch, c.last, c.time, c.next, now.UnixMilli()
	if target >= 0 && c.records > 0 {
		if len(e.Batches) == clientBatches {
			e.Batches = e.Batches[:copy(e.Batches, e.Batches[1:])]
		}
		e.Batches = append(e.Batches, ClientBatch{Epoch: c.epoch, First: c.first, Last: c.last, Target: target, Time: c.time})
	}
	k.link(e)
	k.changed = true
}

// enter makes room for a producer.
func (k *clientBook) enter(c clientCopy) *knownClient {
	if k.by == nil {
		k.by = make(map[int64]*knownClient)
	}
	if len(k.by) >= clientsKept {
		k.drop(k.oldest)
	}
	e := &knownClient{clientState: clientState{ClientProducer: ClientProducer{ID: c.id, Epoch: c.epoch, Batches: make([]ClientBatch, 0, clientBatches)}}}
	k.by[c.id] = e
	return e
}

func (k *clientBook) link(e *knownClient) {
	e.older, e.newer = k.newest, nil
	if k.newest != nil {
		k.newest.newer = e
	}
	k.newest = e
	if k.oldest == nil {
		k.oldest = e
	}
}

func (k *clientBook) unlink(e *knownClient) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		k.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		k.oldest = e.newer
	}
}

func (k *clientBook) drop(e *knownClient) {
	k.unlink(e)
	delete(k.by, e.ID)
	k.changed = true
}

// expire drops who has written nothing for long.
func (k *clientBook) expire(now time.Time) {
	for k.oldest != nil && !freshClient(k.oldest.seen, now) {
		k.drop(k.oldest)
	}
}

// freshClient tells whether a producer that wrote then may still send a batch again.
func freshClient(seen int64, now time.Time) bool { return seen > now.Add(-clientsFor).UnixMilli() }

// cut drops the producers of which something is not copied, as it turned out: all that is lies before a source offset, and before a target offset.
func (k *clientBook) cut(source, target int64) {
	for _, e := range k.by {
		if n := len(e.Batches); e.next > source || n > 0 && e.Batches[n-1].Target >= target {
			k.drop(e)
		}
	}
}

// list is all that are known, as copies.
func (k *clientBook) list() []clientState {
	out := make([]clientState, 0, len(k.by))
	for e := k.oldest; e != nil; e = e.newer {
		s := e.clientState
		s.Batches = append([]ClientBatch(nil), s.Batches...)
		out = append(out, s)
	}
	return out
}

// tookLocked notes the clients' batches that end in what was just acknowledged at a target offset.
func (p *pump) tookLocked(copies []clientCopy, base int64, now time.Time) {
	for _, c := range copies {
		target := int64(-1)
		switch {
		case c.records == 0:
		case c.at >= 0:
			target = base + int64(c.at)
		default:
			target = p.offsets.whole(c.next-int64(c.records), int64(c.records))
		}
		p.clients.take(c, target, now)
	}
}

// learnedLocked notes those of the clients' batches that a search passed which are copied, as it found.
func (p *pump) learnedLocked(passed []clientCopy, now time.Time) {
	for i, c := range passed {
		if c.next <= p.acked.SourceNext {
			p.tookLocked(passed[i:i+1], 0, now)
		}
	}
}

// whole is where at the target some records of the source begin that are all there, one behind the other; -1 if they are not.
func (m *OffsetMap) whole(source, records int64) int64 {
	target, at := int64(-1), source
	for r := range m.overlapping(source, source+records) {
		if at < r.Source || at >= r.sourceEnd() {
			continue
		}
		switch to := r.Target + at - r.Source; {
		case target < 0:
			target = to
		case to != target+at-source:
			return -1
		}
		if at = r.sourceEnd(); at >= source+records {
			return target
		}
	}
	return -1
}

// passClient keeps a client's batch that a search passes.
func passClient(passed []clientCopy, s *sourceBatch) []clientCopy {
	if s.act == actSkip || !s.client {
		return passed
	}
	if len(passed) == searchedClients {
		passed = passed[:copy(passed, passed[searchedClients/2:])]
	}
	return append(passed, s.clientCopies(-1)...)
}
