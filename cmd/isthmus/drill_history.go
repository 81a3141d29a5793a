package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func drillHistoryCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var limit int32
	cmd := &cobra.Command{
		Use:   "history ROUTER",
		Short: "List the drills of a router, and what they measured",
		Long: `Lists the drills of a router, the newest first, as the control clusters keep them: RTO is for how long nobody could write, RPO how many records of
the canary were lost. Of a rehearsal RTO is what a switch would have taken at least.`,
		Example: `  isthmus drill history shop
  isthmus drill history shop --json | jq '.drills[] | select(.verdict != "pass")'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usage(fmt.Errorf("--limit %d is less than 1", limit))
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Drills(ctx, args[0], limit)
				if err != nil {
					return err
				}
				return a.show(res, drillsTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	cmd.Flags().Int32Var(&limit, "limit", 20, "how many drills")
	return cmd
}

func drillsTable(res *adminpb.DrillsResponse) string {
	if len(res.GetDrills()) == 0 {
		return "no drill was ever noted: isthmus drill plan tells what one would do\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENDED\tID\tMODE\tSET\tFROM\tTO\tVERDICT\tRTO\tRPO\tBY\tWHY")
	for _, d := range res.GetDrills() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", d.GetEnded().AsTime().Format(time.RFC3339), d.GetId(), d.GetMode(), orDash(d.GetSet()), orDash(d.GetFrom()), orDash(d.GetTo()),
			d.GetVerdict(), age(d.GetRtoSeconds()), d.GetRpoRecords(), orDash(d.GetBy()), cell(whyOf(d)))
	}
	w.Flush() // to a strings.Builder, which never fails
	return b.String()
}

// whyOf is why a drill was not good enough, or else why it was made.
func whyOf(d *adminpb.Drill) string {
	if d.GetFailure() != "" {
		return d.GetFailure()
	}
	return orDash(d.GetWhy())
}
