package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// translateGroup tells where each position of a group is at the other end. It fails if that is not known of all.
func (a *asking) translateGroup(ctx context.Context, req *adminpb.TranslateGroupRequest) error {
	return a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		res, err := c.TranslateGroup(ctx, req)
		if err != nil {
			return err
		}
		if err := a.show(res, translatedTable(res)); err != nil {
			return err
		}
		bad := 0
		for _, p := range res.GetPositions() {
			if p.GetTrouble() != "" {
				bad++
			}
		}
		switch {
		case bad > 0:
			return fmt.Errorf("%d of %d positions could not be translated", bad, len(res.GetPositions()))
		case res.GetTrouble() != "":
			return fmt.Errorf("positions of group %s may be missing: %s", res.GetGroup(), res.GetTrouble())
		}
		return nil
	})
}

func translatedTable(res *adminpb.TranslateGroupResponse) string {
	if len(res.GetPositions()) == 0 {
		return fmt.Sprintf("group %s has no position on %s that %s keeps\n", res.GetGroup(), res.GetFrom(), res.GetLink())
	}
	var b strings.Builder
	var notes []string
	fmt.Fprintf(&b, "group %s of %s: POSITION is one of %s, TRANSLATED of %s\n\n", res.GetGroup(), res.GetLink(), res.GetFrom(), res.GetTo())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tPOSITION\tTRANSLATED\tEXACT")
	for _, p := range res.GetPositions() {
		at := fmt.Sprintf("%s:%d", p.GetTopic(), p.GetPartition())
		exact := "yes"
		switch {
		case p.GetTrouble() != "":
			exact, notes = "-", append(notes, at+": "+p.GetTrouble())
		case !p.GetExact():
			exact = "no"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", at, p.GetOffset(), offset(p.GetResult()), exact)
	}
	w.Flush() // to a strings.Builder, which never fails
	writeNotes(&b, notes)
	return b.String()
}
