package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Translate answers where a reader of the link's source that has consumed
// everything before offset goes on at its target; with reverse, the other way.
// It returns [ErrNoLink] and [ErrUnknownPump]. For a topic that other links of this
// node copy already it waits a few seconds until all links it depends on do. Of partitions that another node copies it
// answers by what is durable. If that cannot be read for a map that the answer depends on, it returns the reason, [ErrMap] for what is wrong with the map.
func (s *Set) Translate(ctx context.Context, link, topic string, partition int32, offset int64, reverse bool) (Translation, error) {
	topo := s.Topology()
	spec, ok := topo.Link(link)
	if !ok {
		return Translation{}, fmt.Errorf("link %q: %w", link, ErrNoLink)
	}
	w := s.shared.routing.Load().way(spec, topic, reverse)
	ctx, cancel := context.WithTimeout(ctx, beginsWithin)
	defer cancel()
	for {
		begins := false
		var unread error
		t, err := translate(topo, func(from, to, topic string, partition int32) (mapView, bool) {
			m, ok, err := s.view(ctx, from, to, topic, partition)
			unread = errors.Join(unread, err)
			begins = begins || !ok && s.begins(from, to, topic)
			return m, ok
		}, w, partition, offset)
		if err == nil || !begins || sleep(ctx, 100*time.Millisecond) != nil {
			switch {
			case unread == nil:
			case err == nil || errors.Is(unread, ErrMap): // without one of the maps the answer might skip records
				err = fmt.Errorf("translate %s:%d from %s to %s: %w", w.topic, partition, w.from, w.to, unread)
			default:
				err = fmt.Errorf("%w (%w)", err, unread)
			}
			return t, err
		}
	}
}

// beginsWithin is how long a link of a running node may take to begin a topic that
// has just come to its source.
const beginsWithin = 6 * time.Second

// begins reports whether a link is about to copy the topic, here or on another node: it is
// carried, other links do it already, and this one has no places yet.
func (s *Set) begins(from, to, topic string) bool {
	waits, known := false, false
	for _, l := range s.list() {
		l.mu.Lock()
		f := l.flows[topic]
		l.mu.Unlock()
		has := f != nil && slices.ContainsFunc(f.pumpList(), func(p *pump) bool {
			_, durable := l.store.best(p.id)
			return durable || p.here()
		})
		known = known || has
		waits = waits || !has && l.spec.From == from && l.spec.To == to && l.routing().takes(l.spec, topic)
	}
	return waits && known
}

// view finds a pump's map: on this node, or, of one that is elsewhere, in the store.
func (s *Set) view(ctx context.Context, from, to, topic string, partition int32) (m mapView, ok bool, err error) {
	p := s.pumpOf(from, to, topic, partition)
	if p == nil {
		return nil, false, nil
	}
	if here, unread := p.mapped(); here && unread == nil {
		return p, true, nil
	} else if here {
		return nil, false, unread
	}
	if err := p.link.store.refresh(ctx); err != nil {
		return nil, false, err // what was read before may be much too old
	}
	return p.link.store.durable(p.id)
}

// pumpOf finds what stands for a partition of a source on this node, by the name that the topic has on the target now; nil: nothing.
func (s *Set) pumpOf(from, to, topic string, partition int32) *pump {
	for _, l := range s.list() {
		if l.spec.From != from || l.spec.To != to {
			continue
		}
		if p := l.pump(topic, partition); p != nil && p.id.As == l.routing().as(l.spec, topic) {
			return p
		}
	}
	return nil
}

// mapped reports whether the pump is here, and why its map is not whole.
func (p *pump) mapped() (here bool, unread error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born && !p.gone, p.unread
}

func (p *pump) lookup(side int, at int64, origin string) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.lookup(side, at, origin)
}

func (p *pump) end() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.endOr(p.acked.TargetFrom)
}

func (p *pump) former() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.formerEnd
}

// reached is the source offset after everything that was read and acknowledged.
func (p *pump) reached() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked.SourceNext
}
