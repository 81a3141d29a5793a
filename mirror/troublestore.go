package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// What is wrong with a partition outlives the process and the owner: what, since when, how often it was tried, when it is tried next. It is noted in
// the target, beside the checkpoints, by the way: nobody waits for it, and what lasts for moments is not noted at all. What cannot be noted, because the
// target is what is wrong, is noted when it can be; until then it dies with the process.

const (
	// noteAfter is how long a trouble lasts before it is noted: most are over by then. A halt is noted at once.
	noteAfter = 3 * time.Second
	// noteEvery is how often one partition's note is written at most.
	noteEvery = 15 * time.Second
	// noteMost is how many notes a link writes at a time, and noteTick how often it looks whether there are some.
	noteMost = 200
	noteTick = time.Second
	// noteLast is how long a link that ends waits for its last notes.
	noteLast = 500 * time.Millisecond
	// noteWhat bounds the sentence in a note.
	noteWhat = 300
	// wellAfter is how long a pump has to run until its trouble is over: one that is refused each batch runs in between, too.
	wellAfter = 5 * time.Second
)

// illness is a pump's trouble, from its beginning to when it is over.
type illness struct {
	began   time.Time    // zero: it is well
	before  int          // tries of its owners before
	last    *troubleNote // of the owner before, until it has been acted on
	noted   *troubleNote // what is in the target; nil: nothing
	written time.Time    // when the note was last written here
}

// meet takes a state that the pump is getting into.
func (i *illness) meet(s State, c Cause, now time.Time) {
	switch {
	case s == StatePaused: // somebody's will
		*i = illness{written: i.written, noted: i.noted}
	case s == StateRunning || s == StateYielded || s == StateElsewhere || !c.ails():
	case i.began.IsZero() || now.Before(i.began):
		i.began = now
	}
}

// ails reports whether a cause is a trouble of the partition.
func (c Cause) ails() bool { return c != "" && c != CauseOwner && c != CauseManual }

// illLocked reports whether the pump stands still for what is noted.
func (p *pump) illLocked() bool {
	return !p.ill.began.IsZero() && p.cause.ails() && (p.state == StateRetrying || p.state == StateHalted || p.state == StateWaiting)
}

// sinceLocked is since when the pump is in its state, or in the trouble that the state belongs to.
func (p *pump) sinceLocked() time.Time {
	if !p.ill.began.IsZero() && p.cause.ails() && p.state != StateRunning {
		return p.ill.began
	}
	return p.since
}

// troubleNote is what is noted of a pump's trouble.
type troubleNote struct {
	halted   bool
	cause    Cause
	what     string // for people
	since    time.Time
	attempts int
	next     time.Time // when it is tried again
	writer   string
}

func troubleKey(p PumpID) []byte { return stateKey(kindTrouble, p) }

func (n troubleNote) encode() []byte {
	e := encoder{formatVersion}
	halted := int64(0)
	if n.halted {
		halted = 1
	}
	e.int(halted)
	e.str(string(n.cause))
	e.str(n.what)
	e.int(n.since.UnixMilli())
	e.int(int64(n.attempts))
	e.int(n.next.UnixMilli())
	e.str(n.writer)
	return e
}

func decodeTroubleNote(p PumpID, b []byte) (troubleNote, error) {
	d := newDecoder(b)
	n := troubleNote{halted: d.int() != 0, cause: Cause(d.str()), what: d.str(), since: time.UnixMilli(d.int()).UTC(), attempts: int(d.int()),
		next: time.UnixMilli(d.int()).UTC(), writer: d.str()}
	if d.err == nil && (n.cause == "" || n.attempts < 0) {
		d.err = fmt.Errorf("cause %q after %d tries", n.cause, n.attempts)
	}
	if d.err != nil {
		return troubleNote{}, fmt.Errorf("decode what is wrong with %s: %w", p, d.err)
	}
	return n, nil
}

// says reports whether another note would tell more.
func (n troubleNote) says(o troubleNote) bool {
	return n.halted == o.halted && n.cause == o.cause && n.attempts == o.attempts && n.since.UnixMilli() == o.since.UnixMilli()
}

// noteDue is what is to be written of a pump.
type noteDue int

const (
	noteNothing noteDue = iota
	noteWrite
	noteClear
)

// noteLocked says what is to be written; last: the process ends.
func (p *pump) noteLocked(last bool, now time.Time) noteDue {
	if p.state == StateRunning && !p.ill.began.IsZero() && !recent(now, p.since, wellAfter) {
		p.ill, p.attempts = illness{written: p.ill.written, noted: p.ill.noted}, 0
	}
	known := p.ill.noted
	switch {
	case !p.born || p.gone || !last && recent(now, p.ill.written, noteEvery):
		return noteNothing
	case !p.illLocked():
		if known != nil && p.ill.began.IsZero() && (p.state == StateRunning || p.state == StatePaused) {
			return noteClear
		}
		return noteNothing
	case known != nil && known.says(p.asNotedLocked()):
		return noteNothing
	case known == nil && p.state != StateHalted && !last && recent(now, p.ill.began, noteAfter):
		return noteNothing
	}
	return noteWrite
}

// asNotedLocked is what a note of the pump says now.
func (p *pump) asNotedLocked() troubleNote {
	return troubleNote{halted: p.state == StateHalted, cause: p.cause, what: p.reason, since: p.ill.began, attempts: p.attempts, next: p.nextTry, writer: p.link.writer}
}

// noteLoop keeps the notes.
func (l *Link) noteLoop(ctx context.Context) error {
	regularly(ctx, noteTick, nil, func(call context.Context) {
		if err := l.noteTroubles(call, false); err != nil && ctx.Err() == nil {
			l.log.Debug("note troubles", "error", err)
		}
	})
	return nil
}

// noting is one note that is written.
type noting struct {
	pump *pump
	note troubleNote
	due  noteDue
	last time.Time // when it was written before
}

// notesDue lists what is to be written now, first what has waited for longest.
func (l *Link) notesDue(last bool, now time.Time) (all []noting) {
	l.eachPump(func(p *pump) {
		if due := p.noteLocked(last, now); due != noteNothing {
			all = append(all, noting{p, p.asNotedLocked(), due, p.ill.written})
		}
	})
	slices.SortStableFunc(all, func(a, b noting) int { return a.last.Compare(b.last) })
	most := noteMost
	if last {
		most *= 10
	}
	return all[:min(len(all), most)]
}

// noteTroubles writes what is due, in one go; last: the process ends.
func (l *Link) noteTroubles(ctx context.Context, last bool) error {
	l.mu.Lock()
	_, away := l.troubles[troubled{l.spec.To, partMetadata}]
	may := l.opened && !away
	l.mu.Unlock()
	if !may {
		return nil
	}
	now := l.now()
	all := l.notesDue(last, now)
	records := make([]broker.Record, 0, len(all))
	for _, n := range all {
		r := broker.Record{Topic: topicCheckpoints, Partition: partitionOf(n.pump.id), Key: troubleKey(n.pump.id)}
		if n.due == noteWrite {
			n.note.what = strings.ToValidUTF8(n.note.what[:min(len(n.note.what), noteWhat)], "")
			r.Value = n.note.encode()
		}
		records = append(records, r)
	}
	err := l.store.append(ctx, records)
	for _, n := range all {
		n.pump.noted(n, err, now)
	}
	return err
}

// lastNotes writes what has not been noted yet when the link ends, if the target takes it at once: nothing depends on it.
func (l *Link) lastNotes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, noteLast)
	defer cancel()
	if err := l.noteTroubles(ctx, true); err != nil {
		l.log.Debug("last notes of troubles", "error", err)
	}
}

// noted takes the outcome of writing a note.
func (p *pump) noted(n noting, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ill.written = now
	switch {
	case err != nil:
		p.ill.noted = &troubleNote{} // nobody knows what is there
	case n.due == noteClear:
		p.ill.noted = nil
	default:
		p.ill.noted = &n.note
	}
}

// trouble is what is noted of a pump, nil if nothing is. It is not to be changed.
func (s *store) trouble(p PumpID) *troubleNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		return st.trouble
	}
	return nil
}

// inherit takes what an owner before noted. Its clock may be another one: since is not in the future, and next not further away than this node would have
// waited.
func (p *pump) inherit(n *troubleNote, now time.Time) {
	if n == nil {
		return
	}
	own := *n
	if own.since.After(now) {
		own.since = now
	}
	w := waitsFor(own.cause)
	if own.halted {
		w = haltWaits
	}
	if most := now.Add(w.most * 3 / 2); own.next.After(most) {
		own.next = most
	}
	p.attempts = own.attempts
	p.ill = illness{began: own.since, before: own.attempts, last: &own, noted: n}
}

// beginsLocked sets a pump going that has what it needs. What a cluster says to everybody who asks (a right is missing, a log is not what it was) is not
// asked again before its time; what may be between one node and a cluster is tried at once.
func (p *pump) beginsLocked(reason string, now time.Time) {
	n := p.ill.last
	p.ill.last = nil
	switch {
	case n == nil:
		p.findLocked("", reason, 0, now)
		return
	case !now.Before(n.next), !n.halted && n.cause != CauseRights:
		p.findLocked(n.cause, "trying again: "+n.what, 0, now)
		return
	}
	s := StateRetrying
	if n.halted {
		s = StateHalted
	}
	p.voidLocked()
	p.becomeLocked(s, n.cause, n.what, now)
	p.laterLocked(n.next.Sub(now), now)
	if left, ok := p.lines.next(now); ok {
		p.link.log.Warn("trouble of the owner before", "pump", p.id.String(), "cause", string(n.cause), "since", n.since, "attempts", n.attempts,
			"detail", n.what, "noted_by", n.writer, "left_out", left)
	}
}
