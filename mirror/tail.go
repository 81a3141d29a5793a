package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// Tail is a stretch of a cluster's log: what the home of a router's set had written when it was lost, and links had not copied when another cluster became home. Links carry it on when
// the lost home comes back, but do with it as the policy says. It is of no concern to them how that was decided.
type Tail struct {
	Router, Set string
	Generation  int64     // that began without it
	At          time.Time // of the switch, by the clock of who ran it
	Policy      topology.TailPolicy
	// First is the source offset from which on it may lie; End is where the log lies behind it that the cluster wrote when it was home again, math.MaxInt64 as long as it is not.
	First, End int64
	// Homes are the logs to which clients wrote instead, in the order of generations.
	Homes []TailLog
}

// TailLog is a stretch of the log of a home that followed.
type TailLog struct {
	Cluster   string
	From, End int64 // offsets; End is math.MaxInt64 as long as it is home
}

// Tails tells which tails there are. Its methods are called by many goroutines.
type Tails interface {
	// Refresh reads what was decided until the call. It may take as long as ctx lets it.
	Refresh(ctx context.Context) error
	// Of are the tails in a partition of a cluster's log, in the order of generations, by the last reading. It answers at once, from memory.
	Of(cluster, topic string, partition int32) []Tail
}

// SetTails has the set ask for tails from now on: whenever a connection to a source is made, before anything is read over it, and in each [Set.HeedTails].
func (s *Set) SetTails(t Tails) { s.shared.tails.Store(&t) }

// HeedTails has the links look at once at what was decided, as far as was read. It waits for nothing.
func (s *Set) HeedTails() {
	for _, l := range s.list() {
		l.heedTails()
	}
}

const (
	// tailsTimeout bounds one reading of what was decided, tailsPatience how long a source is not read because nobody tells. Then it is read as if there were no tail that is
	// not known yet: what is in it is delivered.
	tailsTimeout  = 5 * time.Second
	tailsPatience = 30 * time.Second
)

// errTail: what comes next is of a tail, and it is not decided yet what becomes of it.
var errTail = errors.New("the tail of a lost home begins here, and it is not decided yet what of it is copied")

// learnTails reads what was decided, before a source is read that may have been lost.
func (l *Link) learnTails(ctx context.Context) error {
	t := l.shared.tails.Load()
	if t == nil {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, tailsTimeout)
	err := (*t).Refresh(call)
	cancel()
	now := l.now()
	l.mu.Lock()
	since := l.tailless
	if err == nil {
		l.tailless = time.Time{}
	} else if since.IsZero() {
		l.tailless, since = now, now
	}
	l.mu.Unlock()
	if err != nil && recent(now, since, tailsPatience) {
		return fmt.Errorf("ask whether %s was lost as a home, before it is read on: %w", l.spec.From, err)
	}
	if err != nil && ctx.Err() == nil {
		l.log.Warn("nobody tells whether the source was lost as a home: going on as if it was not", "cluster", l.spec.From, "error", err)
	}
	l.heedTails()
	return nil
}

// heedTails has the pumps find their places before which a tail lies that nothing is decided of.
func (l *Link) heedTails() {
	if l.shared.tails.Load() == nil {
		return
	}
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			p.heedTails(l.now())
		}
	}
}

func (p *pump) heedTails(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.born && !p.gone && p.state == StateRunning && p.undecidedLocked() {
		p.drainLocked("", "a tail begins here", now)
	}
}

// undecidedLocked reports whether a tail lies before the pump of which nothing is decided.
func (p *pump) undecidedLocked() bool {
	for _, t := range p.tails() {
		if _, known := p.link.store.tailSum(p.id, t.key()); !known && p.acked.SourceNext < t.End && !p.noTail[t.key()] {
			return true
		}
	}
	return false
}

// tails are those of the pump's source.
func (p *pump) tails() []Tail {
	t := p.link.shared.tails.Load()
	if t == nil {
		return nil
	}
	return (*t).Of(p.id.From, p.id.Topic, p.id.Partition)
}

// key names the tail of a partition.
func (t Tail) key() string { return fmt.Sprintf("%s/%s/%d", t.Router, t.Set, t.Generation) }

// TailSum is what became of a tail, in the entry of the ledger that sums it up. The entry's range is all of the tail.
type TailSum struct {
	Router, Set string
	Generation  int64
	// Next is the source offset before which it is decided.
	Next int64
	// Records that were delivered late; that clients had sent again to the new home, and are not copied; that are in the topic for them; that are only listed.
	Delivered, Again, Diverted, Listed int64
	// Unsettled of the delivered may have been sent again: the new home's log could not be read far enough.
	Unsettled int64
}

func (s TailSum) key() string {
	return Tail{Router: s.Router, Set: s.Set, Generation: s.Generation}.key()
}

func (s *TailSum) encode(e *encoder) {
	e.str(s.Router)
	e.str(s.Set)
	for _, n := range []int64{s.Generation, s.Next, s.Delivered, s.Again, s.Diverted, s.Listed, s.Unsettled} {
		e.int(n)
	}
}

func decodeTailSum(d *decoder) *TailSum {
	return &TailSum{Router: d.str(), Set: d.str(), Generation: d.int(), Next: d.int(), Delivered: d.int(), Again: d.int(), Diverted: d.int(), Listed: d.int(), Unsettled: d.int()}
}

// tailBook is what ledgers say of tails, under the mutex of the state log, and how often walks have to ask.
type tailBook struct {
	omitting atomic.Int64 // pumps that leave something out
	tailed   atomic.Int64 // pumps whose source had a tail
	tails    map[PumpID]map[string]LedgerEntry
}

// tailSum finds what the ledger says of a tail.
func (s *stateLog) tailSum(p PumpID, key string) (LedgerEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.tails[p][key]
	return e, ok
}

// noteTailLocked keeps what an entry says of a tail.
func (s *stateLog) noteTailLocked(l LedgerEntry) {
	if l.Tail == nil {
		return
	}
	if s.tails == nil {
		s.tails = make(map[PumpID]map[string]LedgerEntry)
	}
	if s.tails[l.Pump] == nil {
		s.tails[l.Pump] = make(map[string]LedgerEntry)
	}
	s.tails[l.Pump][l.Tail.key()] = l
	s.tailed.Store(int64(len(s.tails)))
}

// tailBound is the source offset from which on nothing may be copied yet. Where there never was a tail it is one look at a counter.
func (f *flow) tailBound(partition int32) int64 {
	if f.link.store.tailed.Load() == 0 {
		return math.MaxInt64
	}
	return f.link.store.tailBound(f.pumpID(partition))
}

func (s *stateLog) tailBound(p PumpID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	bound := int64(math.MaxInt64)
	for _, e := range s.tails[p] {
		if e.Tail.Next <= e.Last {
			bound = min(bound, e.Tail.Next)
		}
	}
	return bound
}

// OffsetRange are some offsets of a log, up to and without End.
type OffsetRange struct{ First, End int64 }

// SentAgain is what of the tails at from its clients had sent again to homes that followed, so that the link from → to has not copied it: source offsets, in order. When from is home
// again its log has such a record twice, in the tail and as the next home's copy, which is the one that clients know. It is what is durable; its errors are those of [Look.Reached].
func (k *Look) SentAgain(ctx context.Context, from, to, topic string, partition int32) ([]OffsetRange, error) {
	src, err := k.taking(way{from, to, topic, topic}, partition)
	if err == nil {
		err = k.refresh(ctx, src.store)
	}
	if err != nil {
		return nil, fmt.Errorf("find what of %s:%d of %s was sent again: %w", topic, partition, from, err)
	}
	return src.store.sentAgain(src.id), nil
}

func (s *stateLog) sentAgain(p PumpID) (out []OffsetRange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tails[p]) == 0 {
		return nil
	}
	var all omitted
	for _, l := range s.ledger[p.path()] {
		if l.Pump == p && l.Reason == ReasonTailAgain {
			all = all.with(s.stillOfLocked(p, span{l.First, l.Last - l.First + 1}, l.log))
		}
	}
	for _, o := range all {
		out = append(out, OffsetRange{o.first, o.end()})
	}
	return out
}
