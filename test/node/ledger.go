package node

import (
	"context"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// Ledger is what a node says it could not mirror as promised.
func (n *Node) Ledger() (out []*adminpb.LedgerEntry) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	if err := n.API.Ledger(ctx, "", func(e *adminpb.LedgerEntry) error {
		out = append(out, e)
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return out
}

// Ranges are a node's ledger as the checker takes it, by target.
func (s *Setup) Ranges(n *Node) map[string][]checker.Range {
	s.t.Helper()
	out := make(map[string][]checker.Range)
	for _, e := range n.Ledger() {
		link, ok := s.Topology.Link(e.GetLink())
		if !ok {
			s.t.Fatalf("the ledger names link %q, which is not in the topology", e.GetLink())
		}
		for _, kind := range judge.Kinds(e.GetReason(), e.GetRecords()) {
			out[link.To] = append(out[link.To], checker.Range{Cluster: link.From, Topic: e.GetTopic(), Partition: e.GetPartition(),
				First: e.GetFirst(), Last: e.GetLast(), Kind: kind})
		}
	}
	return out
}
