package gossip

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Limits of all settings together. A proposal is refused where they are reached; a merge takes twice as much, because two halves of
// a fabric that was split may both have come close.
const (
	MaxKeys  = 100_000
	MaxBytes = 32 << 20 // of the encoded changes
)

const (
	// keptChanges and keptBytes bound the history: changes that give no key its value are kept while fewer, and smaller, are newer.
	keptChanges = 1000
	keptBytes   = 4 << 20
	// maxAhead is how far a change's version may be ahead of this node's clock. An hour's skew has to work; a clock that is years
	// ahead would win against everybody for as long.
	maxAhead = 24 * time.Hour
	// maxNodeBytes is what a topology allows a node's name.
	maxNodeBytes = 64
	// maxNamed bounds what one error names.
	maxNamed = 10
)

// ErrFull is wrapped by the error of a write or a merge beyond the limits of all settings together.
var ErrFull = errors.New("there is no room for more settings")

// Value is what a key has now.
type Value struct {
	Key     string
	Value   []byte
	Deleted bool // the topology file counts
	// Version, Author and Reason are of the change that wrote it. Version is zero where nobody ever did.
	Version        Time
	Author, Reason string
}

// Settings are all changes that this node knows of: a set that only grows, but for changes that mean nothing any more. Nodes with
// the same set have the same values, in whatever order they heard of it. It is safe for concurrent use; what it returns must not
// be written to.
type Settings struct {
	clock *Clock

	mu      sync.Mutex
	all     map[Time]*kept
	order   []*kept            // by version
	byKey   map[string][]write // by version; the last gives the key its value
	bytes   int                // of all changes
	digest  digest
	changed chan struct{}
}

// kept is a change in the set.
type kept struct {
	Change
	bytes int // encoded
	wins  int // how many keys it gives their value
}

// write is one entry of a change in the set.
type write struct {
	*kept
	at int // of Entries
}

func (w write) value() Value {
	e := w.Entries[w.at]
	return Value{Key: e.Key, Value: e.Value, Deleted: e.Deleted, Version: w.Version, Author: w.Author, Reason: w.Reason}
}

// NewSettings returns settings without any change, whose versions come from a node's clock.
func NewSettings(clock *Clock) *Settings {
	return &Settings{clock: clock, all: make(map[Time]*kept), byKey: make(map[string][]write), changed: make(chan struct{})}
}

// Propose writes a change under a new version, which is later than all that this node knows of, and returns it with that. It is
// refused as a whole, with an error that wraps [ErrConflict], if any key has another version than its entry's Base.
func (s *Settings) Propose(c Change) (Change, error) {
	if !c.Version.IsZero() {
		return Change{}, fmt.Errorf("propose a change: it has the version %v already", c.Version)
	}
	if err := c.Check(); err != nil {
		return Change{}, fmt.Errorf("propose a change: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conflictsLocked(c); err != nil {
		return Change{}, err
	}
	c = clone(c)
	c.Version = s.clock.Now()
	size := encodedBytes(c)
	if size > MaxChangeBytes {
		return Change{}, fmt.Errorf("propose a change: it has %d bytes, the limit is %d: make several of it", size, MaxChangeBytes)
	}
	if err := s.roomLocked(c, size, 1); err != nil {
		return Change{}, fmt.Errorf("propose a change: %w", err)
	}
	s.addLocked(&kept{Change: c, bytes: size})
	s.settleLocked()
	return c, nil
}

func clone(c Change) Change {
	c.Entries = slices.Clone(c.Entries)
	for i := range c.Entries {
		c.Entries[i].Value = slices.Clone(c.Entries[i].Value)
	}
	return c
}

// conflictsLocked names all keys that somebody else wrote since the author looked.
func (s *Settings) conflictsLocked(c Change) error {
	var all []error
	for _, e := range c.Entries {
		now, _ := s.getLocked(e.Key)
		if now.Version == e.Base {
			continue
		}
		switch {
		case len(all) == maxNamed:
			return fmt.Errorf("%w; and more", errors.Join(all...))
		case now.Version.Compare(e.Base) < 0:
			all = append(all, fmt.Errorf("setting %.100q: %w: the version %v, which you saw, is not known here yet; try again", e.Key, ErrConflict, e.Base))
		default:
			all = append(all, fmt.Errorf("setting %.100q: %w: %s; look at it and try again", e.Key, ErrConflict, now.by()))
		}
	}
	return errors.Join(all...)
}

// by says who wrote a value, when, and why.
func (v Value) by() string {
	return written(v.Author, v.Reason, v.Version)
}

func written(author, reason string, version Time) string {
	who := cmp.Or(author, "somebody")
	if reason != "" {
		reason = fmt.Sprintf(" (%s)", reason)
	}
	return fmt.Sprintf("%s wrote it%s at %s in %v", who, reason, time.UnixMilli(version.Wall).UTC().Format(time.RFC3339), version)
}

// roomLocked refuses what goes beyond the limits, times a factor.
func (s *Settings) roomLocked(c Change, size, factor int) error {
	keys := len(s.byKey)
	for _, e := range c.Entries {
		if s.byKey[e.Key] == nil {
			keys++
		}
	}
	switch {
	case keys > factor*MaxKeys && keys > len(s.byKey):
		return fmt.Errorf("%w: there would be %d keys, the limit is %d", ErrFull, keys, factor*MaxKeys)
	case s.bytes+size > factor*MaxBytes:
		return fmt.Errorf("%w: they would have %d bytes, the limit is %d", ErrFull, s.bytes+size, factor*MaxBytes)
	}
	return nil
}

// Merge takes changes over from elsewhere and returns those that were new here and are kept. It leaves out, and names in the
// error, those that no node may have written; the others are taken all the same.
func (s *Settings) Merge(changes ...Change) (taken []Change, err error) {
	var bad []error
	s.mu.Lock()
	defer s.mu.Unlock()
	var added []*kept
	unsettled := 0
	for _, c := range changes {
		if unsettled > keptBytes {
			s.settleLocked() // so that what is about to be pruned takes no room
			unsettled = 0
		}
		k, err := s.admitLocked(c)
		switch {
		case err != nil && len(bad) < maxNamed:
			bad = append(bad, err)
		case k != nil:
			s.addLocked(k)
			added = append(added, k)
			unsettled += k.bytes
		}
	}
	if len(added) > 0 {
		s.settleLocked()
	}
	for _, k := range added {
		if s.all[k.Version] == k {
			taken = append(taken, k.Change)
		}
	}
	return taken, errors.Join(bad...)
}

// admitLocked checks a change of another node; nil without an error if it is there already.
func (s *Settings) admitLocked(c Change) (*kept, error) {
	now := s.clock.now()
	switch {
	case c.Version.Wall <= 0 || c.Version.Node == "" || len(c.Version.Node) > maxNodeBytes:
		return nil, fmt.Errorf("take change %.200v over: this is no version", c.Version)
	case c.Version.Wall > now.Add(maxAhead).UnixMilli():
		ahead := time.Duration(min(c.Version.Wall-now.UnixMilli(), 1e11)) * time.Millisecond
		return nil, fmt.Errorf("take change %v over: it is %v ahead of this node's clock, the limit is %v; look at the clocks of node %q and of this one",
			c.Version, ahead.Round(time.Minute), maxAhead, c.Version.Node)
	}
	old := s.all[c.Version]
	if old != nil && c.Author == old.Author && c.Reason == old.Reason && c.Undoes == old.Undoes && sameEntries(c.Entries, old.Entries) {
		return nil, nil
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("take change %v over: %w", c.Version, err)
	}
	size := encodedBytes(c)
	if size > MaxChangeBytes {
		return nil, fmt.Errorf("take change %v over: it has %d bytes, the limit is %d", c.Version, size, MaxChangeBytes)
	}
	s.clock.See(c.Version)
	// Two changes of one version come from two nodes with one name. All have to choose the same.
	if old != nil && bytes.Compare(EncodeChange(nil, c), EncodeChange(nil, old.Change)) < 0 {
		return nil, nil
	}
	if err := s.roomLocked(c, size, 2); err != nil {
		return nil, fmt.Errorf("take change %v over: %w", c.Version, err)
	}
	if old != nil {
		s.dropLocked(old)
	}
	return &kept{Change: clone(c), bytes: size}, nil
}

// addLocked puts a change into the set; settleLocked has to follow.
func (s *Settings) addLocked(k *kept) {
	s.all[k.Version] = k
	s.order = append(s.order, k)
	s.bytes += k.bytes
	s.digest.flip(k.Version)
	for i, e := range k.Entries {
		list := s.byKey[e.Key]
		at, _ := find(list, k.Version)
		w := write{k, i}
		if at == len(list) {
			if at > 0 {
				list[at-1].wins--
				s.digest.value(list[at-1].value())
			}
			k.wins++
			s.digest.value(w.value())
		}
		s.byKey[e.Key] = slices.Insert(list, at, w)
	}
}

// find is where the write of a version is, or would be.
func find(list []write, v Time) (at int, found bool) {
	return slices.BinarySearchFunc(list, v, func(w write, v Time) int { return w.Version.Compare(v) })
}

// dropLocked takes a change out of the set.
func (s *Settings) dropLocked(k *kept) {
	delete(s.all, k.Version)
	s.order = slices.DeleteFunc(s.order, func(o *kept) bool { return o == k })
	s.forgetLocked(k)
}

// forgetLocked takes a change out of everything but all and order.
func (s *Settings) forgetLocked(k *kept) {
	s.bytes -= k.bytes
	s.digest.flip(k.Version)
	for _, e := range k.Entries {
		list := s.byKey[e.Key]
		at, _ := find(list, k.Version)
		last := at == len(list)-1
		if last {
			s.digest.value(list[at].value())
		}
		list = slices.Delete(list, at, at+1)
		if s.byKey[e.Key] = list; len(list) == 0 {
			delete(s.byKey, e.Key)
		} else if last {
			list[at-1].wins++
			s.digest.value(list[at-1].value())
		}
	}
}

// settleLocked orders what was added, prunes, and tells who waits.
//
// What is kept depends only on what is newer, and everything newer than what is kept is kept too, except for what gives no key its
// value; so it does not matter in which order nodes merge and prune.
func (s *Settings) settleLocked() {
	byVersion := func(a, b *kept) int { return a.Version.Compare(b.Version) }
	if !slices.IsSortedFunc(s.order, byVersion) {
		slices.SortFunc(s.order, byVersion)
	}
	newer, bytes, from := 0, 0, len(s.order)
	for ; from > 0 && newer < keptChanges && bytes < keptBytes; from-- {
		newer++
		bytes += s.order[from-1].bytes
	}
	for _, k := range s.order[:from] {
		if k.wins == 0 {
			delete(s.all, k.Version)
			s.forgetLocked(k)
		}
	}
	if len(s.all) < len(s.order) {
		s.order = slices.DeleteFunc(s.order, func(k *kept) bool { return s.all[k.Version] != k })
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Superseded are those of some changes that nobody needs any more: they are not kept here, and each of their keys was written again
// by a change that is.
func (s *Settings) Superseded(changes []Change) (versions []Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		counts := slices.ContainsFunc(c.Entries, func(e Entry) bool {
			list := s.byKey[e.Key]
			return len(list) == 0 || list[len(list)-1].Version.Compare(c.Version) <= 0
		})
		if s.all[c.Version] == nil && !counts {
			versions = append(versions, c.Version)
		}
	}
	return versions
}

// Changed returns a channel that is closed at the next change. Take it before looking at the settings, then nothing is missed.
func (s *Settings) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Get returns what a key has now; false if it was never set. A key that was taken back is there, as Deleted, with the version that
// the next write needs as its Base.
func (s *Settings) Get(key string) (Value, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.getLocked(key)
}

func (s *Settings) getLocked(key string) (Value, bool) {
	list := s.byKey[key]
	if len(list) == 0 {
		return Value{Key: key}, false
	}
	return list[len(list)-1].value(), true
}

// All returns what every key has now, also those that were taken back, by key.
func (s *Settings) All() []Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Value, 0, len(s.byKey))
	for _, key := range slices.Sorted(maps.Keys(s.byKey)) {
		v, _ := s.getLocked(key)
		out = append(out, v)
	}
	return out
}
