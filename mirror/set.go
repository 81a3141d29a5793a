package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// Set is all links of one node, for questions that concern more than one.
type Set struct {
	topo  *topology.Topology
	links []*Link
}

// NewSet joins the links of one node.
func NewSet(topo *topology.Topology, links []*Link) *Set { return &Set{topo: topo, links: links} }

// Status returns what every link does now.
func (s *Set) Status() []LinkStatus {
	out := make([]LinkStatus, 0, len(s.links))
	for _, l := range s.links {
		out = append(out, l.Status())
	}
	return out
}

// Ledger returns the ledger of one link, or of all if link is empty. It returns
// [ErrNoLink] for a link this node does not run.
func (s *Set) Ledger(link string) ([]LedgerEntry, error) {
	var out []LedgerEntry
	found := link == ""
	for _, l := range s.links {
		if link == "" || l.name == link {
			found = true
			out = append(out, l.Ledger()...)
		}
	}
	if !found {
		return nil, fmt.Errorf("link %q: %w", link, ErrNoLink)
	}
	return out, nil
}

// Translate answers where a reader of the link's source that has consumed
// everything before offset goes on at its target; with reverse, the other way.
// It returns [ErrNoLink] and [ErrUnknownPump]. For a topic that other links of this
// node copy already it waits a few seconds until all links it depends on do.
func (s *Set) Translate(ctx context.Context, link, topic string, partition int32, offset int64, reverse bool) (Translation, error) {
	spec, ok := s.topo.Link(link)
	if !ok {
		return Translation{}, fmt.Errorf("link %q: %w", link, ErrNoLink)
	}
	from, to := spec.From, spec.To
	if reverse {
		from, to = to, from
	}
	ctx, cancel := context.WithTimeout(ctx, beginsWithin)
	defer cancel()
	for {
		begins := false
		t, err := translate(s.topo, func(from, to, topic string, partition int32) (mapView, bool) {
			m, ok := s.view(from, to, topic, partition)
			begins = begins || !ok && s.begins(from, to, topic)
			return m, ok
		}, from, to, topic, partition, offset)
		if err == nil || !begins || sleep(ctx, 100*time.Millisecond) != nil {
			return t, err
		}
	}
}

// beginsWithin is how long a link of a running node may take to begin a topic that
// has just come to its source.
const beginsWithin = 6 * time.Second

// begins reports whether a link of this node is about to copy the topic: it is
// carried, other links do it already, and this one has no pumps yet.
func (s *Set) begins(from, to, topic string) bool {
	waits, known := false, false
	for _, l := range s.links {
		l.mu.Lock()
		f := l.flows[topic]
		l.mu.Unlock()
		has := f != nil && len(f.pumpList()) > 0
		known = known || has
		waits = waits || !has && l.spec.From == from && l.spec.To == to && l.spec.Matches(topic)
	}
	return waits && known
}

// view finds a pump's map on this node.
func (s *Set) view(from, to, topic string, partition int32) (mapView, bool) {
	for _, l := range s.links {
		if l.spec.From != from || l.spec.To != to {
			continue
		}
		l.mu.Lock()
		f := l.flows[topic]
		l.mu.Unlock()
		if f == nil {
			continue
		}
		if pumps := f.pumpList(); partition >= 0 && int(partition) < len(pumps) {
			return pumps[partition], true
		}
	}
	return nil, false
}

func (p *pump) forward(source int64) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.Forward(source)
}

func (p *pump) inverse(target int64) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.Inverse(target)
}

func (p *pump) end() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets.End()
}

// reached is the source offset after everything that was read and acknowledged.
func (p *pump) reached() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked.SourceNext
}
