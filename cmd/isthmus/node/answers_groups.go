package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
)

// KeepsGroups implements [admin.Node].
func (a *answers) KeepsGroups() (links []string) {
	for _, l := range a.node.set.Topology().Links {
		if len(l.Groups) > 0 {
			links = append(links, l.Name)
		}
	}
	return links
}

// Groups implements [admin.Node].
func (a *answers) Groups(ctx context.Context, link, group string) (*adminpb.LinkGroups, error) {
	spec, ok := a.node.set.Topology().Link(link)
	if !ok {
		return nil, fmt.Errorf("link %q: %w", link, admin.ErrUnknown)
	}
	out := &adminpb.LinkGroups{Link: link, From: spec.From, To: spec.To, Keeps: len(spec.Groups) > 0}
	if !out.Keeps {
		return out, nil
	}
	var only []string
	if group != "" {
		only = []string{group}
	}
	all, err := a.node.set.Groups(ctx, link, only...)
	if err != nil && len(all.Positions)+len(all.Share) == 0 {
		return nil, ofCluster(known(err))
	}
	if err != nil {
		out.Trouble = someLines(err.Error())
	}
	for _, id := range all.Share {
		out.Share = append(out.Share, text([]byte(id)))
	}
	for _, g := range all.Positions {
		out.Positions = append(out.Positions, groupPosition(g))
	}
	return out, nil
}

func groupPosition(g mirror.GroupStatus) *adminpb.GroupPosition {
	place := func(p mirror.GroupPlace) *adminpb.GroupPlace {
		return &adminpb.GroupPlace{Offset: p.Offset, Lag: p.Lag, Active: p.Active}
	}
	return &adminpb.GroupPosition{Group: text([]byte(g.Group)), Topic: g.Topic, As: g.As, Partition: g.Partition, Source: place(g.Source), Target: place(g.Target),
		State: string(g.State), Why: text([]byte(g.Why)), Synced: moment(g.Synced), Reread: g.Reread}
}

// maxTroubles bounds the groups of which an answer tells what is wrong: it may be the same of all.
const maxTroubles = 5

// someLines keeps the first lines of a text, and each once.
func someLines(all string) string {
	var kept []string
	seen := make(map[string]bool)
	left := 0
	for line := range strings.SplitSeq(all, "\n") {
		switch {
		case seen[line]:
		case len(kept) < maxTroubles:
			kept = append(kept, line)
		default:
			left++
		}
		seen[line] = true
	}
	if left > 0 {
		kept = append(kept, fmt.Sprintf("and %d more", left))
	}
	return text([]byte(strings.Join(kept, "; ")))
}
