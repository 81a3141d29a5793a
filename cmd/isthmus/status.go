package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func statusCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status [LINK]",
		Short: "Tell what a running node does now",
		Long: `Tells what the links of a running node do now; with LINK, each partition of that link.

Lag is what is at the source and not yet on the target, by the node's own observation.`,
		Example: `  isthmus status
  isthmus status eu-us --watch
  isthmus status --json | jq '.links[].flows[] | {topic, lag_records}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if every < 100*time.Millisecond {
				return usage(fmt.Errorf("--every %s is less than 100ms", every))
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				if watch {
					return a.watchStatus(ctx, c, optional(args), every)
				}
				st, err := c.Status(ctx, optional(args), true)
				if err != nil {
					return err
				}
				return a.showStatus(st, optional(args) != "", nil)
			})
		}),
	}
	a.flags(cmd, "one JSON object, with all partitions; with --watch one a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted; redraws in place on a terminal")
	cmd.Flags().DurationVar(&every, "every", time.Second, "with --watch, how often")
	return cmd
}

// watchStatus asks again and again. A node that goes away is waited for.
func (a *asking) watchStatus(ctx context.Context, c *admin.Client, link string, every time.Duration) error {
	screen := newScreen(a.t)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before *adminpb.StatusResponse
	for seen := false; ; seen = true {
		st, err := c.Status(ctx, link, true)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, admin.ErrUnreachable) && seen:
			screen.frame(fmt.Sprintf("%s  %v\n", time.Now().Format(time.TimeOnly), err))
		case err != nil:
			return err
		case a.json:
			if err := a.print(st); err != nil {
				return err
			}
		default:
			screen.frame(statusTable(st, link != "", before))
			before = st
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (a *asking) showStatus(st *adminpb.StatusResponse, partitions bool, before *adminpb.StatusResponse) error {
	if a.json {
		return a.print(st)
	}
	_, err := fmt.Fprint(a.t.out, statusTable(st, partitions, before))
	return err
}
