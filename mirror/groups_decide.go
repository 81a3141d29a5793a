package mirror

// A group's position in a partition is kept alike on the two clusters of a link: where it was committed last, there it leads, and the other side gets
// its translation. So a group may move to the other cluster, go on there, and come back. What is known of a position is what each side says
// now, and the pair that was last seen alike (the note): a side that differs from it has moved.
//
//	                 neither side moved ─▶ nothing; but a side that has lost it (positions without members expire) gets it again;
//	                                       where the whole group is gone at the source, it may follow on the target
//	                 one side moved     ─▶ that side leads
//	both sides moved ─┬─ they are alike ─▶ note
//	                  ├─ one is active  ─▶ that side leads      (active: the group has members there)
//	                  ├─ both are       ─▶ split: left alone, and said
//	                  └─ none is        ─▶ the later commit leads; where times are not known, the one from which nothing is skipped
//
// The side that does not lead is set, unless the group is active there, or the leading position lies ahead of what was copied: then it waits.

// groupPosition is a committed position of a group in a partition.
type groupPosition struct {
	offset   int64
	metadata string
	time     int64 // ms since 1970 when it was committed; -1 unknown
}

// groupSide is what one cluster says of a group's position in one partition.
type groupSide struct {
	at     *groupPosition // nil: none
	active bool           // the group has members there
	// there is where the position lies on the other cluster; ok is false while it lies ahead of what was copied, or cannot be told.
	there int64
	ok    bool
	err   error // why it cannot be told, if that is more than not having been copied yet
}

// groupPair is two positions that were alike, and when that was noted, in ms since 1970.
type groupPair struct{ source, target, when int64 }

// groupDo is what to do about a position.
type groupDo int

const (
	groupNothing   groupDo = iota
	groupNote              // both sides are alike, and it is not noted
	groupForget            // neither side has it any more
	groupSetTarget         // the source leads
	groupSetSource         // the target leads
	groupWaits             // for what is not copied yet
	groupBlocked           // the side that would be set has members
	groupSplit             // both sides have members, and each goes its own way
	groupDelete            // the group is gone at the source, and was only brought to the target
)

var groupDoNames = [...]string{"nothing", "note", "forget", "set-target", "set-source", "waits", "blocked", "split", "delete"}

func (d groupDo) String() string { return groupDoNames[d] }

// groupCase is all that is known of a group's position in one partition.
type groupCase struct {
	source, target groupSide
	noted          *groupPair // nil: they were never seen alike
	// both: what began at the target comes to the source too: there is a link the other way that is for it, or the group is at the source as well, in other
	// partitions, and goes on in this one when it comes back.
	both bool
	// follows: the link takes what it has set away again where the group is gone at the source, which gone says: it has no position there at all.
	follows, gone bool
}

// still reports whether there is nothing to decide, whoever has members: neither side has moved or lost the position.
func (c groupCase) still() bool {
	s, t := c.source.at, c.target.at
	switch {
	case c.noted != nil:
		return s != nil && t != nil && s.offset == c.noted.source && t.offset == c.noted.target
	case s == nil:
		return t == nil || !c.both
	}
	return false
}

// decide says what to do, and, of the two that set a position, which.
func (c groupCase) decide() (do groupDo, to groupPosition) {
	s, t := c.source.at, c.target.at
	switch {
	case s == nil && t == nil:
		if c.noted != nil {
			return groupForget, to
		}
		return groupNothing, to
	case s == nil && c.noted == nil:
		if c.both {
			return c.lead(c.target, c.source, groupSetSource)
		}
		return groupNothing, to
	case t == nil && c.noted == nil:
		return c.lead(c.source, c.target, groupSetTarget)
	}
	sourceMoved := s != nil && (c.noted == nil || s.offset != c.noted.source)
	targetMoved := t != nil && (c.noted == nil || t.offset != c.noted.target)
	switch {
	case sourceMoved && targetMoved:
		return c.conflict()
	case sourceMoved:
		return c.lead(c.source, c.target, groupSetTarget)
	case targetMoved, s == nil && c.target.active:
		return c.lead(c.target, c.source, groupSetSource)
	case t == nil:
		return c.lead(c.source, c.target, groupSetTarget)
	case s == nil && c.follows && c.gone:
		return groupDelete, to
	}
	return groupNothing, to // or gone at the source, which is a matter of the whole group, and of the link's policy
}

// conflict is for two sides that have both moved.
func (c groupCase) conflict() (groupDo, groupPosition) {
	s, t := c.source, c.target
	switch {
	case s.ok && s.there == t.at.offset, t.ok && t.there == s.at.offset:
		return groupNote, groupPosition{}
	case s.active && t.active:
		return groupSplit, groupPosition{}
	case s.active:
		return c.lead(s, t, groupSetTarget)
	case t.active:
		return c.lead(t, s, groupSetSource)
	case s.at.time >= 0 && t.at.time >= 0 && s.at.time != t.at.time:
		if s.at.time > t.at.time {
			return c.lead(s, t, groupSetTarget)
		}
		return c.lead(t, s, groupSetSource)
	case !s.ok: // ahead of what was copied: whatever the target has lies before it
		return groupWaits, groupPosition{}
	case s.there < t.at.offset:
		return c.lead(s, t, groupSetTarget)
	}
	return c.lead(t, s, groupSetSource)
}

// lead has the other side follow.
func (c groupCase) lead(leads, follows groupSide, do groupDo) (groupDo, groupPosition) {
	to := groupPosition{offset: leads.there, metadata: leads.at.metadata, time: -1}
	switch {
	case !leads.ok:
		return groupWaits, groupPosition{}
	case follows.at != nil && follows.at.offset == to.offset && follows.at.metadata == to.metadata:
		return groupNote, groupPosition{}
	case follows.active:
		return groupBlocked, groupPosition{}
	}
	return do, to
}
