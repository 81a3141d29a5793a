package broker

import (
	"log/slog"
	"sync"
	"sync/atomic"
)

// fresh is a value that is made anew from the cluster's references whenever it is asked for, so that a rotated secret or certificate
// is used by the next connection. What cannot be made at the moment (a file that is being written) keeps its last good value.
type fresh[T any] struct {
	notes *notes
	field string // of the topology file
	load  func() (T, error)

	mu    sync.Mutex // not held while loading
	good  T
	stale bool
	begun int // loads that began
	taken int // the load that good, or the lack of it, is of
}

// notes is where a profile says what changed under it; the first cluster that is opened by the profile gives its log.
type notes struct{ log atomic.Pointer[slog.Logger] }

// newFresh makes the first value, which has to be good.
func newFresh[T any](n *notes, field string, load func() (T, error)) (*fresh[T], error) {
	v, err := load()
	if err != nil {
		return nil, err
	}
	return &fresh[T]{notes: n, field: field, load: load, good: v}, nil
}

// get is the value as it is now.
func (f *fresh[T]) get() T {
	f.mu.Lock()
	f.begun++
	mine := f.begun
	f.mu.Unlock()
	v, err := f.load()
	f.mu.Lock()
	if mine < f.taken { // it took so long that what it read may have been replaced since
		defer f.mu.Unlock()
		return f.good
	}
	f.taken = mine
	turned := f.stale != (err != nil)
	f.stale = err != nil
	if err == nil {
		f.good = v
	}
	v = f.good
	f.mu.Unlock()
	log := f.notes.log.Load()
	switch {
	case !turned || log == nil:
	case err != nil:
		log.Warn("a secret cannot be read again; its last value stays in use", "field", f.field, "error", err)
	default:
		log.Info("a secret can be read again; its value is in use", "field", f.field)
	}
	return v
}
