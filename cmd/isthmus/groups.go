package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
)

func groupsCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var group string
	var partitions bool
	cmd := &cobra.Command{
		Use:   "groups [LINK]",
		Short: "Tell where consumer groups stand on both ends of a link, and what they would read again",
		Long: `Asks both clusters of a link, or of all links that keep positions of groups alike (groups in their [[link]]), where the groups stand: here is the
link's source, there its target. Lags are to the ends of the logs. MEMBERS says on which end somebody is in the group. REREAD is how many
offsets the group would read a second time if it moved there now. SYNCED is how long ago both ends were last noted to be alike.

A line is a group: its worst state, its lags and REREAD added up, its oldest SYNCED. With --partitions a line is a position.

States:
  alike     both ends are
  moves     one end is about to be set
  waits     for records before it that are not copied yet
  blocked   the end that would be set has members
  split     both ends have members, and each goes its own way
  one-side  it is on one end only, and is not brought to the other
  unknown   one of the clusters did not tell
docs/groups.md says more of each, and what to do.`,
		Example: `  isthmus groups
  isthmus groups eu-us --group shop --partitions
  isthmus groups --json | jq -r '.links[].positions[] | select(.state == "blocked") | .group' | sort -u`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Groups(ctx, optional(args), group)
				if err != nil {
					return err
				}
				return a.show(res, groupsView{group: group, partitions: partitions}.table(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object, with each position")
	cmd.Flags().StringVar(&group, "group", "", "only the group of that `id`")
	cmd.Flags().BoolVar(&partitions, "partitions", false, "a line for each position")
	_ = cmd.RegisterFlagCompletionFunc("group", a.completeFlag(groupIDs)) // the flag is there
	return cmd
}

// groupIDs are the groups of the link before, or of all links, as far as links keep them.
func groupIDs(ctx context.Context, c *admin.Client, args []string) []string {
	res, _ := c.Groups(ctx, optional(args), "") // a shell has no place for errors
	var found []string
	for _, l := range res.GetLinks() {
		for _, p := range l.GetPositions() {
			found = append(found, p.GetGroup())
		}
	}
	return found
}
