package mirror

import (
	"context"
	"fmt"

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
// It returns [ErrNoLink] and [ErrUnknownPump].
func (s *Set) Translate(_ context.Context, link, topic string, partition int32, offset int64, reverse bool) (Translation, error) {
	spec, ok := s.topo.Link(link)
	if !ok {
		return Translation{}, fmt.Errorf("link %q: %w", link, ErrNoLink)
	}
	from, to := spec.From, spec.To
	if reverse {
		from, to = to, from
	}
	return translate(s.topo, s.view, from, to, topic, partition, offset)
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
