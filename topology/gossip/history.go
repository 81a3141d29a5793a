package gossip

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Past is a change with what it did.
type Past struct {
	Change Change
	// Effects has one for each entry, in their order.
	Effects []Effect
	// UndoneBy is the change that took it back; zero for none.
	UndoneBy Time
}

// Effect is what an entry did to its key.
type Effect struct {
	// Before is what the key had; its Version is zero where nobody had set it. It means nothing where Forgotten is set: what was
	// there is not kept any more.
	Before    Value
	Forgotten bool
	// Conflict: the author had not seen Before.
	Conflict bool
	// Since is the next change that wrote the key; zero: the key still has the entry's value.
	Since Time
}

// History returns the newest changes, the newest first; all that are kept if limit is 0 or less.
func (s *Settings) History(limit int) []Past {
	s.mu.Lock()
	defer s.mu.Unlock()
	undone := make(map[Time]Time)
	for _, k := range s.order {
		if !k.Undoes.IsZero() {
			undone[k.Undoes] = k.Version
		}
	}
	if limit <= 0 || limit > len(s.order) {
		limit = len(s.order)
	}
	out := make([]Past, 0, limit)
	for _, k := range slices.Backward(s.order[len(s.order)-limit:]) {
		p := Past{Change: k.Change, UndoneBy: undone[k.Version]}
		for _, e := range k.Entries {
			p.Effects = append(p.Effects, s.effectLocked(k, e))
		}
		out = append(out, p)
	}
	return out
}

func (s *Settings) effectLocked(k *kept, e Entry) Effect {
	list := s.byKey[e.Key]
	at, _ := find(list, k.Version)
	f := Effect{Before: Value{Key: e.Key}}
	if at > 0 {
		f.Before = list[at-1].value()
	}
	// Who saw something newer than what is kept saw what was pruned since, or what did not arrive here yet.
	order := e.Base.Compare(f.Before.Version)
	f.Forgotten, f.Conflict = order > 0, order < 0
	if at+1 < len(list) {
		f.Since = list[at+1].Version
	}
	return f
}

// Undo makes the proposal that takes a change back; its author and reason are still to be given. It is refused, and the later
// change named, if one of the keys was written since.
func (s *Settings) Undo(version Time) (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.all[version]
	if k == nil {
		return Change{}, fmt.Errorf("undo %v: no change of that version is kept; see the history", version)
	}
	back := Change{Undoes: version}
	var bad []error
	for _, e := range k.Entries {
		f := s.effectLocked(k, e)
		switch {
		case len(bad) == maxNamed:
			return Change{}, fmt.Errorf("undo %v: %w; and more", version, errors.Join(bad...))
		case !f.Since.IsZero():
			now, _ := s.getLocked(e.Key)
			bad = append(bad, fmt.Errorf("setting %.100q was changed since: %s; undo that first", e.Key, now.by()))
		case f.Forgotten:
			bad = append(bad, fmt.Errorf("what setting %.100q had before is not kept any more; set it", e.Key))
		}
		back.Entries = append(back.Entries, Entry{
			Key: e.Key, Value: f.Before.Value, Deleted: f.Before.Deleted || f.Before.Version.IsZero(), Base: version,
		})
	}
	if len(bad) > 0 {
		return Change{}, fmt.Errorf("undo %v: %w", version, errors.Join(bad...))
	}
	return back, nil
}

// ParseTime reads what [Time.String] writes.
func ParseTime(text string) (Time, error) {
	wall, rest, ok := strings.Cut(text, ".")
	counter, node, also := strings.Cut(rest, "@")
	t := Time{Node: node}
	var bad error
	t.Wall, bad = strconv.ParseInt(wall, 10, 64)
	c, worse := strconv.ParseUint(counter, 10, 32)
	t.Counter = uint32(c)
	if !ok || !also || node == "" || len(node) > maxNodeBytes || errors.Join(bad, worse) != nil || t.Wall < 0 || t.String() != text {
		return Time{}, fmt.Errorf("%.100q is no version; write it as the history shows it, such as 1767225600000.0@eu-1", text)
	}
	return t, nil
}
