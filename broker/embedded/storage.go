package embedded

import (
	"sync"
	"sync/atomic"
	"time"
)

// diskCheckInterval bounds the age of the answer about free space. Between two
// answers the bytes let through are counted against the last one, so only
// another process can use up the disk unseen, and MinFreeBytes is the reserve
// for that.
const diskCheckInterval = 100 * time.Millisecond

// storage judges whether a request may be stored: the disk has room, and every
// earlier write succeeded.
type storage struct {
	dir      string // empty: in memory, always fine
	minFree  int64
	ask      func(dir string) (int64, error)
	failed   atomic.Bool   // a write was lost: nothing may be acknowledged
	failures chan struct{} // capacity 1: wakes the reopening

	mu      sync.Mutex
	free    int64 // as of asked, less what was let through since
	asked   time.Time
	unknown bool
}

// allows reports whether a request of n bytes may be stored, and counts it.
func (s *storage) allows(n int) bool {
	if s.dir == "" {
		return true
	}
	if s.failed.Load() {
		return false
	}
	free, ok := s.freeBytes()
	if !ok || free-int64(n) < s.minFree {
		return false
	}
	s.mu.Lock()
	s.free -= int64(n)
	s.mu.Unlock()
	return true
}

// freeBytes is the free space as of at most diskCheckInterval ago; not ok if
// the file system does not answer, which is as good as full. Two callers may
// ask at once: that is cheaper than holding the mutex while asking.
func (s *storage) freeBytes() (int64, bool) {
	s.mu.Lock()
	free, fresh, ok := s.free, time.Since(s.asked) < diskCheckInterval && !s.asked.IsZero(), !s.unknown
	s.mu.Unlock()
	if fresh {
		return free, ok
	}
	free, err := s.ask(s.dir)
	s.mu.Lock()
	s.free, s.asked, s.unknown = free, time.Now(), err != nil
	s.mu.Unlock()
	return free, err == nil
}

// fail is called when the disk did not take a write.
func (s *storage) fail() {
	s.failed.Store(true)
	select {
	case s.failures <- struct{}{}:
	default:
	}
}

// reset is called before kfake opens the directory anew.
func (s *storage) reset() {
	select {
	case <-s.failures:
	default:
	}
	s.failed.Store(false)
}
