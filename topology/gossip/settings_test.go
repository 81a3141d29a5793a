package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a clock that stands still.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func newSettings(node string, now time.Time) *Settings { return NewSettings(NewClock(node, at(now))) }

// write proposes a change of some keys as somebody who has looked at them.
func (s *Settings) write(t *testing.T, value string, keys ...string) Change {
	t.Helper()
	c := Change{Author: "ana", Reason: "a test"}
	for _, key := range keys {
		now, _ := s.Get(key)
		c.Entries = append(c.Entries, Entry{Key: key, Value: []byte(value), Deleted: value == "", Base: now.Version})
	}
	c, err := s.Propose(c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustMerge(t *testing.T, s *Settings, changes ...Change) []Change {
	t.Helper()
	taken, err := s.Merge(changes...)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// same fails if two nodes do not know the same.
func same(t *testing.T, a, b *Settings) {
	t.Helper()
	if !reflect.DeepEqual(a.All(), b.All()) || a.Hash() != b.Hash() {
		t.Fatalf("values differ:\n%v\n%v", a.All(), b.All())
	}
	if !reflect.DeepEqual(a.Changes(), b.Changes()) || a.Buckets() != b.Buckets() {
		t.Fatalf("the changes that are kept differ: %d and %d", len(a.Changes()), len(b.Changes()))
	}
}

func TestSettings_ProposeIsAllOrNothing(t *testing.T) {
	s := newSettings("eu-1", start)
	first := s.write(t, "1", "a", "b")
	second := s.write(t, "2", "b")
	_, err := s.Propose(Change{Author: "bo", Entries: []Entry{{Key: "a", Value: []byte("3"), Base: first.Version}, {Key: "b", Value: []byte("3"), Base: first.Version}}})
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), `"b"`) || strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want a conflict that names b and not a", err)
	}
	for _, want := range []string{"ana wrote it (a test)", "2026-01-01T00:00:00Z", second.Version.String()} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("the conflict does not say %q: %v", want, err)
		}
	}
	if v, _ := s.Get("a"); string(v.Value) != "1" || v.Version != first.Version {
		t.Errorf("a is %s of %v: half of a refused change was written", v.Value, v.Version)
	}
	ahead := second.Version
	ahead.Wall++
	for _, key := range []string{"b", "c"} {
		_, err := s.Propose(Change{Entries: []Entry{{Key: key, Base: ahead}}})
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "is not known here yet; try again") {
			t.Errorf("a base of %s that did not arrive yet: %v, want a conflict that says so", key, err)
		}
	}
}

func TestSettings_KeepsCopies(t *testing.T) {
	s := newSettings("eu-1", start)
	entries := []Entry{{Key: "a", Value: []byte("1")}}
	if _, err := s.Propose(Change{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	other := Change{Version: Time{Wall: start.UnixMilli(), Counter: 9, Node: "us-1"}, Entries: []Entry{{Key: "b", Value: []byte("1")}}}
	mustMerge(t, s, other)
	entries[0].Value[0], other.Entries[0].Value[0] = 'x', 'x'
	for _, v := range s.All() {
		if string(v.Value) != "1" {
			t.Errorf("%s became %s with the caller's bytes", v.Key, v.Value)
		}
	}
}

func TestSettings_RefusesWhatNobodyMayWrite(t *testing.T) {
	s := newSettings("eu-1", start)
	late := Time{Wall: start.Add(25 * time.Hour).UnixMilli(), Node: "us-1"}
	hour := Time{Wall: start.Add(time.Hour).UnixMilli(), Node: "us-2"}
	one := []Entry{{Key: "k", Value: []byte("v")}}
	for _, tc := range []struct {
		c    Change
		want string
	}{
		{Change{Entries: one}, "no version"},
		{Change{Version: Time{Wall: 1}, Entries: one}, "no version"},
		{Change{Version: Time{Wall: -1, Node: "a"}, Entries: one}, "no version"},
		{Change{Version: Time{Wall: 1, Node: strings.Repeat("n", 65)}, Entries: one}, "no version"},
		{Change{Version: late, Entries: one}, `25h0m0s ahead of this node's clock, the limit is 24h0m0s; look at the clocks of node "us-1"`},
		{Change{Version: Time{Wall: 1<<63 - 1, Node: "us-1"}, Entries: one}, "ahead of this node's clock"},
		{Change{Version: hour}, "no entries"},
		{Change{Version: hour, Entries: slices.Repeat(one, 2)}, "twice"},
		{Change{Version: hour, Entries: []Entry{{Key: "\xff"}}}, "not UTF-8"},
		{Change{Version: hour, Entries: []Entry{{Key: strings.Repeat("k", MaxKeyBytes+1)}}}, "513 bytes"},
		{Change{Version: hour, Entries: []Entry{{Key: "k", Value: make([]byte, MaxValueBytes+1)}}}, "limit is 65536"},
		{Change{Version: hour, Author: strings.Repeat("a", 201), Entries: one}, "author"},
		{Change{Version: hour, Reason: "\xff", Entries: one}, "UTF-8"},
	} {
		taken, err := s.Merge(tc.c)
		if err == nil || len(taken) > 0 || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: took %d, %v; want %q", tc.c.Version, len(taken), err, tc.want)
		}
	}
	if got := s.clock.Now(); got.Wall != start.UnixMilli() {
		t.Errorf("the clock reads %v: a refused change moved it", got)
	}
	taken, err := s.Merge(Change{Version: late, Entries: one}, Change{Version: hour, Entries: one})
	if err == nil || len(taken) != 1 || taken[0].Version != hour {
		t.Errorf("took %v, %v; want the one an hour ahead, and an error for the other", taken, err)
	}
	if after := s.write(t, "mine", "k"); after.Version.Compare(hour) <= 0 || after.Version.Node != "eu-1" {
		t.Errorf("version %v is not behind %v, which was there", after.Version, hour)
	}
	if _, err := s.Propose(Change{Version: hour, Entries: one}); err == nil {
		t.Error("a proposal brought its own version")
	}
	big := Change{}
	for i := range 9 {
		big.Entries = append(big.Entries, Entry{Key: fmt.Sprint(i), Value: make([]byte, MaxValueBytes)})
	}
	if _, err := s.Propose(big); err == nil || !strings.Contains(err.Error(), "make several of it") {
		t.Errorf("a change of 9 × 64 kB: %v", err)
	}
}

// TestSettings_MergeInAnyOrder: union, however it is grouped, repeated and ordered, and wherever it is pruned on the way, gives the
// same set.
func TestSettings_MergeInAnyOrder(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			changes := randomChanges(r)
			whole := newSettings("x", start)
			mustMerge(t, whole, changes...)
			nodes := []*Settings{newSettings("a", start.Add(time.Hour)), newSettings("b", start), newSettings("c", start.Add(-time.Hour))}
			for _, c := range changes {
				mustMerge(t, nodes[r.IntN(len(nodes))], c)
			}
			for range 3 * len(changes) {
				from, to := nodes[r.IntN(len(nodes))], nodes[r.IntN(len(nodes))]
				c := changes[r.IntN(len(changes))]
				if from.Has(c.Version) {
					mustMerge(t, to, c)
				}
			}
			for _, pair := range [][2]int{{2, 0}, {0, 1}, {1, 2}, {1, 0}} {
				mustMerge(t, nodes[pair[1]], nodes[pair[0]].Changes()...)
			}
			for _, n := range nodes {
				same(t, whole, n)
				if again := mustMerge(t, n, whole.Changes()...); len(again) > 0 {
					t.Fatalf("%d changes were new the second time", len(again))
				}
				if again := mustMerge(t, n, changes...); len(again) > 0 {
					t.Fatalf("%d changes that were pruned came back", len(again))
				}
				same(t, whole, n)
			}
		})
	}
}

// randomChanges are enough for both reasons to prune: their number and their bytes.
func randomChanges(r *rand.Rand) (changes []Change) {
	size, number := 10, keptChanges+r.IntN(300)
	if r.IntN(2) == 0 {
		size, number = keptBytes/100, 150+r.IntN(100)
	}
	keys := 1 + r.IntN(300)
	seen := make(map[Time]bool)
	for len(changes) < number {
		c := Change{Version: Time{Wall: start.UnixMilli() + r.Int64N(1000), Counter: r.Uint32N(3), Node: string(rune('a' + r.IntN(4)))}}
		if seen[c.Version] {
			continue
		}
		seen[c.Version] = true
		for _, key := range r.Perm(keys)[:1+r.IntN(min(3, keys))] {
			c.Entries = append(c.Entries, Entry{Key: fmt.Sprint(key), Value: make([]byte, r.IntN(size)+1), Deleted: r.IntN(5) == 0})
		}
		changes = append(changes, c)
	}
	return changes
}

func TestSettings_KeepsWhatCountsAndTheNewest(t *testing.T) {
	s := newSettings("eu-1", start)
	old := s.write(t, "for ever", "rare")
	gone := s.write(t, "0", "often")
	for i := range keptChanges {
		s.write(t, fmt.Sprint(i), "often")
	}
	if !s.Has(old.Version) || s.Has(gone.Version) || len(s.Changes()) != keptChanges+1 {
		t.Errorf("has the only value of a key: %v; has an old one of another: %v; %d changes, want true, false, %d",
			s.Has(old.Version), s.Has(gone.Version), len(s.Changes()), keptChanges+1)
	}
}

func TestSettings_ConcurrentWritersConverge(t *testing.T) {
	const writers = 100
	var nodes []*Settings
	for i := range writers {
		skew := time.Duration(i%3-1) * time.Hour
		nodes = append(nodes, newSettings(fmt.Sprintf("n%02d", i), start.Add(skew)))
	}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			for j := range 10 {
				for {
					key := fmt.Sprint((i + j) % 7)
					now, _ := n.Get(key)
					c, err := n.Propose(Change{Author: "w", Entries: []Entry{{Key: key, Value: fmt.Append(nil, i, j), Base: now.Version}}})
					if errors.Is(err, ErrConflict) {
						continue // another's change came between
					}
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := nodes[(i*31+j)%writers].Merge(c); err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	for round := 1; round < writers; round *= 2 {
		for i, n := range nodes {
			mustMerge(t, nodes[(i+round)%writers], n.Changes()...)
		}
	}
	for _, n := range nodes {
		same(t, nodes[0], n)
	}
	if len(nodes[0].Changes()) != keptChanges {
		t.Errorf("%d changes are kept, want %d", len(nodes[0].Changes()), keptChanges)
	}
}

func TestSettings_TwoChangesOfOneVersion(t *testing.T) {
	v := Time{Wall: start.UnixMilli(), Node: "twin"}
	a := Change{Version: v, Entries: []Entry{{Key: "a", Value: []byte("1")}}}
	b := Change{Version: v, Entries: []Entry{{Key: "b", Value: []byte("2")}, {Key: "c"}}}
	x, y := newSettings("x", start), newSettings("y", start)
	mustMerge(t, x, a, b)
	mustMerge(t, y, b, a)
	same(t, x, y)
}

func TestSettings_AreBounded(t *testing.T) {
	s := newSettings("eu-1", start)
	v := Time{Wall: start.UnixMilli(), Node: "us-1"}
	change := func(i, entries, size int) Change {
		c := Change{}
		for j := range entries {
			c.Entries = append(c.Entries, Entry{Key: fmt.Sprintf("%d-%d", i, j), Value: make([]byte, size)})
		}
		return c
	}
	for i := range MaxKeys / MaxEntries {
		if _, err := s.Propose(change(i, MaxEntries, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Propose(change(-1, 1, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("one key too many: %v, want ErrFull", err)
	}
	if c := s.write(t, "again", "0-0"); c.Version.IsZero() {
		t.Error("a key that is there cannot be written any more")
	}
	from, merged := MaxKeys, error(nil)
	for i := from; merged == nil && i < from+2*MaxKeys; i++ {
		c := change(i, MaxEntries, 1)
		v.Counter++
		c.Version = v
		_, merged = s.Merge(c)
	}
	if !errors.Is(merged, ErrFull) || len(s.All()) != 2*MaxKeys {
		t.Errorf("%d keys, %v; want %d and ErrFull", len(s.All()), merged, 2*MaxKeys)
	}
	s = newSettings("eu-1", start)
	var old []Change
	for i := range 300 {
		c := change(0, 7, MaxValueBytes)
		v.Counter++
		c.Version = v
		c.Entries[0].Value[0] = byte(i)
		old = append(old, c)
	}
	if _, err := s.Merge(old...); err != nil {
		t.Errorf("more than fits of what is pruned at once: %v", err)
	}
	s = newSettings("eu-1", start)
	merged = nil
	for i := 0; merged == nil && i < 1000; i++ {
		c := change(i, 7, MaxValueBytes)
		v.Counter++
		c.Version = v
		_, merged = s.Merge(c)
	}
	if !errors.Is(merged, ErrFull) || s.bytes > 2*MaxBytes {
		t.Errorf("%d bytes, %v; want at most %d and ErrFull", s.bytes, merged, 2*MaxBytes)
	}
}

func TestSettings_ChangedTellsEveryChange(t *testing.T) {
	s := newSettings("eu-1", start)
	ch := s.Changed()
	c := s.write(t, "1", "a")
	select {
	case <-ch:
	default:
		t.Error("a write was not told")
	}
	ch = s.Changed()
	mustMerge(t, s, c)
	select {
	case <-ch:
		t.Error("a change that was there already was told")
	default:
	}
}

func TestSettings_DigestFindsWhatIsMissing(t *testing.T) {
	a, b := newSettings("a", start), newSettings("b", start)
	for i := range 500 {
		c := a.write(t, "v", fmt.Sprint(i))
		if i%50 != 7 {
			mustMerge(t, b, c)
		}
	}
	there, here := a.Buckets(), b.Buckets()
	for i := range there {
		if there[i] == here[i] {
			continue
		}
		for _, v := range a.InBucket(i) {
			if !b.Has(v) {
				mustMerge(t, b, a.Changes(v)...)
			}
		}
	}
	same(t, a, b)
	if a.InBucket(64) != nil || a.InBucket(-1) != nil {
		t.Error("a bucket that is not there has changes")
	}
}

func TestClock_HourApartAndCounterUsedUp(t *testing.T) {
	slow, fast := NewClock("slow", at(start)), NewClock("fast", at(start.Add(time.Hour)))
	first := fast.Now()
	slow.See(first)
	second := slow.Now()
	if second.Compare(first) <= 0 || second.Wall != first.Wall || slow.Ahead() != time.Hour {
		t.Errorf("%v after %v, %v ahead: want later by the counter, an hour ahead", second, first, slow.Ahead())
	}
	top := Time{Wall: first.Wall, Counter: 1<<32 - 1, Node: "fast"}
	slow.See(top)
	if next := slow.Now(); next.Compare(top) <= 0 || next.Wall != top.Wall+1 || next.Counter != 0 {
		t.Errorf("after %v comes %v", top, next)
	}
}
