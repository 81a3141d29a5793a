package mirror

import (
	"errors"
	"slices"
	"testing"
)

// TestGroupPair_IsDurable: what is noted is read back, taken away, and not guessed where a newer release wrote it.
func TestGroupPair_IsDurable(t *testing.T) {
	s, was := memoryStore(), groupPair{source: 1 << 40, target: 3, when: 1234}
	s.take(topicCheckpoints, recordOf(1, groupNoteKey(somePump, "shop"), was.encode()))
	if got := s.groupPair(somePump, "shop"); got == nil || *got != was {
		t.Errorf("%+v, want %+v", got, was)
	}
	if got := s.groupsOf(somePump); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("groups %v", got)
	}
	if _, ok := s.best(somePump); ok {
		t.Error("it counts as a place")
	}
	s.take(topicCheckpoints, recordOf(2, groupNoteKey(somePump, "shop"), nil))
	if got := s.groupPair(somePump, "shop"); got != nil {
		t.Errorf("%+v is still there", got)
	}
	newer := was.encode()
	newer[0]++
	if _, err := decodeGroupPair(newer); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	for n := range len(was.encode()) {
		if _, err := decodeGroupPair(was.encode()[:n]); err == nil {
			t.Errorf("the first %d bytes are taken for all", n)
		}
	}
}

// TestGroupBook_TellsNewsOnce: only what changed is news, and only when all that was there is known; who asks for positions is not told their times, and what he
// is told is no news.
func TestGroupBook_TellsNewsOnce(t *testing.T) {
	wake := make(chan struct{}, 1)
	b := newGroupBook(wake)
	news := func(want ...string) {
		t.Helper()
		keys := make(map[groupKey]bool)
		b.take(keys)
		var got []string
		for key := range keys {
			got = append(got, key.group)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("news of %v, want %v", got, want)
		}
	}
	tp := topicPartition{"orders", 1}
	b.set("a", tp.topic, tp.partition, &groupPosition{offset: 5, time: 77})
	b.set("b", tp.topic, tp.partition, &groupPosition{offset: 6, time: -1})
	if b.complete() || len(wake) > 0 {
		t.Error("it is complete before anybody said so")
	}
	if b.finish(); !b.complete() || len(wake) != 1 {
		t.Error("it is not complete, or wakes nobody")
	}
	news("a", "b")
	b.set("a", tp.topic, tp.partition, &groupPosition{offset: 5, time: -1})
	b.set("c", tp.topic, tp.partition, nil)
	news()
	if at := b.at(groupKey{"a", tp}); at == nil || at.time != 77 {
		t.Errorf("%+v, want the time that was heard", at)
	}
	b.set("a", tp.topic, tp.partition, &groupPosition{offset: 5, metadata: "m", time: -1})
	news("a")
	if got := b.in(tp); len(got) != 2 {
		t.Errorf("groups in the partition: %v", got)
	}
	b.retain(func(key groupKey) bool { return key.group == "b" })
	news("a")
	if b.at(groupKey{"a", tp}) != nil || b.at(groupKey{"b", tp}) == nil {
		t.Error("what is kept is not what was to be kept")
	}
}
