package mirror

import (
	"maps"
	"sync"
)

// groupBook is what a cluster said of the positions of its groups, and of which it said something new. Whoever hears it writes, and the loop that
// keeps groups alike reads: as a hint of what to look at, because what it says may be older than what this node has written itself since.
type groupBook struct {
	mu     sync.Mutex
	groups map[string]map[topicPartition]groupPosition
	news   map[groupKey]bool
	topics map[string]string // one string for each name: there are many positions in few topics
	whole  bool              // all that there was at the beginning is in it
	wake   chan<- struct{}
}

// groupKey is one position: what is kept alike, waits, and fails by itself.
type groupKey struct {
	group string
	topicPartition
}

func newGroupBook(wake chan<- struct{}) *groupBook {
	return &groupBook{groups: make(map[string]map[topicPartition]groupPosition), news: make(map[groupKey]bool), topics: make(map[string]string), wake: wake}
}

// set takes one position; nil: it is gone.
func (b *groupBook) set(group, topic string, partition int32, at *groupPosition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, ok := b.topics[topic]
	if !ok {
		name = topic
		b.topics[topic] = topic
	}
	b.setLocked(groupKey{group, topicPartition{name, partition}}, at)
}

func (b *groupBook) setLocked(key groupKey, at *groupPosition) {
	of := b.groups[key.group]
	was, had := of[key.topicPartition]
	switch {
	case at == nil && !had, at != nil && had && was.offset == at.offset && was.metadata == at.metadata && (at.time < 0 || at.time == was.time):
		return // who asks for positions is not told their times
	case at == nil:
		if delete(of, key.topicPartition); len(of) == 0 {
			delete(b.groups, key.group)
		}
	case of == nil:
		b.groups[key.group] = map[topicPartition]groupPosition{key.topicPartition: *at}
	default:
		of[key.topicPartition] = *at
	}
	b.news[key] = true
	b.wakeLocked()
}

func (b *groupBook) wakeLocked() {
	if !b.whole {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// retain drops the positions that keep does not want: those that are no longer there.
func (b *groupBook) retain(keep func(groupKey) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for group, of := range b.groups {
		for tp := range of {
			if key := (groupKey{group, tp}); !keep(key) {
				b.setLocked(key, nil)
			}
		}
	}
}

// finish says that all that there was at the beginning is in the book now.
func (b *groupBook) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = true
	b.wakeLocked()
}

// complete reports whether it is.
func (b *groupBook) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole
}

// take moves the news into a set.
func (b *groupBook) take(into map[groupKey]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.news) == 0 {
		return // to go over a map that was large once takes as long as if it still were
	}
	maps.Copy(into, b.news)
	b.news = make(map[groupKey]bool)
}

// at is a position; nil: none.
func (b *groupBook) at(key groupKey) *groupPosition {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.groups[key.group][key.topicPartition]; ok {
		return &at
	}
	return nil
}

// has reports whether a group has any position.
func (b *groupBook) has(group string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.groups[group]) > 0
}

// in are the groups that have a position in a partition.
func (b *groupBook) in(tp topicPartition) (groups []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for group, of := range b.groups {
		if _, ok := of[tp]; ok {
			groups = append(groups, group)
		}
	}
	return groups
}
