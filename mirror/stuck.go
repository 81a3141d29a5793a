package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// A transaction that nobody ends holds up every reader of committed records, and says nothing: the log grows, and what is behind the
// transaction's first record cannot be read. The pump runs then, and warns.

// stillness is how long the last stable offset has not moved.
type stillness struct {
	stable int64     // the last stable offset
	since  time.Time // it was first seen below the high watermark; zero: it is not
	who    *broker.OpenTransaction
	asked  time.Time // the source, who
	said   bool      // logged
}

// see takes what an answer of the source says.
func (s *stillness) see(stable, highWatermark int64, now time.Time) {
	switch {
	case stable >= highWatermark || stable < 0:
		*s = stillness{}
	case s.stable != stable || s.since.IsZero():
		*s = stillness{stable: stable, since: now}
	}
}

// stuck reports whether the last stable offset stands for so long already below the end of the log; seen is when the source was last heard.
func (s *stillness) stuck(seen time.Time, after time.Duration) bool {
	return !s.since.IsZero() && seen.Sub(s.since) > after
}

// text says what stands, and who it is as far as is known.
func (s *stillness) text(highWatermark int64) string {
	held := fmt.Sprintf("a transaction at the source has not ended: committed records end at offset %d since %s, and the log goes on to %d",
		s.stable, s.since.UTC().Format(time.RFC3339), highWatermark)
	if s.who == nil {
		return held
	}
	who := fmt.Sprintf("; producer id %d epoch %d", s.who.ProducerID, s.who.Epoch)
	if s.who.TransactionalID != "" {
		who += fmt.Sprintf(", transactional id %q", s.who.TransactionalID)
	}
	began := ""
	if !s.who.Began.IsZero() {
		began = fmt.Sprintf(", begun %s", s.who.Began.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%s%s, from offset %d%s: end it there, or abort it with kafka-transactions.sh", held, who, s.who.FirstOffset, began)
}

// stuckLocked reports whether a transaction holds the pump up.
func (p *pump) stuckLocked() bool {
	if p.state != StateRunning || p.sight.still.since.IsZero() {
		return false
	}
	after := p.link.terms().Policy.StuckAfter
	return after > 0 && p.sight.still.stuck(p.seenLocked(), after)
}

const (
	// watchEvery is how often a link looks at its pumps for what is to be warned of.
	watchEvery = 5 * time.Second
	// stuckAskEvery is how often the source is asked whose a stuck transaction is.
	stuckAskEvery = 15 * time.Second
)

// watchLoop warns of what has not gone wrong yet.
func (l *Link) watchLoop(ctx context.Context) error {
	regularly(ctx, watchEvery, nil, func(call context.Context) {
		l.watchStuck(call)
		l.watchRoom(call)
	})
	return nil
}

// watchStuck asks the source whose the transactions are that hold pumps up, once for all of them, and says it.
func (l *Link) watchStuck(ctx context.Context) {
	now := l.now()
	ask := make(map[string][]int32)
	stuck := make(map[topicPartition]*pump)
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			if p.asksWho(now) {
				ask[p.id.Topic] = append(ask[p.id.Topic], p.id.Partition)
				stuck[topicPartition{p.id.Topic, p.id.Partition}] = p
			}
		}
	}
	if len(stuck) == 0 {
		return
	}
	open, err := l.from.OpenTransactions(ctx, ask)
	if err != nil {
		l.log.Debug("ask for open transactions", "error", err)
	}
	first := make(map[topicPartition]*broker.OpenTransaction)
	for _, t := range open {
		key := topicPartition{t.Topic, t.Partition}
		if first[key] == nil || t.FirstOffset < first[key].FirstOffset {
			first[key] = &t
		}
	}
	for key, p := range stuck {
		p.heldBy(first[key])
	}
}

// asksWho reports whether the source is to be asked now who holds the pump up.
func (p *pump) asksWho(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stuckLocked() || now.Sub(p.sight.still.asked) < stuckAskEvery {
		return false
	}
	p.sight.still.asked = now
	return true
}

// heldBy takes the source's answer; nil: it does not tell.
func (p *pump) heldBy(who *broker.OpenTransaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stuckLocked() {
		return
	}
	s := &p.sight.still
	if who != nil {
		s.who = who
	}
	if !s.said {
		s.said = true
		p.link.log.Warn("stuck transaction", "pump", p.id.String(), "cause", string(CauseStuck), "detail", s.text(p.sight.highWatermark))
	}
}
