package checker

import "fmt"

// Report is the verdict on all that was added so far. It can be asked for again.
func (t *Target) Report() Report {
	out := t.report
	for rule := range out.Findings {
		// A copy, so that what is appended below is not in the next report.
		out.Findings[rule].Examples = append([]Example(nil), out.Findings[rule].Examples...)
	}
	t.lives(&out)
	t.translated(&out)
	torn := t.torn()
	for i := range t.src.entries.len() {
		t.account(&out, uint32(i), torn)
	}
	return out
}

// lives judges what the ledger says of topics that were made anew: of each that was, if something of it and of a later life is here, and of
// no other.
func (t *Target) lives(out *Report) {
	for i, p := range t.src.places {
		_, told := t.ledger.left(p, 0)
		find := func(detail string) {
			out.add(Dishonest, t.cfg.Examples, Example{"", p.origin, p.topic, p.partition, -1, -1, detail})
		}
		here := &t.places[i]
		switch {
		case told && !t.src.over(p):
			find("in the ledger as made anew, and it was not")
		case !told && here.expected && here.high >= 0 && t.src.over(p) && p.life < *here.latest:
			find(fmt.Sprintf("made anew after life %d, of which records are there, as are later ones, and not in the ledger", p.life))
		}
	}
}

// rested reports whether links had the time to copy everything.
func (t *Target) rested() bool { return t.cfg.StallAfter > 0 && t.cfg.Idle >= t.cfg.StallAfter }

// torn are the transactions of which some records are here and some are not, by number: none of them as long as copying goes on.
func (t *Target) torn() map[uint32]bool {
	if !t.cfg.Complete && !t.rested() {
		return nil
	}
	seen, missing := map[uint32]bool{}, map[uint32]bool{}
	for i := range t.src.entries.len() {
		e, s := t.src.entries.at(uint32(i)), t.seen.at(uint32(i))
		if e.txn == 0 || !t.places[e.place].expected {
			continue
		}
		switch {
		case s.count > 0:
			seen[e.txn] = true
		case s.astray == 0 && !t.excused(e, s) && !t.src.forgotten(e) && !(e.unread && t.cfg.Compacted):
			missing[e.txn] = true
		}
	}
	for txn := range missing {
		if !seen[txn] {
			delete(missing, txn)
		}
	}
	return missing
}

// declared reports whether the ledger says that an entry is missing: where a hub has a record more than once, of every copy there.
func (t *Target) declared(e *entry, s *sight) bool {
	missing := s.missing
	if e.count == 1 {
		missing &^= s.kept
	}
	return missing != 0 || t.ledger.covers(t.src.places[e.place], Missing, e.offset)
}

// excused reports whether the ledger says that an entry is missing, or may be.
func (t *Target) excused(e *entry, s *sight) bool {
	at := t.src.places[e.place]
	left, _ := t.ledger.left(at, e.offset)
	return left && t.src.over(at) || s.perhaps != 0 || t.declared(e, s) || t.ledger.covers(at, Perhaps, e.offset)
}

// account judges whether an entry of the truth is there as often as it should be.
func (t *Target) account(out *Report, i uint32, torn map[uint32]bool) {
	e, s := t.src.entries.at(i), t.seen.at(i)
	here, from := &t.places[e.place], t.src.places[e.place]
	if !here.expected {
		return
	}
	out.Expected++
	find := func(rule Rule, detail string) {
		out.add(rule, t.cfg.Examples, Example{t.src.names.get(e.uid), from.origin, from.topic, from.partition, e.offset, -1, detail})
	}
	if detail := t.survived(out, e, s); detail != "" {
		find(Dishonest, detail)
	}
	if s.count == 0 && (e.unread && t.cfg.Compacted || t.src.forgotten(e)) {
		out.Expected--
		return
	}
	if int(e.count) <= int(s.count)+int(s.astray) {
		if t.declared(e, s) && s.count > 0 {
			find(Dishonest, "in the ledger as missing")
		}
		return
	}
	detail := "not on the target"
	switch {
	case s.count > 0:
		detail = fmt.Sprintf("%d times, %d at the source", s.count, e.count)
	case e.unread:
		detail = "acknowledged, neither on the target nor in the source log"
	}
	switch {
	case t.excused(e, s):
		out.Declared++
	case s.count == 0 && torn[e.txn]:
		find(Torn, "not on the target, and others of its transaction are")
	case t.overtaken(i), t.cfg.Complete:
		find(Lost, detail)
	case t.rested():
		find(Stall, fmt.Sprintf("%s after %v", detail, t.cfg.Idle))
	default:
		out.Pending++
	}
}

// overtaken reports whether a record that is later than all of an entry is here.
func (t *Target) overtaken(i uint32) bool {
	e, s := t.src.entries.at(i), t.seen.at(i)
	here := &t.places[e.place]
	last := e.offset
	if s.count > 0 && e.count > 1 {
		last = t.src.lastOf[i]
	}
	return last < here.high || t.src.places[e.place].life < *here.latest
}

// survived counts an entry that the source lost, and says what is wrong with what the ledger says of it, or "".
func (t *Target) survived(out *Report, e *entry, s *sight) string {
	told := t.ledger.covers(t.src.places[e.place], Survived, e.offset)
	switch {
	case told && !t.src.forgotten(e):
		return "in the ledger as lost by the source, which has it"
	case told && s.count == 0:
		return "in the ledger as kept although the source lost it, and not there"
	case told:
		out.Survivors++
		out.DeclaredSurvivors++
	case s.count > 0 && t.src.forgotten(e):
		out.Survivors++
		return "lost by the source and kept, and not in the ledger"
	}
	return ""
}
