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

func driftCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "drift LINK",
		Short: "Tell what differs between the two ends of a link, beside the records",
		Long: `Compares the topics of a link at both ends: that they are there, their partitions and settings, the rights on them, and client quotas. Tells
of each difference what becomes of it, so it is the dry run of what the link keeps alike: it changes nothing. Which settings, rights
and quotas those are is in the link's sync_configs, sync_configs_exclude, sync_acls and sync_quotas, and deleted.`,
		Example: `  isthmus drift eu-us
  isthmus drift eu-us --json | jq '.drifts[] | select(.verdict == "not authorised")'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Drift(ctx, args[0])
				if err != nil {
					return err
				}
				return a.show(res, driftTable(args[0], res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

func driftTable(link string, res *adminpb.DriftResponse) string {
	if len(res.GetDrifts()) == 0 {
		return fmt.Sprintf("nothing differs between the ends of %s, as node %s sees them\n", link, res.GetNode())
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tTOPIC\tNAME\tSOURCE\tTARGET\tVERDICT\tWHY")
	for _, d := range res.GetDrifts() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.GetKind(), orDash(d.GetTopic()), cell(d.GetName()), cell(d.GetSource()), cell(d.GetTarget()),
			d.GetVerdict(), orDash(d.GetWhy()))
	}
	w.Flush() // to a strings.Builder, which never fails
	return b.String()
}
