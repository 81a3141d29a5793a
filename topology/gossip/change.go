package gossip

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of one change: what is gossiped has to stay small.
const (
	MaxKeyBytes    = 512
	MaxValueBytes  = 64 << 10
	MaxReasonBytes = 500
	MaxAuthorBytes = 200
	MaxChangeBytes = 512 << 10 // encoded, all entries of one change
	MaxEntries     = 5000      // of one change
)

// Change is what one verb changed: entries that are written together, or not at all. It never changes once it has a version.
type Change struct {
	// Version orders all changes of a fabric, and names this one.
	Version Time
	// Author is who asked for it, and Reason why; both for people.
	Author, Reason string
	// Undoes is the version of the change that this one takes back; zero for none.
	Undoes  Time
	Entries []Entry
}

// Entry is the new value of one key.
type Entry struct {
	Key     string
	Value   []byte
	Deleted bool // taken back: the topology file counts again
	// Base is the version of the key's value that the author saw; zero: the key was never set. A merge that finds another one
	// there notes a conflict; the later version wins all the same.
	Base Time
}

// ErrConflict is wrapped by the error of a write whose base is no longer the current version of a key.
var ErrConflict = errors.New("the setting was changed meanwhile")

// Check returns what no node may write or take over.
func (c Change) Check() error {
	switch {
	case len(c.Entries) == 0:
		return errors.New("a change has no entries")
	case len(c.Entries) > MaxEntries:
		return fmt.Errorf("a change has %d entries, the limit is %d: make several of it", len(c.Entries), MaxEntries)
	case len(c.Author) > MaxAuthorBytes, len(c.Reason) > MaxReasonBytes:
		return fmt.Errorf("author and reason of a change have %d and %d bytes, the limits are %d and %d", len(c.Author), len(c.Reason), MaxAuthorBytes, MaxReasonBytes)
	case !utf8.ValidString(c.Author) || !utf8.ValidString(c.Reason):
		return errors.New("author and reason of a change must be UTF-8")
	}
	var all error
	seen := make(map[string]bool, len(c.Entries))
	for _, e := range c.Entries {
		all = errors.Join(all, e.check())
		if seen[e.Key] {
			all = errors.Join(all, fmt.Errorf("setting %.100q is twice in one change", e.Key))
		}
		seen[e.Key] = true
	}
	return all
}

func (e Entry) check() error {
	switch {
	case e.Key == "" || len(e.Key) > MaxKeyBytes:
		return fmt.Errorf("a setting's key has %d bytes, want 1 to %d", len(e.Key), MaxKeyBytes)
	case !utf8.ValidString(e.Key):
		return fmt.Errorf("the setting's key %.100q is not UTF-8", e.Key)
	case len(e.Value) > MaxValueBytes:
		return fmt.Errorf("the value of setting %.100q has %d bytes, the limit is %d", e.Key, len(e.Value), MaxValueBytes)
	}
	return nil
}
