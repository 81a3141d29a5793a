package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func ownersCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "owners [LINK] [TOPIC]",
		Short: "Tell which node copies each partition, and why that one",
		Long: `Tells for each partition which node should copy it and why, as the node that is asked sees it, and which nodes say that they do.
For a moment these may be two, or none: while one hands over to the other. The target takes each record once all the same.`,
		Example: `  isthmus owners
  isthmus owners eu-us orders
  isthmus owners --json | jq -r '.owners[] | select(.owner == "eu-1") | "\(.link) \(.topic):\(.partition)"'`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.complete(links, topics),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			topic := ""
			if len(args) == 2 {
				topic = args[1]
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Owners(ctx, optional(args), topic)
				if err != nil {
					return err
				}
				return a.show(res, ownersTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

func ownersTable(res *adminpb.OwnersResponse) string {
	var b strings.Builder
	if len(res.GetOwners()) == 0 {
		b.WriteString("no partitions\n")
	} else {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "LINK\tTOPIC\tPARTITION\tOWNER\tCOPIED BY\tSTATE\tWHY")
		for _, o := range res.GetOwners() {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", o.GetLink(), o.GetTopic(), o.GetPartition(), orDash(o.GetOwner()),
				orDash(strings.Join(o.GetCopies(), ",")), admin.Name(o.GetState()), cell(o.GetWhy()))
		}
		w.Flush() // to a strings.Builder, which never fails
	}
	writeNotes(&b, unanswered(res.GetUnanswered()))
	return b.String()
}

// unanswered tells which nodes did not answer.
func unanswered(nodes []*adminpb.Unanswered) []string {
	var notes []string
	for _, n := range nodes {
		notes = append(notes, fmt.Sprintf("%s did not answer: %s", n.GetNode(), n.GetTrouble()))
	}
	return notes
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
