package mirror

import "maps"

// What is kept alike on both sides is compared item by item: a setting of a topic, a rule, a value of a quota. An item is there with a
// value, or not. Beside the two sides there is the note: what this link last saw equal on both, and whether it put it there. It tells
// which side has changed since, and it is durable, because a node that starts must not take for somebody else's what is ours.

// item is one on one side.
type item struct {
	value string
	there bool
}

// noted is what a link notes of an item.
type noted struct {
	value string
	ours  bool // this link put it on the target
}

// kept says how items of one kind are merged.
type kept struct {
	// adopts: what stood on both sides is the source's, so that it goes with it. Else only what this link added is taken away.
	adopts bool
	// returns: what changes on the target comes to the source over other links, with the same rules. Then the target's changes are
	// left for a while, and where both sides changed one of them wins.
	returns bool
	wins    bool // the source does
}

// deed is what is done about an item.
type deed int

const (
	doNothing deed = iota
	doSet          // the target gets the source's value
	doRemove       // the target's is taken away
	doLeave        // they differ, and stay so
	doAwait        // they differ, and another link may bring the target's value to the source
)

// outcome is what becomes of one item.
type outcome struct {
	do  deed
	why string
	// note is what is noted when it is done; keeps: nothing has to be written.
	note  *noted
	keeps bool
	// back: the target was as it should be, and somebody changed it.
	back bool
}

// merge decides about one item. late: the difference has lasted so long that no other link will bring it.
func (k kept) merge(source, target item, n *noted, late bool) outcome {
	if source.there == target.there && (!source.there || source.value == target.value) {
		return k.alike(source, n)
	}
	base := item{}
	if n != nil {
		base = item{n.value, true}
	}
	if k.returns && base != target && !late {
		if base == source {
			return outcome{do: doAwait, keeps: true, why: "changed on the target; another link brings it to the source"}
		}
		if !k.wins && source.there {
			return outcome{do: doAwait, keeps: true, why: "changed on both sides; another link brings the target's value to the source"}
		}
	}
	if k.returns && base != target && !k.wins && source.there && target.there {
		return outcome{do: doLeave, keeps: true, why: "changed on both sides, and the target's value is the one that counts"}
	}
	if source.there {
		back := n != nil && n.value == source.value
		why := "the source has it"
		if back {
			why = "changed back on the target"
		}
		return outcome{do: doSet, why: why, note: &noted{source.value, true}, back: back}
	}
	switch {
	case n == nil:
		return outcome{do: doLeave, keeps: true, why: "made on the target; the source never had it"}
	case !n.ours && !k.adopts:
		return outcome{do: doLeave, why: "not added by this link"}
	case n.value != target.value:
		return outcome{do: doLeave, why: "gone from the source, but changed on the target since this link set it"}
	}
	return outcome{do: doRemove, why: "gone from the source"}
}

// alike is for an item that is equal on both sides, or on neither.
func (k kept) alike(both item, n *noted) outcome {
	switch {
	case !both.there:
		return outcome{keeps: n == nil}
	case n != nil && n.value == both.value:
		return outcome{note: n, keeps: true}
	case n != nil:
		return outcome{note: &noted{both.value, n.ours}}
	case k.adopts || k.returns:
		return outcome{note: &noted{both.value, false}}
	}
	return outcome{keeps: true}
}

// judged is an item by name with both sides and what becomes of it.
type judged struct {
	name           string
	source, target item
	outcome
}

// mergeAll decides about all items of one subject that either side, or the note, has. late is asked for those that differ.
func (k kept) mergeAll(source, target map[string]string, notes map[string]noted, late func(name string) bool) []judged {
	names := make(map[string]bool, len(source))
	for name := range source {
		names[name] = true
	}
	for name := range target {
		names[name] = true
	}
	for name := range notes {
		names[name] = true
	}
	var out []judged
	for name := range names {
		j := judged{name: name}
		j.source.value, j.source.there = source[name]
		j.target.value, j.target.there = target[name]
		var n *noted
		if at, ok := notes[name]; ok {
			n = &at
		}
		j.outcome = k.merge(j.source, j.target, n, late(name))
		if j.do != doNothing || !j.keeps {
			out = append(out, j)
		}
	}
	return out
}

// renoted is what the notes are after everything of out that may be is done; done says which. changed: they are others than before.
func renoted(notes map[string]noted, all []judged, done func(judged) bool) (next map[string]noted, changed bool) {
	next = maps.Clone(notes)
	for _, j := range all {
		if j.keeps || (j.do == doSet || j.do == doRemove) && !done(j) {
			continue
		}
		before, had := next[j.name]
		switch {
		case j.note == nil && had:
			delete(next, j.name)
			changed = true
		case j.note != nil && (!had || before != *j.note):
			if next == nil {
				next = make(map[string]noted)
			}
			next[j.name] = *j.note
			changed = true
		}
	}
	return next, changed
}
