package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func retryCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var why string
	cmd := &cobra.Command{
		Use:   "retry LINK [TOPIC[:P,...]]",
		Short: "Let what waits for its next attempt try now",
		Long: `Lets partitions of a link, of the topics that a pattern fits, or single ones try now, however long they would still wait: after an error,
or halted and looking again from time to time. Nothing is skipped by it, and what is not mended fails again. What somebody paused
stays paused: isthmus resume.`,
		Example: `  isthmus retry eu-us                     all that waits on the link
  isthmus retry eu-us 'audit-*' --why 'the right was granted'
  isthmus retry eu-us orders:3`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.complete(links, topics),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			p, err := parsePart(args)
			if err != nil {
				return usage(err)
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Retry(ctx, &adminpb.RetryRequest{Link: p.link, Topic: p.topic, Partitions: p.partitions, Why: why})
				if err != nil {
					return err
				}
				return a.show(res, retriedText(p.link, res))
			})
		}),
	}
	a.flags(cmd, "what was done, as one JSON object")
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the audit log")
	return cmd
}

func retriedText(link string, res *adminpb.RetryResponse) string {
	var b strings.Builder
	switch n := res.GetTried(); n {
	case 0:
		b.WriteString("nothing of it waits for its next attempt\n")
	case 1:
		fmt.Fprintf(&b, "1 partition tries now; isthmus status %s tells how it fares\n", link)
	default:
		fmt.Fprintf(&b, "%d partitions try now; isthmus status %s tells how they fare\n", n, link)
	}
	writeNotes(&b, unanswered(res.GetUnanswered()))
	return b.String()
}
