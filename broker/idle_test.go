package broker

import (
	"testing"
	"time"
)

func TestIdleBuffers_UsesTheLastOneThatFits(t *testing.T) {
	var i idleBuffers
	now := time.Unix(0, 0)
	small, first, last, huge := idleBuffer(1<<20), idleBuffer(3<<20), idleBuffer(4<<20), idleBuffer(9<<20)
	for _, b := range []*buffer{small, first, last, huge} {
		i.give(b, now)
	}
	for k, want := range []*buffer{last, first, nil} {
		if got := i.take(2<<20, now); got != want {
			t.Fatalf("take %d of 2 MB gave %d bytes, want %d: at least what was asked for, at most twice as many, the last used first", k, got.size(), want.size())
		}
	}
	if i.bytes != small.size()+huge.size() || len(i.list) != 2 {
		t.Errorf("%d bytes in %d buffers idle, want %d in 2", i.bytes, len(i.list), small.size()+huge.size())
	}
}

func TestIdleBuffers_AreBounded(t *testing.T) {
	var i idleBuffers
	now := time.Unix(0, 0)
	oldest := idleBuffer(8 << 20)
	i.give(oldest, now)
	for range 2 * idleBytes / (8 << 20) {
		i.give(idleBuffer(8<<20), now)
		if i.bytes > idleBytes {
			t.Fatalf("%d bytes idle, the bound is %d", i.bytes, idleBytes)
		}
	}
	for b := i.take(8<<20, now); b != nil; b = i.take(8<<20, now) {
		if b == oldest {
			t.Fatal("what was idle longest is still there, newer ones were dropped")
		}
	}
	if i.bytes != 0 {
		t.Errorf("%d bytes in an empty list", i.bytes)
	}
}

// TestIdleBuffers_LetGoWhatNobodyNeeds: after a burst the memory goes, and what
// the ordinary load needs stays.
func TestIdleBuffers_LetGoWhatNobodyNeeds(t *testing.T) {
	var i idleBuffers
	now := time.Unix(0, 0)
	for range 6 {
		i.give(idleBuffer(1<<20), now)
	}
	for range 3 {
		now = now.Add(idleSpan)
		for range 2 { // two at a time are in use
			a, b := i.take(1<<20, now), i.take(1<<20, now)
			if a == nil || b == nil {
				t.Fatal("a buffer that was in use a moment ago was let go")
			}
			i.give(a, now)
			i.give(b, now)
		}
	}
	if len(i.list) != 2 || i.bytes != 2<<20 {
		t.Errorf("%d buffers of %d bytes idle, want the 2 in use", len(i.list), i.bytes)
	}
}

func idleBuffer(size int) *buffer { return &buffer{b: make([]byte, 0, size)} }

func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return cap(b.b)
}
