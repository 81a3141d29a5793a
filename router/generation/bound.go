package generation

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Bound reserves virtual offsets of a topic, list by partition: none at it or above is served before a greater one is reserved, so that an unplanned
// generation can begin above all that was ever served. Of all instances' the greatest counts.
type Bound struct {
	Topic   string  `json:"topic"`
	Offsets []int64 `json:"offsets"`
}

func (b *Bound) check() error {
	switch {
	case b == nil || b.Topic == "":
		return errors.New("a bound without a topic")
	case slices.ContainsFunc(b.Offsets, func(o int64) bool { return o < 0 }):
		return fmt.Errorf("a bound of topic %.100q below 0", b.Topic)
	}
	return nil
}

// bounds are those of one set in one log.
type bounds struct {
	greatest map[string][]int64
	live     []liveBound // those that were not taken back, in offset order
}

type liveBound struct {
	id string
	Bound
}

// add takes the next one.
func (b *bounds) add(id string, one Bound) {
	if b.greatest == nil {
		b.greatest = map[string][]int64{}
	}
	b.greatest[one.Topic] = greatest(b.greatest[one.Topic], one.Offsets)
	b.live = append(b.live, liveBound{id, one})
}

// covered are the ids of those that stand before one and are in no partition above it. They can be taken back: whoever reads the log finds as much
// without them. Of those behind it none may be, since two that cover each other would both go.
func (b *bounds) covered(id string) (out []string) {
	i := slices.IndexFunc(b.live, func(l liveBound) bool { return l.id == id })
	if i < 0 {
		return nil
	}
	for _, l := range b.live[:i] {
		if l.Topic == b.live[i].Topic && slices.Equal(greatest(l.Offsets, b.live[i].Offsets), b.live[i].Offsets) {
			out = append(out, l.id)
		}
	}
	return out
}

// forget is told that one was taken back. What it said still holds.
func (b *bounds) forget(id string) {
	b.live = slices.DeleteFunc(b.live, func(l liveBound) bool { return l.id == id })
}

// greatest is the greater of each partition.
func greatest(a, b []int64) []int64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, o := range b {
		out[i] = max(out[i], o)
	}
	return out
}

// mergeBounds adds those of another log.
func mergeBounds(into, from map[string][]int64) map[string][]int64 {
	if into == nil {
		into = map[string][]int64{}
	}
	for topic := range maps.Keys(from) {
		into[topic] = greatest(into[topic], from[topic])
	}
	return into
}
