package mirror

import (
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/topology"
)

// What is wrong with a log, and what becomes of a pump by that: this file is pure. resolve.go does it.

// damage is what a search found wrong with one of the two logs.
type damage struct {
	halt     *haltError
	target   bool     // of the target's log; else of the source's
	anew     bool     // the topic was deleted and created again
	short    bool     // the target has own records behind all that the checkpoint and the source know
	at       int64    // where what is there now begins to differ from what was there
	topicID  [16]byte // of the log as it is now
	previous [16]byte // and as it was
}

// Error says what the halted pump says.
func (d *damage) Error() string { return d.halt.Error() }

// Unwrap makes it the halt that it is while nobody decides otherwise.
func (d *damage) Unwrap() error { return d.halt }

// damageIn finds what a search has found wrong.
func damageIn(err error) (*damage, bool) {
	var d *damage
	return d, errors.As(err, &d)
}

// recreated is the damage of a topic that is another one by now.
func recreated(target bool, topic, cluster string, was, is [16]byte) *damage {
	return &damage{target: target, anew: true, topicID: is, previous: was,
		halt: &haltError{"recreated", fmt.Sprintf("topic %s was deleted and created again on %s", topic, cluster)}}
}

// goesOn reports whether the policy lets a pump go on behind the damage without anybody's word, and the setting that says so;
// empty: none was asked.
func (d *damage) goesOn(p topology.Policy) (policy string, ok bool) {
	switch {
	case d.anew:
		return string(topology.NewIncarnation), p.Recreated == topology.NewIncarnation
	case d.target: // what the source still has can be copied again, and waiting would only let it go
		return "", true
	}
	return string(topology.KeepTruncated), p.TruncatedSource == topology.KeepTruncated
}

// mapped is what of the map lies from a source offset on.
type mapped struct {
	records     int64
	first, last int64 // source offsets; last < first: none
	to, until   int64 // target offsets, both included
}

// mappedFrom counts the records that the map holds from a source offset on.
func mappedFrom(runs []Run, source int64) mapped {
	h := mapped{last: -1, until: -1}
	for _, r := range runs {
		r = r.slice(source, max(source, r.sourceEnd()))
		if r.Records <= 0 {
			continue
		}
		if h.records == 0 {
			h.first, h.to = r.Source, r.Target
		}
		h.first, h.to = min(h.first, r.Source), min(h.to, r.Target)
		h.last, h.until = max(h.last, r.sourceEnd()-1), max(h.until, r.targetEnd()-1)
		h.records += r.Records
	}
	return h
}

// targetLoss is what a target has lost that had records up to a target offset only, and what is to be done about it.
type targetLoss struct {
	first, last int64 // source offsets of the lost records; last < first: none
	gone        int64 // lost, and deleted at the source by now
	again       int64 // lost, and copied again
	doubled     int64 // not lost, and copied again: the target did not hold them in the source's order
	from        int64 // where copying goes on at the source
}

// lossOf judges a target that has lost everything from target offset at on. The source begins at start; next is where the pump was.
func lossOf(runs []Run, at, start, next int64) targetLoss {
	l := targetLoss{first: next, last: -1, from: next}
	lost := func(r Run) Run { return r.slice(r.Source+max(0, at-r.Target), r.sourceEnd()) }
	for _, r := range runs {
		if r = lost(r); r.Records > 0 {
			l.first, l.last = min(l.first, r.Source), max(l.last, r.sourceEnd()-1)
		}
	}
	if l.last < l.first {
		return l
	}
	l.from = max(l.first, min(start, next)) // what the source deleted behind next was not copied: whoever begins there says so
	for _, r := range runs {
		gone := lost(r)
		if gone.Records > 0 {
			l.gone += max(0, gone.slice(gone.Source, l.from).Records)
			l.again += max(0, gone.slice(l.from, gone.sourceEnd()).Records)
		}
		kept := r.slice(r.Source, min(r.sourceEnd(), r.Source+max(0, at-r.Target)))
		if kept.Records > 0 {
			l.doubled += max(0, kept.slice(l.from, kept.sourceEnd()).Records)
		}
	}
	return l
}

// lastCommon finds where two logs begin to differ that are the same up to some place: the greatest offset in [least, most] for which
// alike says that what lies right before it is the same. It asks few times, also when that is far back.
func lastCommon(least, most int64, alike func(int64) (bool, error)) (int64, error) {
	good, bad := most, int64(-1)
	for step := int64(1); good > least; step *= 2 {
		ok, err := alike(good)
		if err != nil {
			return 0, err
		}
		if ok {
			break
		}
		bad, good = good, max(least, good-step)
	}
	for bad >= 0 && bad-good > 1 {
		middle := good + (bad-good)/2
		ok, err := alike(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}
