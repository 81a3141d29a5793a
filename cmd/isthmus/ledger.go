package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func ledgerCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "ledger [LINK]",
		Short: "List the records that could not be mirrored as promised",
		Long: `Lists the ranges of source offsets that were not mirrored, or not as promised, and why.

Nothing that Isthmus loses, repeats or has to reorder is missing here. An empty ledger is a good one.`,
		Example: `  isthmus ledger
  isthmus ledger eu-us --json   one JSON object a line`,
		Args: cobra.MaximumNArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return a.ledger(ctx, c, optional(args))
			})
		}),
	}
	a.flags(cmd, "one JSON object a line")
	return cmd
}

// optional is the only argument, or empty.
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *asking) ledger(ctx context.Context, c *admin.Client, link string) error {
	if a.json {
		return c.Ledger(ctx, link, func(e *adminpb.LedgerEntry) error { return a.print(e) })
	}
	w := tabwriter.NewWriter(a.t.out, 0, 0, 2, ' ', 0)
	entries := 0
	err := c.Ledger(ctx, link, func(e *adminpb.LedgerEntry) error {
		if entries++; entries == 1 {
			fmt.Fprintln(w, "AT\tLINK\tPARTITION\tOFFSETS\tRECORDS\tREASON\tDETAIL")
		}
		records := "?"
		if e.GetRecords() >= 0 {
			records = fmt.Sprint(e.GetRecords())
		}
		_, err := fmt.Fprintf(w, "%s\t%s\t%s:%d\t%d-%d\t%s\t%s\t%s\n", e.GetAt().AsTime().Format(time.RFC3339), e.GetLink(),
			e.GetTopic(), e.GetPartition(), e.GetFirst(), e.GetLast(), records, e.GetReason(), e.GetDetail())
		return err
	})
	if err != nil {
		return err
	}
	if entries == 0 {
		fmt.Fprintln(w, "the ledger is empty: nothing was lost, repeated or reordered")
	}
	return w.Flush()
}
