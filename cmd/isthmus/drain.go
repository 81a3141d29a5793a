package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func drainCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var undo bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move all work away from a node, and keep it away",
		Long: `Moves all partitions that a node copies to the others, each handed over in order, and keeps work away from it until --undo. A node
that is stopped by SIGTERM does that by itself; drain is for a node that should stay up and idle, also over restarts.`,
		Example: `  isthmus drain eu-1 --why 'new disks'
  isthmus owners --json | jq '[.owners[] | select(.copies[] == "eu-1")] | length'
  isthmus drain eu-1 --undo`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: w.complete(nodes),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				return wrote(c.Drain(ctx, &adminpb.DrainRequest{Node: args[0], Undo: undo, Reason: w.why, Confirm: confirm, DryRun: dryRun}))
			})
		}),
	}
	w.flags(cmd, true)
	cmd.Flags().BoolVar(&undo, "undo", false, "the node takes work again")
	return cmd
}
